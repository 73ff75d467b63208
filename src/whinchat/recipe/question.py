"""Typed questions about a text, and the decisions of which each consists.

A ``choice``, ``yes_no`` or ``score`` question is one decision between its options. A ``multi`` question is one decision
between yes and no for each of its options. Every decision has a prompt of its own and is scored like a task with one
list of labels.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from whinchat.recipe.field_types import FolderName, Name, NonEmpty, Real, Section, Text, repeated_words

QuestionType = Literal["choice", "yes_no", "score", "multi"]
MOST_OPTIONS = 255
MOST_LEVELS = 10
# The options of a yes_no question, and of each decision of a multi question.
YES_NO = ("no", "yes")
TEXT_SLOT = "{text}"
QUESTION_SLOT = "{question}"


class Question(Section):
    """One question about a text.

    The order of ``options`` and ``levels`` is the order of every column, row and axis that whinchat writes.
    """

    type: QuestionType = Field(
        description="choice: one of the options is right. yes_no: yes or no. score: one of 2 to 10 ordered levels. "
        "multi: any number of the options applies, each decided by itself."
    )
    instructions: NonEmpty = Field(description="The question as the model reads it.")
    options: dict[Name, Text] = Field(
        default_factory=dict,
        description="Options of a choice or multi question: a list of names, or a mapping of names to descriptions, "
        "which the model reads. For yes_no, what yes and no mean.",
    )
    levels: dict[Name, Text] = Field(
        default_factory=dict,
        description="Levels of a score question from lowest to highest: a list of names, or a mapping of names to "
        "descriptions.",
    )
    answers: dict[Name, Name] = Field(
        default_factory=dict,
        description="Option or level -> the word with which the model answers, where the word is not the name. Not for "
        "multi, whose answers are yes and no.",
    )
    class_weights: Literal["none", "balanced"] | dict[Text, Real] | None = Field(
        None,
        description="Weight of each option in the loss, as train.class_weights gives it for labels; null for "
        "train.class_weights itself.",
    )
    near_levels: Literal["none", "absolute", "squared"] = Field(
        "none",
        description="Of a score question: train towards shares that fall with the distance from the true level, e to "
        "the power of minus the absolute or squared distance in levels (SORD, Diaz and Marathe 2019), so that a near "
        "miss costs less than a far one; none trains towards the true level alone.",
    )

    @field_validator("options", "levels", mode="before")
    @classmethod
    def _described(cls, value: Any) -> Any:
        """Return a list of names as a mapping of names to empty descriptions, and null as an empty mapping."""
        if value is None:
            return {}
        if isinstance(value, dict):
            return {name: "" if text is None else text for name, text in value.items()}
        if not isinstance(value, list | tuple):
            return value
        if not all(isinstance(name, str) for name in value):
            raise PydanticCustomError(
                "names", 'names are text; put numbers, yes, no and the like in quotes, such as "1"'
            )
        if repeated := repeated_words((name.strip() for name in value), "NFC"):
            raise PydanticCustomError("names", "{names} listed more than once", {"names": ", ".join(repeated)})
        return dict.fromkeys(value, "")

    @model_validator(mode="after")
    def _fits_type(self) -> Self:
        if self.type == "score" and self.options:
            raise ValueError("options: a score question has levels instead; rename the key to levels")
        if self.type != "score" and self.levels:
            raise ValueError(f"levels: only a score question has levels; a {self.type} question has options")
        least, most = {"choice": (2, MOST_OPTIONS), "multi": (1, MOST_OPTIONS), "score": (2, MOST_LEVELS)}.get(
            self.type, (0, len(YES_NO))
        )
        if not least <= len(self._descriptions) <= most:
            kind = "levels" if self.type == "score" else "options"
            raise ValueError(
                f"{kind}: a {self.type} question has {least} to {most} {kind}, found {len(self._descriptions)}"
            )
        if self.type == "yes_no" and (unknown := sorted(set(self.options) - set(YES_NO))):
            raise ValueError(f"options: a yes_no question has yes and no, found {', '.join(unknown)}")
        if self.type != "score" and self.near_levels != "none":
            raise ValueError("near_levels: only the levels of a score question have distances; remove the key")
        if self.type == "multi" and self.answers:
            raise ValueError("answers: each option of a multi question is answered by yes or no; remove the key")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if unknown := sorted(set(self.answers) - set(self.names)):
            raise ValueError(f"answers: {', '.join(unknown)} not among {', '.join(self.names)}")
        if isinstance(weights := self.class_weights, dict):
            if set(weights) != set(self.names):
                raise ValueError(f"class_weights: must name each of {', '.join(self.names)} once")
            if min(weights.values()) < 0:
                raise ValueError("class_weights: a weight is below zero; weights are zero or more")
        words = [self.answers.get(name, name) for name in self.names]
        if repeated_words((word.casefold() for word in words), "NFKC"):
            raise ValueError(f"answers: two options share an answer word in {', '.join(words)}; give each its own")
        for text in (self.instructions, *words, *self._descriptions.values()):
            if slot := next((slot for slot in (TEXT_SLOT, QUESTION_SLOT) if slot in text), None):
                raise ValueError(f"instructions: {text!r} holds {slot}, which a prompt would replace; reword it")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The options or levels of the question, in their order; no and yes for a yes_no question."""
        return YES_NO if self.type == "yes_no" else tuple(self._descriptions)

    @property
    def _descriptions(self) -> dict[str, str]:
        return self.levels if self.type == "score" else self.options

    def decisions(self, name: str) -> tuple["Decision", ...]:
        """Return the decisions of the question, which is called ``name``: one, or one for each option of ``multi``."""
        if self.type != "multi":
            return (Decision(name, None, self.names, self._prompt(), self.answers),)
        return tuple(
            Decision(
                name,
                option,
                YES_NO,
                f"{self.instructions}\nDoes this apply: {option}{f' ({text})' if text else ''}? Answer yes or no.",
                {},
            )
            for option, text in self.options.items()
        )

    def _prompt(self) -> str:
        """Return the question as it stands in the prompt, with the words among which to answer."""
        listed = {self.answers.get(name, name): self._descriptions.get(name, "") for name in self.names}
        kind = "one of these levels, from lowest to highest" if self.type == "score" else "one of these"
        if any(listed.values()):
            lines = (f"- {word}: {text}" if text else f"- {word}" for word, text in listed.items())
            return "\n".join((self.instructions, f"Answer with {kind}:", *lines))
        if self.type == "yes_no":
            yes, no = (self.answers.get(name, name) for name in ("yes", "no"))
            return f"{self.instructions}\nAnswer {yes} or {no}."
        return f"{self.instructions}\nAnswer with {kind}: {', '.join(listed)}."


@dataclass(frozen=True)
class Decision:
    """One choice between labels that the model makes about a text.

    Attributes:
        question: name of the question.
        option: the option of a multi question that applies or not; None for the other types.
        labels: names between which the model decides.
        prompt: the question as the model reads it.
        answers: label -> the word with which the model answers, where the word is not the label.
    """

    question: str
    option: str | None
    labels: tuple[str, ...]
    prompt: str
    answers: dict[str, str]

    @property
    def title(self) -> str:
        """The decision in words, such as ``team`` or ``tags: refund``."""
        return self.question if self.option is None else f"{self.question}: {self.option}"

    @property
    def address(self) -> str:
        """The decision as ``whinchat export --question`` takes it, such as ``team`` or ``tags/refund``."""
        return self.question if self.option is None else f"{self.question}/{self.option}"


Questions = dict[FolderName, Question]
