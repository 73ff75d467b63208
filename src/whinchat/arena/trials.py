"""Frozen records of an arena's trials: the settings of a trial, and its result.

K: labels. N: evaluated rows.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from whinchat.arena.spec import Method
from whinchat.evaluation.results import Metrics
from whinchat.recipe.schema import Recipe

# There are thousands of rows, so a file holds their labels as one string, "0 2 1".
LabelIndices = Annotated[
    tuple[int, ...],
    BeforeValidator(lambda labels: labels.split() if isinstance(labels, str) else labels),
    PlainSerializer(lambda labels: " ".join(map(str, labels)), return_type=str),
]


@dataclass(frozen=True)
class Trial:
    """One method on one training set: the first ``rows`` rows that ``seed`` draws."""

    method: str
    rows: int
    seed: int

    @property
    def stem(self) -> str:
        """The name of the trial's files, without suffix."""
        return f"{self.method}-{self.rows}-{self.seed}"

    def __str__(self) -> str:
        return f"{self.method}, {self.rows:,} rows, seed {self.seed}"


@dataclass(frozen=True)
class TrialJob:
    """Everything that a trial's process needs.

    ``recipe`` is the method's at this number of rows, with the trial's seed as ``train.seed``.
    """

    trial: Annotated[Trial, Field(alias="cell")]
    method: Method
    recipe: Recipe


@dataclass(frozen=True)
class Cost:
    """Time and memory of a trial.

    Attributes:
        load_seconds: time until the method is ready to be trained, downloads included.
        fit_seconds: time of training, the search for settings included.
        answer_seconds: time to answer all evaluated texts.
        peak_memory_bytes: largest resident size of the trial's process.
        peak_device_bytes: largest allocation on the accelerator; None on a CPU.
        parameters, trainable_parameters: parameters of the fitted model, and those that were trained.
    """

    load_seconds: float
    fit_seconds: float
    answer_seconds: float
    peak_memory_bytes: int
    peak_device_bytes: int | None
    parameters: int
    trainable_parameters: int


@dataclass(frozen=True)
class TrialResult:
    """What a trial measured.

    Attributes:
        metrics: metrics on the evaluated rows.
        expected, predicted: indices of the true and the predicted labels, (N,).
        cost: time and memory.
        rows_used: training rows that were read; a few-shot prompt reads fewer than there are.
        evaluated_on, trained_on: fingerprints of the rows. Trials are compared only where they are equal.
        machine: processor, device and cores.
        versions: releases of the libraries that can change a result.
        notes: settings that the method chose for itself, such as C of a logistic regression.
    """

    metrics: Annotated[Metrics, Field(alias="measured")]
    expected: LabelIndices
    predicted: LabelIndices
    cost: Cost
    rows_used: int
    evaluated_on: str
    trained_on: str
    machine: dict[str, str]
    versions: dict[str, str]
    notes: dict[str, str]


@dataclass(frozen=True)
class TrialRecord:
    """A trial that was run: its result, or its error in one line."""

    job: TrialJob
    result: Annotated[TrialResult | None, Field(alias="found")]
    error: str | None = None

    @property
    def trial(self) -> Trial:
        """The trial that was run."""
        return self.job.trial
