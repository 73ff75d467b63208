"""Frozen records of an arena's trials: the settings of a trial, and its result.

K: labels. N: evaluated rows. A task with labels is measured as one question without a name.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from whinchat.arena.spec import Method
from whinchat.errors import RunError
from whinchat.evaluation.question_metric_registry import QUESTION_METRICS, QuestionMetric, headline
from whinchat.evaluation.question_results import QuestionMetrics
from whinchat.evaluation.results import Metrics
from whinchat.recipe.question import QuestionType
from whinchat.recipe.schema import Recipe

# There are thousands of rows, so a file holds their numbers as one string, "0 2 1".
Indices = Annotated[
    tuple[int, ...],
    BeforeValidator(lambda indices: indices.split() if isinstance(indices, str) else indices),
    PlainSerializer(lambda indices: " ".join(map(str, indices)), return_type=str),
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
class TrialDecision:
    """The answers to one decision.

    Attributes:
        rows: indices of the evaluated rows that have an answer, (N,).
        expected, predicted: indices of the true and the predicted labels, (N,).
        size: K.
    """

    rows: Indices
    expected: Indices
    predicted: Indices
    size: int


@dataclass(frozen=True)
class TrialQuestion:
    """How a question was answered.

    Attributes:
        name: name of the question; None for the labels of a task with labels, which are a ``choice`` question.
        type: type of the question.
        metrics: metrics of the type.
        decisions: the answers to each decision of the question.
    """

    name: str | None
    type: QuestionType
    metrics: QuestionMetrics
    decisions: tuple[TrialDecision, ...]

    @property
    def headline(self) -> QuestionMetric:
        """The metric by which the question is compared."""
        return headline(self.type)

    @property
    def score(self) -> float:
        """The value of the headline metric.

        Raises:
            RunError: the metric is not defined on the evaluated rows.
        """
        if (value := self.metrics.values[self.headline.name]) is None:
            raise RunError(
                f"arena: {self.name}: {self.headline.title} is not defined, because the evaluated rows have all the "
                "same answer; evaluate more rows, or take the question out of the recipe"
            )
        return value


@dataclass(frozen=True, kw_only=True)
class TrialFacts:
    """What a trial measured besides quality.

    Attributes:
        cost: time and memory.
        rows_used: training rows that were read; a few-shot prompt reads fewer than there are.
        evaluated_on, trained_on: fingerprints of the rows. Trials are compared only where they are equal.
        machine: processor, device and cores.
        versions: releases of the libraries that can change a result.
        notes: settings that the method chose for itself, such as C of a logistic regression.
        model_commit: what identifies the files of its model; None for a method without one, and in older records.
        learned_texts: number of training texts of the arena that its chat model had learned before; None where nothing
            says what the model has learned.
    """

    cost: Cost
    rows_used: int
    evaluated_on: str
    trained_on: str
    machine: dict[str, str]
    versions: dict[str, str]
    notes: dict[str, str]
    model_commit: str | None = None
    learned_texts: int | None = None


@dataclass(frozen=True, kw_only=True)
class LabelsResult(TrialFacts):
    """What a trial measured of a task with labels.

    Attributes:
        metrics: metrics on the evaluated rows.
        expected, predicted: indices of the true and the predicted labels, (N,).
    """

    metrics: Annotated[Metrics, Field(alias="measured")]
    expected: Indices
    predicted: Indices

    @property
    def questions(self) -> tuple[TrialQuestion, ...]:
        """The labels as one question without a name."""
        values = {name: self.metrics.values.get(name) for name in QUESTION_METRICS["choice"]}
        rows, size = tuple(range(len(self.expected))), len(self.metrics.labels)
        answers = TrialDecision(rows, self.expected, self.predicted, size)
        return (TrialQuestion(None, "choice", QuestionMetrics("score", values, {}), (answers,)),)

    @property
    def evaluated_rows(self) -> int:
        """N."""
        return len(self.expected)


@dataclass(frozen=True, kw_only=True)
class QuestionsResult(TrialFacts):
    """What a trial measured of a task with questions.

    Attributes:
        evaluated_rows: N, with the rows that lack answers to some of the questions.
        questions: the questions in the order of the recipe.
    """

    evaluated_rows: int
    questions: tuple[TrialQuestion, ...]


TrialResult = LabelsResult | QuestionsResult


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
