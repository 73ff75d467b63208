"""Frozen records of an evaluation, the same before and after training.

K: labels. N: evaluated rows. Every figure that a card or report shows comes from here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

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
