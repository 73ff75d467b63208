"""Frozen records of an evaluation, the same before and after training.

K: labels. N: evaluated rows. Every figure that a card or report shows comes from here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from whinchat.recipe.schema import MetricName

Mode = Literal["score", "decide", "generate"]


@dataclass(frozen=True)
class Interval:
    """A bootstrap 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class LabelMetrics:
    """Figures of one label; ``support`` is its rows in the split."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose highest probability fell in [low, high): their mean confidence and their accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class CalibrationMetrics:
    """How far probabilities can be believed.

    ``ece``: expected calibration error, confidence of the top label in 15 equal bins (Guo et al. 2017, section 2).
    ``brier``: mean squared distance of the K probabilities from the truth, 0 to 2 (Brier 1950).
    ``log_loss``: mean negative log-probability of the true label, in nats.
    ``label_mass``: mean share of all probability that falls on the labels' answers rather than on other words.
    """

    ece: float
    brier: float
    log_loss: float
    label_mass: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Metrics:
    """One way of answering, measured on one split.

    ``score`` takes the label with the highest score, ``decide`` the calibrated decision, ``generate`` writes freely.

    ``confusion[t][p]`` counts rows of true label t answered with label p, both in ``labels`` order; rows whose answer
    was no label are in ``invalid[t]``, so that confusion and invalid together add up to ``n``. An invalid answer
    counts as wrong everywhere. ``intervals`` holds macro_f1, macro_recall and accuracy.
    ``calibration`` is None for ``generate``.
    """

    mode: Mode
    n: int
    labels: tuple[str, ...]
    macro_f1: float
    macro_recall: float
    accuracy: float
    invalid_rate: float
    per_label: tuple[LabelMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    invalid: tuple[int, ...]
    intervals: dict[str, Interval]
    calibration: CalibrationMetrics | None
    seconds: float

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """The record that ``dataclasses.asdict`` wrote."""
        calibration = record["calibration"]
        if calibration is not None:
            bins = tuple(ReliabilityBin(**one) for one in calibration["bins"])
            calibration = CalibrationMetrics(**{**calibration, "bins": bins})
        return cls(
            **{
                **record,
                "labels": tuple(record["labels"]),
                "per_label": tuple(LabelMetrics(**one) for one in record["per_label"]),
                "confusion": tuple(tuple(row) for row in record["confusion"]),
                "invalid": tuple(record["invalid"]),
                "intervals": {name: Interval(**one) for name, one in record["intervals"].items()},
                "calibration": calibration,
            }
        )


@dataclass(frozen=True)
class Evaluation:
    """Both ways of answering on one split; ``generate`` is None where the recipe turns it off."""

    split: str
    split_fingerprint: str
    score: Metrics
    generate: Metrics | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``score`` and ``generate`` stand at the top level."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """The record that ``to_dict`` wrote."""
        generate = record["generate"]
        return cls(
            split=record["split"],
            split_fingerprint=record["split_fingerprint"],
            score=Metrics.from_dict(record["score"]),
            generate=None if generate is None else Metrics.from_dict(generate),
        )


@dataclass(frozen=True)
class PairedTest:
    """After against before on the same rows.

    ``mcnemar_p``: exact two-sided McNemar test on rows that only one of the two got right (``fixed``, ``broken``).
    ``macro_f1_gain``: after minus before, with its paired-bootstrap interval.
    """

    mode: Mode
    n: int
    fixed: int
    broken: int
    mcnemar_p: float
    macro_f1_gain: float
    interval: Interval


@dataclass(frozen=True)
class Prediction:
    """What one row was given: log-probabilities of the K answers, and the free answer where there was one.

    ``log_probs[k]`` is log P(answer k | prompt) over all strings, so they need not add up to one.
    ``generated_label`` indexes labels, -1 for an invalid answer.
    """

    log_probs: tuple[float, ...]
    generated: str | None
    generated_label: int | None

    @property
    def best(self) -> int:
        """Index of the label with the highest score, the first one on a tie."""
        return max(range(len(self.log_probs)), key=self.log_probs.__getitem__)


@dataclass(frozen=True)
class CoveragePoint:
    """Answering only from a confidence of ``threshold`` on: the share answered, and how much of it is right."""

    coverage: float
    accuracy: float
    threshold: float


@dataclass(frozen=True)
class SliceMetrics:
    """Figures of the rows of one kind; ``share`` is theirs of all rows."""

    name: str
    n: int
    share: float
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class StressResult:
    """One edit: how many rows it could be made on, the share whose label changed, and the accuracy before and after."""

    name: str
    n: int
    changed: float
    accuracy_before: float
    accuracy_after: float


@dataclass(frozen=True)
class Abstention:
    """Answering only where the confidence reaches ``threshold``, chosen for the accuracy ``wanted``.

    ``coverage`` and ``accuracy`` were measured on the evaluated rows; ``accuracy`` is None where none was answered.
    """

    wanted: float
    threshold: float
    coverage: float
    accuracy: float | None


@dataclass(frozen=True)
class ConfidentError:
    """A wrong answer that the model was sure of."""

    text: str
    expected: str
    answered: str
    confidence: float


@dataclass(frozen=True)
class ReliabilityReport:
    """What was measured beyond the plain figures, on the evaluated rows after training.

    Attributes:
        metric, temperature, tau: those of the calibrator that is saved with the adapter.
        fitted_on, fitted_rows: the split it was fitted on.
        cross_fitted: that split is the evaluated one; each row's figures then come from a calibrator fitted on others.
        decided: figures of calibrated answers by the decision for ``metric``.
        coverage: accuracy against coverage of those answers.
        abstention: the threshold for ``evaluate.wanted_accuracy``; None where none was wanted or none reaches it.
        slices, stress, errors: see their modules.
    """

    metric: MetricName
    temperature: float
    tau: float
    fitted_on: str
    fitted_rows: int
    cross_fitted: bool
    decided: Metrics
    coverage: tuple[CoveragePoint, ...]
    abstention: Abstention | None
    slices: tuple[SliceMetrics, ...]
    stress: tuple[StressResult, ...]
    errors: tuple[ConfidentError, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """The record that ``to_dict`` wrote."""
        return cls(
            **{
                **record,
                "decided": Metrics.from_dict(record["decided"]),
                "coverage": tuple(CoveragePoint(**one) for one in record["coverage"]),
                "abstention": None if record["abstention"] is None else Abstention(**record["abstention"]),
                "slices": tuple(SliceMetrics(**one) for one in record["slices"]),
                "stress": tuple(StressResult(**one) for one in record["stress"]),
                "errors": tuple(ConfidentError(**one) for one in record["errors"]),
            }
        )
