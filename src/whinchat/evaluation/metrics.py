"""Compute metrics from answers: confusion counts, every registered metric, intervals, paired tests, calibration.

K: labels. N: rows. R: bootstrap resamples. A predicted label is an index, or -1 for an answer that is no label.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from whinchat.evaluation.metric_registry import METRICS, Metric, macro_f1
from whinchat.evaluation.results import (
    CalibrationMetrics,
    Interval,
    LabelMetrics,
    Metrics,
    Mode,
    PairedTest,
    ReliabilityBin,
)
from whinchat.recipe.schema import EvaluateConfig, MetricName

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_BINS = 15
# Cells of resampled confusion matrices that are held at once.
_MOST_CELLS = 8_000_000


@dataclass(frozen=True)
class LabelScores:
    """Scores of the labels in every row.

    Attributes:
        log_probs: log-probabilities of the labels' answers over all strings, (N, K); in a row they sum to one or less.
        probabilities: probabilities normalized over the labels, (N, K); in a row they sum to one.
    """

    log_probs: NDArray[np.floating[Any]]
    probabilities: Floats


def compute_metrics(
    mode: Mode,
    labels: tuple[str, ...],
    expected: Ints,
    predicted: Ints,
    settings: EvaluateConfig,
    *,
    scores: LabelScores | None = None,
    seconds: float = 0.0,
) -> Metrics:
    """Measure one way of answering by every registered metric.

    Args:
        mode: the way of answering.
        labels: K label names.
        expected, predicted: true and predicted labels, (N,) each.
        settings: the recipe's ``evaluate``, for the bootstrap behind each 95 % interval.
        scores: scores of the labels; None for free generation.
        seconds: wall-clock time of answering.
    """
    size = len(labels)
    matrix = confusion_matrix(expected, predicted, labels=[*range(size), -1])[:size]  # (K, K + 1)
    precision, recall, f1, support = precision_recall_fscore_support(
        expected, predicted, labels=range(size), zero_division=0.0
    )
    probabilities = None if scores is None else scores.probabilities
    values, intervals = _values_and_intervals(matrix, expected, predicted, probabilities, settings)
    return Metrics(
        mode=mode,
        n=len(expected),
        labels=labels,
        values=values,
        invalid_rate=float((predicted < 0).mean()),
        per_label=tuple(
            LabelMetrics(label, float(precision[k]), float(recall[k]), float(f1[k]), int(support[k]))
            if support[k]
            else LabelMetrics(label, None, None, None, 0)
            for k, label in enumerate(labels)
        ),
        confusion=tuple(tuple(int(count) for count in row[:size]) for row in matrix),
        invalid=tuple(int(row[size]) for row in matrix),
        intervals=intervals,
        calibration=None if scores is None else calibration_metrics(scores, expected),
        seconds=seconds,
    )


def macro_f1_of_rows(expected: Ints, predicted: Ints, size: int) -> float:
    """Return macro-F1 over the labels that have rows, of true and predicted labels, (N,) each; ``size`` is K."""
    return float(macro_f1(count_answers(expected, predicted, size)[None])[0])


def count_answers(expected: Ints, predicted: Ints, size: int) -> Ints:
    """Return the confusion matrix, (K, K + 1), of true and predicted labels, (N,) each; ``size`` is K."""
    cells = expected * (size + 1) + np.where(predicted < 0, size, predicted)
    return np.bincount(cells, minlength=size * (size + 1)).reshape(size, size + 1)


def paired_test(
    mode: Mode, expected: Ints, before: Ints, after: Ints, *, size: int, settings: EvaluateConfig
) -> PairedTest:
    """Test ``after`` against ``before``, the predicted labels of the same rows, (N,) each; ``size`` is K."""
    fixed = int(((before != expected) & (after == expected)).sum())
    broken = int(((before == expected) & (after != expected)).sum())
    gain, interval = paired_gain("macro_f1", expected, before, after, size=size, settings=settings)
    return PairedTest(
        mode=mode,
        n=len(expected),
        fixed=fixed,
        broken=broken,
        mcnemar_p=float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0,
        macro_f1_gain=gain,
        interval=interval,
    )


def paired_gain(
    metric: MetricName, expected: Ints, before: Ints, after: Ints, *, size: int, settings: EvaluateConfig
) -> tuple[float, Interval]:
    """Return ``metric`` of ``after`` minus that of ``before``, with its 95 % paired-bootstrap interval.

    Args:
        metric: a metric of the confusion matrix.
        expected, before, after: true labels and two predictions of the same rows, (N,) each.
        size: K.
        settings: the recipe's ``evaluate``, for the bootstrap.
    """
    return paired_difference(METRICS[metric].function, expected, before, after, size=size, settings=settings)


def paired_difference(
    measure: Callable[..., Any], expected: Ints, before: Ints, after: Ints, *, size: int, settings: EvaluateConfig
) -> tuple[float, Interval]:
    """Return what ``paired_gain`` returns, for a function of confusion matrices (R, K, K + 1) that returns (R,).

    Resamples where the function is NaN, because it is not defined there, are left out; without any other the gain and
    both ends of the interval are NaN.
    """
    # Rows that agree in truth and both answers are interchangeable, so resampling their counts resamples the rows.
    cells, counts = np.unique(np.stack([expected, before, after]), axis=1, return_counts=True)
    shares = counts.astype(np.float64)
    if len(np.unique(cells[0])) == len(counts):
        # All rows of a label went the same way, and resampling them could show no other. As in ``_cell_shares``, half
        # a row in all counts as not changed.
        cells = np.concatenate([cells, cells[[0, 1, 1]]], axis=1)
        shares, counts = np.concatenate([shares, shares * 0.5 / len(expected)]), np.concatenate([counts, 0 * counts])
    truth, old, new = (np.where(row < 0, size, row) for row in cells)
    drawn = np.concatenate(list(_draw(shares, len(expected), settings)))  # (R, cells)
    # The rows as they are come first, the resamples after them.
    counted = np.concatenate([counts[None, :], drawn])
    gains = np.concatenate(
        [
            measure(_fold(part, truth, new, size)) - measure(_fold(part, truth, old, size))
            for part in np.array_split(counted, -(-len(counted) // _part(size * (size + 1))))
        ]
    )
    return float(gains[0]), interval_of(gains[1:])


def _chance_distance(of: ReliabilityBin) -> float:
    """Return n times the expected distance of a bin's accuracy from its confidence c, if the latter is right.

    That is sqrt(2 n c (1 - c) / pi), by the normal approximation of the binomial distribution. Source: Roelofs et al.
    2022, Mitigating bias in calibration error estimation (arXiv:2012.08668), which measures this bias of the ECE.
    """
    return math.sqrt(2 * of.n * of.confidence * max(0.0, 1 - of.confidence) / math.pi)


def calibration_metrics(scores: LabelScores, expected: Ints) -> CalibrationMetrics:
    """Measure how well label probabilities fit the true labels ``expected`` (N,)."""
    probabilities = scores.probabilities
    n, size = probabilities.shape
    top = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(n), top]
    correct = top == expected
    edges = np.linspace(0, 1, _BINS + 1)
    bin_of = np.clip(np.digitize(confidence, edges) - 1, 0, _BINS - 1)
    bins = []
    for index in range(_BINS):
        inside = bin_of == index
        means = (float(confidence[inside].mean()), float(correct[inside].mean())) if inside.any() else (0.0, 0.0)
        bins.append(ReliabilityBin(float(edges[index]), float(edges[index + 1]), int(inside.sum()), *means))
    truth = np.eye(size)[expected]
    chosen = probabilities[np.arange(n), expected]
    return CalibrationMetrics(
        ece=sum(bin_.n / n * abs(bin_.confidence - bin_.accuracy) for bin_ in bins),
        chance_ece=sum(map(_chance_distance, bins)) / n,
        brier=float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        log_loss=float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean()),
        label_mass=float(np.exp(scores.log_probs.astype(np.float64)).sum(axis=1).mean()),
        bins=tuple(bins),
    )


def _values_and_intervals(
    matrix: Ints, expected: Ints, predicted: Ints, probabilities: Floats | None, settings: EvaluateConfig
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return every registered metric that can be measured and is finite, and its bootstrap interval.

    Metrics of the confusion matrix (K, K + 1) or of predictions share one set of resampled matrices; a metric of
    probabilities resamples the rows themselves.
    """
    of_matrices = {
        name: metric.function if metric.needs == "confusion" else partial(_of_rows, metric.function)
        for name, metric in METRICS.items()
        if metric.needs != "probabilities"
    }
    resampled = _resample(of_matrices, _cell_shares(matrix), len(expected), settings)
    values, intervals = {}, {}
    samples: Floats | list[float]
    for name, metric in METRICS.items():
        if metric.needs == "confusion":
            value, samples = metric.function(matrix[None])[0], resampled[name]
        elif metric.needs == "predictions":
            value, samples = metric.function(expected, predicted), resampled[name]
        elif probabilities is not None:
            value = metric.function(expected, probabilities)
            samples = _resample_rows(metric, expected, probabilities, settings)
        else:
            continue
        finite = np.asarray(samples, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if np.isfinite(value) and len(finite):
            values[name], intervals[name] = float(value), interval_of(finite)
    return values, intervals


def intervals_of_matrix(
    functions: Mapping[str, Callable[..., Any]], matrix: Ints, settings: EvaluateConfig
) -> dict[str, Interval]:
    """Return the 95 % bootstrap interval of each function of the rows behind a confusion matrix; each has a width.

    Args:
        functions: name -> function of confusion matrices (R, K, K + 1) that returns (R,).
        matrix: the confusion matrix of the rows, (K, K + 1), without invalid answers.
        settings: the recipe's ``evaluate``.
    """
    shares, rows = _cell_shares(matrix), int(matrix.sum())
    intervals = {name: interval_of(values) for name, values in _resample(functions, shares, rows, settings).items()}
    constant = {name: functions[name] for name, found in intervals.items() if not found.low < found.high}
    if not constant:
        return intervals
    # Every resample shows the same, such as an F1 of 0 of an answer that was never right. As in ``_cell_shares``, half
    # a row in all shows something else: it is spread over the answers that no row has.
    unseen = (matrix == 0) & (matrix.sum(axis=1, keepdims=True) > 0)
    unseen[:, -1] = False
    shares = matrix + 0.5 * unseen / max(1, unseen.sum())
    return intervals | {
        name: interval_of(values) for name, values in _resample(constant, shares, rows, settings).items()
    }


def _resample(
    functions: Mapping[str, Callable[..., Any]], shares: Floats, rows: int, settings: EvaluateConfig
) -> dict[str, Floats]:
    """Return the values of functions of confusion matrices for R bootstrap resamples, (R,) each.

    Args:
        functions: name -> function of confusion matrices (R, K, K + 1) that returns (R,).
        shares: what share of the draws falls on each cell, (K, K + 1), up to a factor.
        rows: rows of a resample.
        settings: the recipe's ``evaluate``.
    """
    samples: dict[str, list[Floats]] = {name: [] for name in functions}
    for drawn in _draw(shares.ravel(), rows, settings):
        for name, function in functions.items():
            samples[name].append(np.asarray(function(drawn.reshape(-1, *shares.shape)), dtype=np.float64))
    return {name: np.concatenate(parts) for name, parts in samples.items()}


def _of_rows(function: Callable[[Ints, Ints], float], matrices: Ints) -> list[float]:
    """Return a function of true and predicted labels for each of the confusion matrices (R, K, K + 1)."""
    return [function(*_rows_of(matrix)) for matrix in matrices]


def _rows_of(matrix: Ints) -> tuple[Ints, Ints]:
    """Return true and predicted labels, (N,) each, whose confusion matrix is ``matrix`` (K, K + 1)."""
    truth, answer = np.indices(matrix.shape).reshape(2, -1)
    counts = matrix.ravel()
    return np.repeat(truth, counts), np.repeat(np.where(answer == len(matrix), -1, answer), counts)


def _resample_rows(metric: Metric, expected: Ints, probabilities: Floats, settings: EvaluateConfig) -> list[float]:
    """Return the metric of each of R draws of N rows with replacement."""
    generator = np.random.default_rng(settings.seed)
    draws = (generator.integers(0, len(expected), len(expected)) for _ in range(settings.bootstrap_resamples))
    return [metric.function(expected[rows], probabilities[rows]) for rows in draws]


def _cell_shares(matrix: Ints) -> Floats:
    """Return what share of the draws falls on each cell of a confusion matrix, (K, K + 1), up to a factor.

    The shares are the counts. Only where all rows of every label have the same answer, or no row has the right answer,
    so that resampling could show no other result and the interval would have no width, half a row in all is spread over
    the other answers: the Jeffreys prior of a proportion of 0 or 1 (Brown, Cai and DasGupta 2001, section 4).
    """
    shares = matrix.astype(np.float64)
    rows = shares.sum(axis=1, keepdims=True)
    if matrix.trace() and ((matrix > 0).sum(axis=1) > 1).any():
        return shares
    others = matrix == 0
    others[:, -1] &= bool(matrix[:, -1].any())  # label scoring always answers with a label
    spread: Floats = others * (0.5 * rows / rows.sum()) / others.sum(axis=1, keepdims=True).clip(min=1)
    return shares + spread


def _draw(shares: Floats, rows: int, settings: EvaluateConfig) -> Iterator[Ints]:
    """Draw bootstrap counts, (R, cells) in all: resampling rows with replacement is a multinomial draw over cells.

    R resamples come in parts, so that a matrix of hundreds of labels does not take gigabytes.
    """
    generator = np.random.default_rng(settings.seed)
    shares = shares / shares.sum()
    for start in range(0, settings.bootstrap_resamples, _part(len(shares))):
        count = min(_part(len(shares)), settings.bootstrap_resamples - start)
        yield generator.multinomial(rows, shares, size=count)


def _part(cells: int) -> int:
    """How many arrays of so many cells are held at once."""
    return max(1, _MOST_CELLS // cells)


def _fold(drawn: Ints, truth: Ints, answer: Ints, size: int) -> Ints:
    """Gather cell counts (R, cells) into confusion matrices (R, K, K + 1)."""
    matrices = np.zeros((len(drawn), size * (size + 1)), dtype=np.int64)
    np.add.at(matrices.T, truth * (size + 1) + answer, drawn.T)
    return matrices.reshape(len(drawn), size, size + 1)


def interval_of(values: Floats) -> Interval:
    """Return the middle 95 % of the values that are not NaN; NaN to NaN if there are none."""
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return Interval(float(low), float(high))
