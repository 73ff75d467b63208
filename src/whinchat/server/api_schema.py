"""What goes in and out over HTTP."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Texts = Annotated[list[str], Field(min_length=1)]


class ClassifyRequest(BaseModel):
    """One text, or several."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"texts": "what a lovely day"}, {"texts": ["what a lovely day", "meh"], "before": True}]
        },
    )

    texts: str | Texts = Field(description="One text or a list of them.")
    model: str | None = Field(None, description="Name of the classifier; the first one by default.")
    before: bool = Field(False, description="Also answer as the model did before fine-tuning.")


class LabelProbabilities(BaseModel):
    """A label and the probability of each."""

    label: str = Field(description="The label that serves the classifier's metric; mostly the likeliest.")
    probabilities: dict[str, float] = Field(description="Of each label, in the order of the task; they add up to one.")


class TextResult(LabelProbabilities):
    """The answer to one text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "label": "positive",
                    "unsure": False,
                    "probabilities": {"negative": 0.01, "neutral": 0.06, "positive": 0.93},
                }
            ]
        }
    )

    unsure: bool = Field(description="The label's probability is below the classifier's threshold: better not trusted.")
    before: LabelProbabilities | None = Field(
        None, description="What the model answered before fine-tuning, where that was asked."
    )


class ClassifyResponse(BaseModel):
    """One result for each text, in their order."""

    model: str
    results: list[TextResult]


class FigureLink(BaseModel):
    """A figure of the run."""

    url: str
    alt: str = Field(description="What it shows, in words.")


class ModelInfo(BaseModel):
    """One classifier."""

    name: str
    description: str
    task: str
    labels: list[str]
    base_model: str
    method: str
    metric: str = Field(description="What its decisions are best for.")
    calibrated: bool
    threshold: float | None = Field(description='Confidence below which it says "unsure"; null for never.')
    has_before: bool = Field(description="Whether it can answer as before fine-tuning.")
    text_column: str = Field(description="Where a table's texts are looked for by default.")
    figures: list[FigureLink]
    card: str | None = Field(description="Address of its model card, as a page.")
    report: str | None = Field(description="Address of its report.")


class Limits(BaseModel):
    """What a request may hold; beyond that it is refused with 413, or with 429 where too many wait."""

    model_config = ConfigDict(frozen=True)

    max_chars: int = Field(20_000, gt=0, description="Characters of a text.")
    max_texts: int = Field(512, gt=0, description="Texts of a request.")
    max_waiting: int = Field(4096, gt=0, description="Texts that may wait, of all requests together.")
    max_table_bytes: int = Field(100_000_000, gt=0, description="Bytes of a table.")


class ModelResponse(BaseModel):
    """Who answers here, within what limits."""

    version: str
    default: str
    models: list[ModelInfo]
    limits: Limits


class ErrorResponse(BaseModel):
    """What was wrong, where, and what to do."""

    detail: str


class TableEvent(BaseModel):
    """One line of what a table's labelling says: how far it is, and the next rows."""

    done: int = Field(description="Rows so far.")
    total: int = Field(description="Rows of the table.")
    labels: dict[str, int] = Field(description="Rows of each label so far.")
    unsure: int = Field(description="Rows so far whose label is better not trusted.")
    bad: int = Field(description="Rows so far that could not be read.")
    table: str = Field(description="The next piece of the labelled table; all pieces make the whole.")
    error: str | None = Field(None, description="Why it ends early.")
