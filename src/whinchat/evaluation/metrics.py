"""From answers to figures: confusion, macro averages, intervals, paired tests, calibration.

K: labels. N: rows. R: bootstrap resamples. A prediction is a label's index, or -1 for an invalid answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from whinchat.evaluation.results import (
    CalibrationMetrics,
    Interval,
    LabelMetrics,
    Metrics,
    Mode,
    PairedTest,
    ReliabilityBin,
)
from whinchat.recipe.schema import EvaluateConfig

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_BINS = 15


def compute_metrics(
    mode: Mode,
    labels: tuple[str, ...],
    expected: Ints,
    predicted: Ints,
    *,
    calibration: CalibrationMetrics | None,
    resamples: int,
    seed: int,
    seconds: float,
) -> Metrics:
    """Every figure of one way of answering. ``expected`` and ``predicted`` are (N,)."""
    size = len(labels)
    matrix = confusion_matrix(expected, predicted, labels=[*range(size), -1])[:size]  # (K, K + 1)
    precision, recall, f1, support = precision_recall_fscore_support(
        expected, predicted, labels=range(size), zero_division=0.0
    )
    return Metrics(
        mode=mode,
        n=len(expected),
        labels=labels,
        values={
            "macro_f1": float(f1.mean()),
            "macro_recall": float(recall.mean()),
            "accuracy": float((expected == predicted).mean()),
        },
        invalid_rate=float((predicted < 0).mean()),
        per_label=tuple(
            LabelMetrics(label, float(precision[at]), float(recall[at]), float(f1[at]), int(support[at]))
            for at, label in enumerate(labels)
        ),
        confusion=tuple(tuple(int(count) for count in row[:size]) for row in matrix),
        invalid=tuple(int(row[size]) for row in matrix),
        intervals=_intervals(matrix, resamples, seed),
        calibration=calibration,
        seconds=seconds,
    )


def compute_calibrated_metrics(
    labels: tuple[str, ...],
    log_probs: NDArray[np.floating[Any]],
    probabilities: Floats,
    answers: Ints,
    expected: Ints,
    settings: EvaluateConfig,
) -> Metrics:
    """Figures of calibrated ``probabilities`` (N, K) and ``answers`` (N,) to texts with scores ``log_probs`` (N, K)."""
    return compute_metrics(
        "calibrated",
        labels,
        expected,
        answers,
        calibration=calibration_metrics(log_probs, probabilities, expected),
        resamples=settings.bootstrap_resamples,
        seed=settings.seed,
        seconds=0.0,
    )


def paired_test(
    mode: Mode, expected: Ints, before: Ints, after: Ints, *, size: int, resamples: int, seed: int
) -> PairedTest:
    """After against before on the same rows, all (N,); ``size`` is K."""
    fixed = int(((before != expected) & (after == expected)).sum())
    broken = int(((before == expected) & (after != expected)).sum())
    # Rows that agree in truth and both answers are interchangeable, so resampling their counts resamples the rows.
    cells, counts = np.unique(np.stack([expected, before, after]), axis=1, return_counts=True)
    truth, old, new = (np.where(row < 0, size, row) for row in cells)
    drawn = _draw(counts, resamples, seed)  # (R, cells)
    gains = _figures(_fold(drawn, truth, new, size))[0] - _figures(_fold(drawn, truth, old, size))[0]
    actual = counts[None, :]
    gain = _figures(_fold(actual, truth, new, size))[0] - _figures(_fold(actual, truth, old, size))[0]
    return PairedTest(
        mode=mode,
        n=len(expected),
        fixed=fixed,
        broken=broken,
        mcnemar_p=float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0,
        macro_f1_gain=float(gain[0]),
        interval=_interval(gains),
    )


def calibration_metrics(
    log_probs: NDArray[np.floating[Any]], probabilities: Floats, expected: Ints
) -> CalibrationMetrics:
    """How far the label probabilities (N, K) can be believed; ``log_probs`` (N, K) are over all strings."""
    n, size = probabilities.shape
    top = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(n), top]
    right = top == expected
    edges = np.linspace(0, 1, _BINS + 1)
    which = np.clip(np.digitize(confidence, edges) - 1, 0, _BINS - 1)
    bins = []
    for at in range(_BINS):
        inside = which == at
        count = int(inside.sum())
        bins.append(
            ReliabilityBin(
                low=float(edges[at]),
                high=float(edges[at + 1]),
                n=count,
                confidence=float(confidence[inside].mean()) if count else 0.0,
                accuracy=float(right[inside].mean()) if count else 0.0,
            )
        )
    truth = np.eye(size)[expected]
    chosen = probabilities[np.arange(n), expected]
    return CalibrationMetrics(
        ece=sum(one.n / n * abs(one.confidence - one.accuracy) for one in bins),
        brier=float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        log_loss=float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean()),
        label_mass=float(np.exp(log_probs.astype(np.float64)).sum(axis=1).mean()),
        bins=tuple(bins),
    )


def _intervals(matrix: Ints, resamples: int, seed: int) -> dict[str, Interval]:
    size = len(matrix)
    drawn = _draw(matrix.ravel(), resamples, seed).reshape(resamples, size, size + 1)
    names = ("macro_f1", "macro_recall", "accuracy")
    return {name: _interval(values) for name, values in zip(names, _figures(drawn), strict=True)}


def _draw(counts: Ints, resamples: int, seed: int) -> Ints:
    """Bootstrap counts, (R, cells): drawing N rows with replacement is a multinomial draw over equal rows."""
    total = counts.sum()
    return np.random.default_rng(seed).multinomial(total, counts / total, size=resamples)


def _fold(drawn: Ints, truth: Ints, answer: Ints, size: int) -> Ints:
    """Cell counts (R, cells) gathered into confusion matrices (R, K, K + 1)."""
    matrices = np.zeros((len(drawn), size * (size + 1)), dtype=np.int64)
    np.add.at(matrices.T, truth * (size + 1) + answer, drawn.T)
    return matrices.reshape(len(drawn), size, size + 1)


def _figures(matrices: Ints) -> tuple[Floats, Floats, Floats]:
    """Macro-F1, macro-recall and accuracy of confusion matrices (R, K, K + 1), each (R,)."""
    size = matrices.shape[1]
    hits = matrices[:, range(size), range(size)].astype(np.float64)  # (R, K)
    support = matrices.sum(axis=2)
    answered = matrices[:, :, :size].sum(axis=1)
    f1 = 2 * hits / np.maximum(support + answered, 1)
    recall = hits / np.maximum(support, 1)
    return f1.mean(axis=1), recall.mean(axis=1), hits.sum(axis=1) / support.sum(axis=1)


def _interval(values: Floats) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))
