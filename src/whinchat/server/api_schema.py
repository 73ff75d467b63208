"""Bodies of requests and responses."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from whinchat.recipe.question import QuestionType

# For the schema alone: a text has something to read.
_Text = Annotated[str, Field(json_schema_extra={"pattern": "\\S"})]
# The tags choose the errors to show: those of a list for a list, and those of a text for everything else.
Texts = Annotated[
    Annotated[_Text, Tag("text")] | Annotated[list[_Text], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "text"),
]
_REQUESTS: list[Any] = [{"texts": "what a lovely day"}, {"texts": ["what a lovely day", "meh"], "before": True}]
_SHARES = {"negative": 0.01, "neutral": 0.06, "positive": 0.93}
_RESULTS: list[Any] = [{"label": "positive", "unsure": False, "probabilities": _SHARES}]
_BY_STUDENT = "Whether the student answered, and not the model; null for a classifier without a student."


class ClassifyRequest(BaseModel):
    """One text, or several texts, to classify."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": _REQUESTS})

    texts: Texts = Field(description="A text, or a list of texts.")
    model: str | None = Field(None, description="Name of the classifier; the server's first classifier by default.")
    before: bool = Field(False, description="Also predict with the model as it was before fine-tuning.")


class LabelProbabilities(BaseModel):
    """The predicted label, and the probability of each label."""

    label: str = Field(description="The predicted label: the most probable one.")
    probabilities: dict[str, float] = Field(
        description="Probability of each label, in the task's order; they add up to 1."
    )


class TextResult(LabelProbabilities):
    """The prediction for one text."""

    model_config = ConfigDict(json_schema_extra={"examples": _RESULTS})

    unsure: bool = Field(
        description="Whether the label is too improbable to rely on: below the classifier's threshold."
    )
    by_student: bool | None = Field(None, description=_BY_STUDENT)
    before: LabelProbabilities | None = Field(None, description="The prediction before fine-tuning, if asked for.")


class ClassifyResponse(BaseModel):
    """One result for each text, in the order of the request."""

    model: str = Field(description="Name of the classifier.")
    results: list[TextResult]


class AnswerRequest(BaseModel):
    """One text, or several texts, about which the questions of a classifier are asked."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": _REQUESTS})

    texts: Texts = Field(description="A text, or a list of texts.")
    model: str | None = Field(None, description="Name of the classifier; the server's first classifier by default.")


class QuestionAnswer(BaseModel):
    """The answer to a question."""

    type: QuestionType = Field(description="Type of the question.")
    answer: str | list[str] = Field(description="The option or level; for multi, the options that apply.")
    unsure: bool = Field(description="Whether the answer is too improbable to rely on.")
    expected: float | None = Field(None, description="For score, the expected level, from 0 for the lowest.")
    probabilities: dict[str, float] = Field(
        description="Probability of each option; they add up to 1, except for multi, where each may apply or not."
    )


class AnsweredText(BaseModel):
    """The answers about one text."""

    answers: dict[str, QuestionAnswer] = Field(description="Name of a question -> its answer.")
    by_student: bool | None = Field(None, description=_BY_STUDENT)


class AnswerResponse(BaseModel):
    """The answers about each text, in the order of the request."""

    model: str = Field(description="Name of the classifier.")
    results: list[AnsweredText]


class FigureLink(BaseModel):
    """A figure of the training run."""

    url: str
    alt: str = Field(description="What the figure shows, in words.")


class ModelInfo(BaseModel):
    """One classifier of the server."""

    name: str = Field(description="The name that requests give as `model`.")
    description: str
    task: str
    labels: list[str] = Field(description="Its labels; none where it answers questions.")
    questions: list[str] = Field(description="Names of the questions that it was trained on, if any.")
    base_model: str = Field(description="The chat model below the adapter; empty for merged weights.")
    method: str = Field(description="Method of fine-tuning, such as LoRA.")
    metric: str = Field(description="The metric for which the classifier was calibrated.")
    calibrated: bool = Field(description="Whether the probabilities are calibrated.")
    threshold: float | None = Field(description="Probability below which a label is unsure; null if no label is.")
    has_before: bool = Field(description="Whether the classifier can also predict as before fine-tuning.")
    text_column: str | None = Field(
        description="Column of the texts in a table, unless the request names another; null for `text_template`."
    )
    text_template: str | None = Field(
        None, description="Template that makes the texts of several columns of a table; null for `text_column`."
    )
    examples: list[str] = Field(description="Up to six texts to try.")
    figures: list[FigureLink]
    card: str | None = Field(description="Address of the model card as a page.")
    report: str | None = Field(description="Address of the report of the training run.")


class Limits(BaseModel):
    """What the server accepts.

    Larger requests are refused with 413, requests that come too slowly with 408, those to a full queue or for one table
    too many with 429, and those on one connection too many with 503.
    """

    model_config = ConfigDict(frozen=True)

    max_chars: int = Field(20_000, gt=0, description="Most characters in a text.")
    max_texts: int = Field(512, gt=0, description="Most texts in a request.")
    max_questions: int = Field(64, gt=0, description="Most questions in a request of the System One protocol.")
    max_question_tokens: int = Field(
        8192, gt=0, description="Most tokens of its questions, without the text; the model may set a lower bound."
    )
    max_waiting: int = Field(4096, gt=1, description="Most texts that may wait, of all requests together.")
    max_body_bytes: int = Field(16_000_000, gt=0, description="Most bytes of a request that is no table.")
    max_table_bytes: int = Field(100_000_000, gt=0, description="Most bytes of a table.")
    max_table_rows: int = Field(1_000_000, gt=0, description="Most rows of a table.")
    max_tables: int = Field(4, gt=0, description="Most tables at a time.")
    max_connections: int = Field(512, gt=0, description="Most connections at a time.")
    head_seconds: float = Field(10, gt=0, description="Time for the head of a request to arrive.")
    idle_seconds: float = Field(120, gt=0, description="Time that a connection is kept for a next request.")
    transfer_seconds: float = Field(
        20,
        gt=0,
        description="Time for a body to come, or a response to be taken; longer at `min_bytes_per_second`.",
    )
    grace_seconds: int = Field(30, gt=0, description="Time for accepted requests when the server stops.")
    min_bytes_per_second: int = Field(1000, gt=0, description="Least speed of a transfer that takes longer.")


class ModelResponse(BaseModel):
    """The classifiers of the server, and its limits."""

    version: str = Field(description="Version of whinchat.")
    default: str = Field(description="The classifier of requests that name none.")
    models: list[ModelInfo]
    limits: Limits


class ErrorResponse(BaseModel):
    """An error."""

    detail: str = Field(description="What is wrong, where, and what to do.")


class ColumnsResponse(BaseModel):
    """The columns of a table."""

    columns: list[str] = Field(description="Names of the columns; in a JSONL file, those of the first row.")
    text_column: str | None = Field(
        description="The column that the classifier was trained on; null where the table has no such column."
    )
    text_template: str | None = Field(
        None,
        description="Template that makes the texts of the columns that the classifier was trained on, for a request "
        "that names no column; null where there is none, or the table lacks one of the columns.",
    )
    prefix: str = Field(
        description="A prefix with which no added column has the name of a column of the table; may be empty."
    )


class TableEvent(BaseModel):
    """One line of the response for a table: the progress, and the next labelled rows."""

    done: int = Field(description="Rows labelled so far.")
    total: int = Field(description="Rows of the table.")
    labels: dict[str, int] = Field(
        description="Number of rows with each label so far, or with each answer, such as `team: returns`."
    )
    unsure: int = Field(description="Number of rows so far whose label is unsure.")
    bad: int = Field(description="Number of rows so far that could not be read.")
    table: str = Field(description="The next piece of the labelled table; all pieces together are the whole table.")
    error: str | None = Field(None, description="Why the response ends early.")
