"""What re-estimating label shares is worth on a run's own rows, where the truth is known.

The rows that a run evaluated are parted in two, time and again: on one half a calibrator is fitted, the other is
thinned out until its labels have other shares, and answered with and without re-estimation.

N: rows. K: labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score

from whinchat.errors import DataError
from whinchat.evaluation.calibration import fit
from whinchat.evaluation.priors import FEWEST_TEXTS
from whinchat.evaluation.reestimation import reanswer
from whinchat.recipe.recipe import Metric

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FACTORS = (0.25, 0.5, 2.0, 4.0)
# A label that is nearly all there is leaves nothing to decide.
_MOST = 0.9
_NAMES = {0.25: "4x rarer", 0.5: "2x rarer", 2.0: "2x more frequent", 4.0: "4x more frequent"}


@dataclass(frozen=True)
class Figures:
    """Means over all draws."""

    accuracy: float
    macro_f1: float
    macro_recall: float


@dataclass(frozen=True)
class Scenario:
    """One set of label shares.

    Attributes:
        name: what was done to the shares.
        shares: of each label, (K,).
        texts: rows in each draw.
        plain, reestimated: figures of calibrated answers without and with re-estimated shares.
        share_error: mean over draws of the largest difference between an estimated share and the true one.
        trusted: share of the draws that the shift test trusts; it ought to trust all of them.
    """

    name: str
    shares: tuple[float, ...]
    texts: int
    plain: Figures
    reestimated: Figures
    share_error: float
    trusted: float


@dataclass(frozen=True)
class ShiftStudy:
    """Every scenario that the rows were enough for; ``skipped`` names the others."""

    split: str
    rows: int
    labels: tuple[str, ...]
    metric: Metric
    seeds: int
    scenarios: tuple[Scenario, ...]
    skipped: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """The record that ``to_dict`` wrote."""
        scenarios = tuple(
            Scenario(
                **{
                    **one,
                    "shares": tuple(one["shares"]),
                    "plain": Figures(**one["plain"]),
                    "reestimated": Figures(**one["reestimated"]),
                }
            )
            for one in record["scenarios"]
        )
        own = {"labels": tuple(record["labels"]), "skipped": tuple(record["skipped"]), "scenarios": scenarios}
        return cls(**{**record, **own})


def study_shift(
    log_probs: Floats, expected: Ints, labels: tuple[str, ...], metric: Metric, split: str, seeds: int = 50
) -> ShiftStudy:
    """Try re-estimation under several label shares.

    Args:
        log_probs: scores of the labels, (N, K).
        expected: true labels, (N,).
        labels: their names.
        metric: what decisions shall serve.
        split: name of the split the rows are of.
        seeds: draws of each scenario.

    Raises:
        DataError: half of the rows is too few to estimate shares from.
    """
    shares = np.bincount(expected, minlength=len(labels)) / len(expected)
    tried: list[Scenario] = []
    skipped: list[str] = []
    for name, wanted in _scenarios(shares, labels):
        texts = _most_texts(expected, wanted)
        if texts < FEWEST_TEXTS:
            skipped.append(name)
            continue
        draws = [_draw(log_probs, expected, labels, metric, wanted, texts, seed) for seed in range(seeds)]
        means = np.mean(draws, axis=0).tolist()
        tried.append(
            Scenario(name, tuple(wanted.tolist()), texts, Figures(*means[:3]), Figures(*means[3:6]), means[6], means[7])
        )
    if not tried:
        raise DataError(
            f"shift: half of the {len(expected)} rows of {split} gives fewer than {FEWEST_TEXTS} texts; "
            "evaluate on more rows (evaluate.rows, data.validation_rows)"
        )
    return ShiftStudy(split, len(expected), labels, metric, seeds, tuple(tried), tuple(skipped))


def _scenarios(shares: Floats, labels: Sequence[str]) -> list[tuple[str, Floats]]:
    """Name and shares (K,): as they are, then each label rarer and more frequent, the others keeping their ratios."""
    found = [("as they are", shares)]
    for at, label in enumerate(labels):
        for factor in _FACTORS:
            share = shares[at] * factor
            if 0 < share <= _MOST:
                wanted = shares * (1 - share) / (1 - shares[at])
                wanted[at] = share
                found.append((f"{label} {_NAMES[factor]}", wanted))
    return found


def _most_texts(expected: Ints, wanted: Floats) -> int:
    """Rows that half of ``expected`` (N,) has in the shares ``wanted`` (K,).

    Rows are left out, never repeated: copies would look like more texts than there are, and the test would be right to
    distrust them.
    """
    there = np.bincount(expected, minlength=len(wanted)) // 2
    return int(np.min(there[wanted > 0] / wanted[wanted > 0]))


def _draw(
    log_probs: Floats, expected: Ints, labels: tuple[str, ...], metric: Metric, wanted: Floats, texts: int, seed: int
) -> list[float]:
    """Figures without and with re-estimation, the largest error of a share, and 1 if the test trusts it."""
    draw = np.random.default_rng(seed)
    known, unknown = [], []
    for label, share in enumerate(wanted):
        rows = draw.permutation(np.flatnonzero(expected == label))
        half = len(rows) // 2
        unknown.append(rows[: min(half, round(texts * float(share)))])
        known.append(rows[half:])
    inside, outside = np.concatenate(known), np.concatenate(unknown)
    calibrator = fit(log_probs[inside], expected[inside], labels, metric)
    found, truth = reanswer(calibrator, log_probs[outside]), expected[outside]
    actual = np.bincount(truth, minlength=len(labels)) / len(truth)
    error = float(np.abs(np.array(found.reestimation.estimated) - actual).max())
    plain, again = _figures(truth, found.plain_answers, len(labels)), _figures(truth, found.answers, len(labels))
    return [*plain, *again, error, float(found.reestimation.trusted)]


def _figures(expected: Ints, answers: Ints, size: int) -> list[float]:
    present = np.unique(expected)
    return [
        float(accuracy_score(expected, answers)),
        float(f1_score(expected, answers, labels=range(size), average="macro", zero_division=0.0)),
        float(recall_score(expected, answers, labels=present, average="macro", zero_division=0.0)),
    ]
