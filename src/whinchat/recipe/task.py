"""The section ``task`` of a recipe: labels, the prompt around a text, and the answers that stand for labels."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from whinchat.recipe.card_metadata import language_fault
from whinchat.recipe.field_types import Day, Name, NonEmpty, Section, Text, repeated_words

TEXT_SLOT = "{text}"
Cleaning = Literal["html_entities", "json_escapes", "spaces"]


class Task(Section):
    """What the classifier decides about a text.

    The order of ``labels`` is the order of every column, row and axis that whinchat writes.
    """

    name: Name = Field(description="Short name of the task, used in titles and file names.")
    labels: tuple[Name, ...] = Field(
        min_length=2, description="Names of the labels. Every table, figure and file lists them in this order."
    )
    instruction: NonEmpty = Field(
        description="System prompt that tells the model what to decide. For a model whose chat template has no system "
        "role, it stands before the text in the user turn."
    )
    user_template: Text = Field(TEXT_SLOT, description="User turn of the prompt; {text} stands for the text.")
    answers: dict[Text, Name] = Field(
        default_factory=dict,
        description="Label -> the word with which the model answers, for labels whose answer is not their name.",
    )
    clean: tuple[Cleaning, ...] = Field(
        (),
        description="Repairs made to every text, in the order listed: html_entities turns &amp; into &, json_escapes "
        "turns \\u2019 into the character, spaces replaces every run of whitespace by one space.",
    )
    date: Day | None = Field(None, description="Today's date in prompts that state it; null for the day of the run.")
    language: Text = Field(
        "en", description="Language of the texts for the model card: an ISO 639 code such as en, or multilingual."
    )

    @field_validator("language")
    @classmethod
    def _language_of_the_hub(cls, language: str) -> str:
        if fault := language_fault(language):
            raise PydanticCustomError("language", "{fault}", {"fault": fault})
        return language

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if repeated := repeated_words(self.labels, "NFC"):
            raise ValueError(f"labels: {', '.join(repeated)} listed more than once; list each label once")
        if unknown := sorted(set(self.answers) - set(self.labels)):
            raise ValueError(f"answers: {', '.join(unknown)} not in labels; labels are {', '.join(self.labels)}")
        if self.user_template.count(TEXT_SLOT) != 1:
            raise ValueError(f"user_template: must contain {TEXT_SLOT} exactly once, found {self.user_template!r}")
        words = self.answer_words
        # Many tokenizers give spellings that differ only in compatibility forms, such as a ligature, the same tokens.
        if repeated_words((word.casefold() for word in words), "NFKC"):
            raise ValueError(f"answers: two labels share an answer word in {', '.join(words)}; give each its own")
        return self

    @property
    def answer_words(self) -> tuple[str, ...]:
        """The word with which the model answers for each label, in the order of ``labels``."""
        return tuple(self.answers.get(label, label) for label in self.labels)
