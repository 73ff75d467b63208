"""The task: labels in their order, the instruction, and the word that stands for each label."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

TEXT_SLOT = "{text}"

Cleaning = Literal["html_entities", "json_escapes", "spaces"]
NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Section(BaseModel):
    """Base of every part of a recipe: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Task(Section):
    """What is to be decided about a text.

    The order of ``labels`` is the order of every column, row and axis that whinchat writes.
    """

    name: NonEmpty = Field(description="Short name, used in titles and file names.")
    labels: tuple[NonEmpty, ...] = Field(min_length=2, description="Label names, in the order used everywhere.")
    instruction: NonEmpty = Field(description="System prompt; models without a system role get it before the text.")
    user_template: str = Field(TEXT_SLOT, description="User turn; {text} is replaced by the text.")
    answers: dict[str, NonEmpty] = Field(
        default_factory=dict, description="Answer word of a label where it differs from the label's name."
    )
    clean: tuple[Cleaning, ...] = Field(
        (), description="What is mended in every text, in this order: html_entities, json_escapes, spaces."
    )
    language: str = Field("en", description="Language of the texts, for the model card.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        repeated = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if repeated:
            raise ValueError(f"labels: {', '.join(repeated)} listed more than once; list each label once")
        unknown = sorted(set(self.answers) - set(self.labels))
        if unknown:
            raise ValueError(f"answers: {', '.join(unknown)} not in labels; labels are {', '.join(self.labels)}")
        if self.user_template.count(TEXT_SLOT) != 1:
            raise ValueError(f"user_template: must contain {TEXT_SLOT} exactly once, found {self.user_template!r}")
        words = self.answer_words
        if len({word.casefold() for word in words}) < len(words):
            raise ValueError(f"answers: two labels share an answer word in {', '.join(words)}; give each its own")
        return self

    @property
    def answer_words(self) -> tuple[str, ...]:
        """The word a model says for each label, in the order of ``labels``."""
        return tuple(self.answers.get(label, label) for label in self.labels)
