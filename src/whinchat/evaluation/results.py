"""Frozen records of an evaluation, the same before and after training.

K: labels. N: evaluated rows. Every figure that a card or report shows comes from here. ``storage.json_records`` writes
and reads the records as JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_serializer, model_validator

from whinchat.recipe.schema import AnswerParser, MetricName

Mode = Literal["score", "calibrated", "generate", "generate_first_word"]
# The mode in which each reading of the generated answers is measured.
GENERATION_MODES: dict[AnswerParser, Mode] = {"exact": "generate", "first_word": "generate_first_word"}
BaselineName = Literal["majority", "tfidf"]
# From this share of rows on which scoring and generation disagree, log and report warn.
_MOST_ROWS = 0.5
# Files of every version of whinchat call the calibrated answers "decide".
StoredMode = Annotated[
    Mode,
    BeforeValidator(lambda mode: "calibrated" if mode == "decide" else mode),
    PlainSerializer(lambda mode: "decide" if mode == "calibrated" else mode),
]


@dataclass(frozen=True)
class Interval:
    """A bootstrap 95 % interval.

    Where all rows of every label have the same answer, the interval has the width of a Jeffreys interval, not zero.
    """

    low: float
    high: float


@dataclass(frozen=True)
class LabelMetrics:
    """Precision, recall and F1 of one label, None for a label without rows; ``support`` counts its rows."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class ReliabilityBin:
    """The n rows whose highest probability lies in [low, high): their mean confidence and their accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class CalibrationMetrics:
    """How well the probabilities fit the outcomes. Probabilities are normalized over the labels, but for label_mass.

    Attributes:
        ece: expected calibration error of the top label in 15 equal bins (Guo et al. 2017, section 2).
        brier: mean squared distance of the K probabilities from the truth, 0 to 2 (Brier 1950).
        log_loss: mean negative log-probability of the true label, in nats.
        label_mass: mean probability, over all strings, that the model answers with a label.
        bins: the bins of the reliability diagram.
        chance_ece: the ``ece`` that probabilities which are exactly right would have on as many rows, by chance alone;
            None in files of earlier versions.
    """

    ece: float
    brier: float
    log_loss: float
    label_mass: float
    bins: tuple[ReliabilityBin, ...]
    chance_ece: float | None = None


@dataclass(frozen=True)
class Metrics:
    """One way of answering, measured on one split.

    Attributes:
        mode: ``score`` takes the label with the highest score, ``calibrated`` the label with the highest
            calibrated probability, ``generate`` the
            label that is the whole answer in free generation, ``generate_first_word`` the label that occurs first in
            the same answer.
        n: evaluated rows.
        labels: label names, in the order of ``per_label``, ``confusion`` and ``invalid``.
        values: one value for each registered metric, by name (see ``evaluation.metric_registry``). In JSON the names
            stand beside the other keys.
        invalid_rate: share of answers that are no label. An invalid answer counts as wrong in every metric.
        per_label: precision, recall and F1 of each label.
        confusion: ``confusion[t][p]`` counts rows of true label t answered with label p.
        invalid: rows of each true label whose answer was no label; ``confusion`` and ``invalid`` together add up to n.
        intervals: 95 % bootstrap interval of each metric, by name.
        calibration: how well the probabilities fit the outcomes; None for free generation, which has no probabilities.
        seconds: wall-clock time of answering.
    """

    mode: StoredMode
    n: int
    labels: tuple[str, ...]
    values: Mapping[str, float]
    invalid_rate: float
    per_label: tuple[LabelMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    invalid: tuple[int, ...]
    intervals: Mapping[str, Interval]
    calibration: CalibrationMetrics | None
    seconds: float

    @property
    def macro_f1(self) -> float:
        """F1 of each label, averaged over the labels that have rows."""
        return self.values["macro_f1"]

    @property
    def macro_recall(self) -> float:
        """Recall of each label, averaged over the labels that have rows."""
        return self.values["macro_recall"]

    @property
    def accuracy(self) -> float:
        """Share of rows answered with their true label."""
        return self.values["accuracy"]

    @property
    def absent_labels(self) -> tuple[str, ...]:
        """The labels without rows."""
        return tuple(label.label for label in self.per_label if not label.support)

    @model_serializer(mode="wrap")
    def _flatten_values(self, serialize: Any) -> dict[str, Any]:
        record: dict[str, Any] = {}
        for key, value in serialize(self).items():
            record |= value if key == "values" else {key: value}
        return record

    @model_validator(mode="before")
    @classmethod
    def _gather_values(cls, record: Any) -> Any:
        if not isinstance(record, dict):
            return record
        keys = {field.name for field in fields(cls)} - {"values"}
        if missing := {"macro_f1", "macro_recall", "accuracy"} - record.keys():
            raise ValueError(f"{', '.join(sorted(missing))} missing")
        known = {key: value for key, value in record.items() if key in keys}
        return known | {"values": {key: value for key, value in record.items() if key not in keys}}


@dataclass(frozen=True)
class Evaluation:
    """All ways of answering on one split.

    Attributes:
        split: name of the split.
        split_fingerprint: ``Split.fingerprint`` of the evaluated rows.
        score: label scores of all rows.
        generate: generated answers, where the whole answer must be a label; None where the recipe turns generation off.
        generate_first_word: generated answers, where the label that occurs first counts; None where the recipe turns
            generation off, and in records of earlier versions.
        disagreement: share of the rows with a generated answer whose answer, in either reading, is not the label with
            the highest score; None as ``generate_first_word`` is.
        score_of_generated: label scores of the rows with a generated answer; None where all rows have such an answer,
            or no row.
    """

    split: str
    split_fingerprint: str
    score: Metrics
    generate: Metrics | None
    generate_first_word: Metrics | None = None
    disagreement: float | None = None
    score_of_generated: Metrics | None = None

    @property
    def disagreement_warning(self) -> str | None:
        """A sentence for log and report where scoring and generation disagree on most rows; otherwise None."""
        if self.disagreement is None or self.disagreement <= _MOST_ROWS:
            return None
        texts = "the texts"
        if self.score_of_generated is not None:
            texts = f"a sample of {self.score_of_generated.n:,} texts"
        return (
            f"Label scoring and free generation give different labels for {100 * self.disagreement:.0f} % of {texts} "
            f"of {self.split}, so the metrics of either do not hold for the other. Look at the generated answers in "
            "the predictions before relying on either."
        )

    def of_mode(self, mode: Mode) -> Metrics | None:
        """Return the metrics of one way of answering; None if it was not measured."""
        return {"score": self.score, "generate": self.generate, "generate_first_word": self.generate_first_word}.get(
            mode
        )


@dataclass(frozen=True)
class PairedTest:
    """Answers after training against answers before, on the same rows.

    Attributes:
        mode: the way of answering.
        n: rows.
        fixed, broken: number of rows answered correctly only after training, and only before training.
        mcnemar_p: p-value of the exact two-sided McNemar test on ``fixed`` and ``broken``.
        macro_f1_gain: macro-F1 after minus before.
        interval: 95 % paired-bootstrap interval of the gain.
    """

    mode: StoredMode
    n: int
    fixed: int
    broken: int
    mcnemar_p: float
    macro_f1_gain: float
    interval: Interval


@dataclass(frozen=True)
class Prediction:
    """The prediction for one row.

    Attributes:
        log_probs: log P(answer of label k | prompt) over all strings, (K,); not normalized over the labels, so the
            probabilities may sum to less than one.
        generated: the freely generated answer; None where generation was off, or the row is not in its sample.
        generated_label: index of the label that is the whole of ``generated``, -1 for none; None without ``generated``.
        first_word_label: index of the label that occurs first in ``generated``, -1 for none; None where it was not
            looked for.
        probabilities: probability of each label as ``whinchat predict`` shows it, (K,); None where no calibrator was
            fitted, and in files of version 0.1.0.
        unsure: whether the highest of ``probabilities`` is below the classifier's threshold.
    """

    log_probs: tuple[float, ...]
    generated: str | None
    generated_label: int | None
    first_word_label: int | None = None
    probabilities: tuple[float, ...] | None = None
    unsure: bool = False

    @property
    def best(self) -> int:
        """Index of the label with the highest score; the first of several on a tie."""
        return max(range(len(self.log_probs)), key=self.log_probs.__getitem__)

    @property
    def answer(self) -> int:
        """Index of the label that ``whinchat predict`` gives: the highest probability, or score without calibrator."""
        shown = self.probabilities or self.log_probs
        return max(range(len(shown)), key=shown.__getitem__)


@dataclass(frozen=True)
class Baseline:
    """A simple method that was fitted on the training rows and measured on the evaluated rows.

    Attributes:
        name: the method.
        settings: what the method chose for itself, such as C of a logistic regression.
        metrics: metrics of its answers.
        paired: the answers that ``whinchat predict`` gives, tested against those of the method.
    """

    name: BaselineName
    settings: str
    metrics: Metrics
    paired: PairedTest


@dataclass(frozen=True)
class CoveragePoint:
    """When only rows with a confidence of at least ``threshold`` are answered: share answered, and its accuracy."""

    coverage: float
    accuracy: float
    threshold: float


@dataclass(frozen=True)
class SliceMetrics:
    """Metrics of the n rows of one slice; ``share`` is n as a share of all rows."""

    name: str
    n: int
    share: float
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class StressResult:
    """One edit: the n rows that it changes, the share whose answer changed, and the accuracy before and after it."""

    name: str
    n: int
    changed: float
    accuracy_before: float
    accuracy_after: float


@dataclass(frozen=True)
class Abstention:
    """The threshold that was chosen for a wanted accuracy, measured on the evaluated rows.

    Attributes:
        wanted: the recipe's ``evaluate.wanted_accuracy``.
        threshold: confidence below which the answer is "unsure".
        coverage: share of rows with an answer.
        accuracy: share of correct answers among the rows with an answer; None when no row has one.
    """

    wanted: float
    threshold: float
    coverage: float
    accuracy: float | None


@dataclass(frozen=True)
class ConfidentError:
    """A wrong answer with a high confidence."""

    text: str
    expected: str
    answered: str
    confidence: float


@dataclass(frozen=True)
class DecisionTest:
    """What favouring rare labels gains on the rows of the fit, each answered by a calibrator fitted on other rows.

    Attributes:
        metric: the metric that the predicted labels serve.
        tau: power of the labels' shares by which the probabilities would be divided.
        gain: the metric if rare labels are favoured, minus the metric of the most probable labels.
        interval: 95 % paired-bootstrap interval of the gain.
    """

    metric: MetricName
    tau: float
    gain: float
    interval: Interval

    @property
    def gains(self) -> bool:
        """Whether the gain is reliable, so that the probabilities favour rare labels."""
        return self.interval.low > 0


@dataclass(frozen=True)
class ReliabilityReport:
    """How the calibrated classifier answers the evaluated rows after training.

    Attributes:
        metric, temperature, tau: of the calibrator that is saved with the adapter.
        fitted_on, fitted_rows: split and number of rows on which the calibrator was fitted.
        cross_fitted: whether ``fitted_on`` is the evaluated split. Each row is then answered by a calibrator that was
            fitted on other rows.
        calibrated: metrics of the calibrated answers.
        coverage: accuracy of the calibrated answers against coverage.
        abstention: the threshold for ``evaluate.wanted_accuracy``; None when no accuracy is wanted or no threshold
            reaches it.
        slices: metrics of kinds of text (``evaluation.slices``).
        stress: effect of harmless edits (``evaluation.stress``).
        errors: the wrong answers with the highest confidence.
        decision: the test that ``tau`` follows from; None where none was made, and in records of version 0.1.0.
    """

    metric: MetricName
    temperature: float
    tau: float
    fitted_on: str
    fitted_rows: int
    cross_fitted: bool
    calibrated: Annotated[Metrics, Field(alias="decided")]
    coverage: tuple[CoveragePoint, ...]
    abstention: Abstention | None
    slices: tuple[SliceMetrics, ...]
    stress: tuple[StressResult, ...]
    errors: tuple[ConfidentError, ...]
    decision: DecisionTest | None = None
