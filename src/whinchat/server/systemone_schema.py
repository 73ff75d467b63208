"""Bodies of requests and responses of the System One protocol.

Fields of responses that the protocol does not know begin with ``x_``.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from whinchat.recipe.question import MOST_LEVELS, MOST_OPTIONS

Content = str | dict[str, Any] | list[Any]
_Id = Annotated[str, Field(min_length=1)]
# For the schema alone: a text has something to read.
_State = Annotated[str, Field(json_schema_extra={"pattern": "\\S"})] | dict[str, Any] | list[Any]
_CRITERIA: Any = {"billing": "Payments and invoices", "technical": "Bugs and outages"}
_QUESTIONS: Any = {
    "refund": {"type": "noul", "instructions": "Does the customer ask for money back?"},
    "team": {"type": "choice", "instructions": "Which team should handle this?", "criteria": _CRITERIA},
    "anger": {
        "type": "score",
        "instructions": "How angry is the customer?",
        "criteria": ["calm", "annoyed", "furious"],
    },
}
_REQUEST: Any = {"model": "jev-latest", "state": "I was charged twice. Please help.", "questions": _QUESTIONS}


class _Asked(BaseModel):
    """Base of all questions: closed to unknown keys, since a misspelt key would change the question."""

    model_config = ConfigDict(extra="forbid", strict=True)

    instructions: Content | None = Field(None, description="What to decide; an object or array is read as JSON.")


class NoulCriteria(BaseModel):
    """What counts as yes, and what as no."""

    model_config = ConfigDict(extra="forbid", strict=True)

    true: Content | None = Field(None, description="What counts as yes.")
    false: Content | None = Field(None, description="What counts as no.")


class NoulQuestion(_Asked):
    """A question to be answered by yes or no."""

    type: Literal["noul"]
    criteria: NoulCriteria | None = Field(None, description="What counts as yes, and what as no.")


class ChoiceQuestion(_Asked):
    """A question to be answered by one of several options."""

    type: Literal["choice"]
    criteria: dict[str, Content | None] = Field(
        min_length=2, max_length=MOST_OPTIONS, description="Names of the options, each with a description or null."
    )


class ScoreQuestion(_Asked):
    """A question to be answered by a level of a scale."""

    type: Literal["score"]
    criteria: list[Content] = Field(
        min_length=2, max_length=MOST_LEVELS, description="The levels from lowest to highest; the first counts as 0."
    )


AskedQuestion = Annotated[NoulQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class SystemOneRequest(BaseModel):
    """Questions about one content. Unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, json_schema_extra={"examples": [_REQUEST]})

    model: str = Field(description="Name of the classifier; jev-latest for the server's first one.")
    state: _State = Field(description="The text that all questions are about; an object or array is read as JSON.")
    questions: dict[_Id, AskedQuestion] = Field(min_length=1, description="The questions, by names of your choice.")

    @model_validator(mode="before")
    @classmethod
    def _without_images(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("assets") is not None:
            raise PydanticCustomError("unsupported", "assets: this server reads texts and no images; leave assets out")
        return values


class _Answer(BaseModel):
    """Base of all answers."""

    x_calibrated: bool = Field(
        description="Whether the classifier was trained on this question, and its probabilities are calibrated."
    )
    x_truncated_tokens: int = Field(description="Tokens cut from the end of the text, which was too long.")


class NoulAnswer(_Answer):
    """The answer to a yes/no question."""

    type: Literal["noul"] = "noul"
    noul: float = Field(description="Probability of yes.")


class _Distribution(_Answer):
    """Base of answers with a probability for each option or level."""

    probabilities: dict[str, float] = Field(description="Probability of each option or level; they add up to 1.")
    confidence: float = Field(description="How far the probabilities are from even ones, from 0 to 1.")


class ChoiceAnswer(_Distribution):
    """The answer to a choice question."""

    type: Literal["choice"] = "choice"
    choice: str = Field(description="The most probable option.")


class ScoreAnswer(_Distribution):
    """The answer to a score question."""

    type: Literal["score"] = "score"
    score: float = Field(description="Expected level.")
    legend: dict[str, Content] = Field(description="The levels by their numbers.")


class Usage(BaseModel):
    """What the request cost."""

    input_tokens: int = Field(description="Tokens of the prompts of all questions.")
    output_tokens: int = Field(description="Number of answers.")


class SystemOneResponse(BaseModel):
    """One answer for each question."""

    model: str = Field(description="Name of the classifier that answered.")
    answers: dict[str, Annotated[NoulAnswer | ChoiceAnswer | ScoreAnswer, Field(discriminator="type")]]
    usage: Usage


class SystemOneModel(BaseModel):
    """A name that requests may give as ``model``."""

    name: str
    description: str
    release_date: str = Field(description="Day on which the classifier was trained, ISO 8601.")


class SystemOneModels(BaseModel):
    """The names that requests may give as ``model``."""

    models: list[SystemOneModel]


class SystemOneFault(BaseModel):
    """What an error says."""

    error_type: str
    message: str = Field(description="What is wrong, where, and what to do.")


class SystemOneError(BaseModel):
    """An error other than one of validation."""

    detail: SystemOneFault


class ValidationFault(BaseModel):
    """One error of validation."""

    loc: list[str | int] = Field(description="Path to the value.")
    msg: str
    type: str


class SystemOneInvalid(BaseModel):
    """The errors of validation."""

    detail: list[ValidationFault]
