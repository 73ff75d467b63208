"""The section ``task`` of a recipe: labels, the prompt around a text, and the answers that stand for labels."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from whinchat.recipe.card_metadata import language_fault
from whinchat.recipe.field_types import Day, Name, NonEmpty, Section, Text, repeated_words
from whinchat.recipe.question import QUESTION_SLOT, TEXT_SLOT, Decision, Questions

# What a task with questions has where the recipe says nothing: the text stands first, so that what the questions share,
# instruction and text, is computed once.
_QUESTIONS_TEMPLATE = f"{TEXT_SLOT}\n\n{QUESTION_SLOT}"
_QUESTIONS_INSTRUCTION = (
    "Read the text and answer the question about it. Give one of the listed answers and nothing else."
)
Cleaning = Literal["html_entities", "json_escapes", "spaces", "mentions", "links"]


class Task(Section):
    """What the classifier decides about a text: one label, or the answers to several questions.

    The order of ``labels`` is the order of every column, row and axis that whinchat writes.
    """

    name: Name = Field(description="Short name of the task, used in titles and file names.")
    questions: Questions = Field(
        default_factory=dict,
        description="Name -> question, for a task that asks one or more typed questions instead of one list of labels.",
    )
    labels: tuple[Name, ...] = Field(
        description="Names of the labels, of which exactly one is right. Every table, figure and file lists them in "
        "this order. A task has labels or questions."
    )
    instruction: NonEmpty = Field(
        description="System prompt that tells the model what to decide. For a model whose chat template has no system "
        "role, it stands before the text in the user turn."
    )
    user_template: Text = Field(
        TEXT_SLOT,
        description="User turn of the prompt; {text} stands for the text and, in a task with questions, {question} for "
        "the question. With questions the text comes first by default, so that a long text is read once for all of "
        "them; where texts are short and instructions long, put {question} first.",
    )
    answers: dict[Text, Name] = Field(
        default_factory=dict,
        description="Label -> the word with which the model answers, for labels whose answer is not their name.",
    )
    clean: tuple[Cleaning, ...] = Field(
        (),
        description="Changes made to every text, in the order listed: html_entities turns &amp; into &, json_escapes "
        "turns \\u2019 into the character, spaces replaces every run of whitespace by one space, mentions turns @name "
        "into @user, and links turns https://... into http, both as TweetEval's texts have them.",
    )
    date: Day | None = Field(None, description="Today's date in prompts that state it; null for the day of the run.")
    language: Text = Field(
        "en", description="Language of the texts for the model card: an ISO 639 code such as en, or multilingual."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_questions(cls, values: Any) -> Any:
        """Fill in what a task with questions does without, or has another default for."""
        if not isinstance(values, dict) or not values.get("questions"):
            return values
        defaults = {
            "labels": (), "instruction": _QUESTIONS_INSTRUCTION, "user_template": _QUESTIONS_TEMPLATE
        }  # fmt: skip
        return defaults | values

    @field_validator("labels")
    @classmethod
    def _several(cls, labels: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if len(labels) < 2 and info.data.get("questions") == {}:
            raise PydanticKnownError(
                "too_short", {"field_type": "Tuple", "min_length": 2, "actual_length": len(labels)}
            )
        return labels

    @field_validator("language")
    @classmethod
    def _language_of_the_hub(cls, language: str) -> str:
        if fault := language_fault(language):
            raise PydanticCustomError("language", "{fault}", {"fault": fault})
        return language

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.questions:
            return self._consistent_questions()
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

    def _consistent_questions(self) -> Self:
        if self.labels or self.answers:
            raise ValueError(
                "questions: a task has labels with their answers, or questions with options; remove labels and answers"
            )
        if repeated := repeated_words((name.casefold() for name in self.questions), "NFKC"):
            raise ValueError(f"questions: {', '.join(repeated)} named more than once; give each its own name")
        if any(self.user_template.count(slot) != 1 for slot in (TEXT_SLOT, QUESTION_SLOT)):
            raise ValueError(
                f"user_template: must contain {TEXT_SLOT} and {QUESTION_SLOT} exactly once each, found "
                f"{self.user_template!r}"
            )
        return self

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions of all questions, in their order; none for a task with labels."""
        return tuple(one for name, question in self.questions.items() for one in question.decisions(name))

    def of_decision(self, decision: Decision) -> Self:
        """Return the task with labels whose prompts ask for ``decision`` alone."""
        return self.model_copy(
            update={
                "name": decision.title,
                "labels": decision.labels,
                "questions": {},
                "user_template": self.user_template.replace(QUESTION_SLOT, decision.prompt),
                "answers": decision.answers,
            }
        )

    @property
    def answer_words(self) -> tuple[str, ...]:
        """The word with which the model answers for each label, in the order of ``labels``."""
        return tuple(self.answers.get(label, label) for label in self.labels)
