"""Decide when to answer "unsure": accuracy against coverage, and the threshold for a wanted accuracy.

N: rows. T: distinct confidences. Coverage is the share of rows that get an answer.
"""

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.results import CoveragePoint

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_POINTS = 50
# The accuracy of fewer rows is too rough to choose a threshold by.
_FEWEST_ROWS = 30


def coverage_curve(confidence: Floats, correct: Bools) -> tuple[CoveragePoint, ...]:
    """Return the accuracy at up to 50 coverages, from the most confident rows to all rows.

    Args:
        confidence: probability of each answer, (N,).
        correct: whether each answer is right, (N,).

    Source: selective classification, Geifman and El-Yaniv 2017, section 2.
    """
    thresholds, answered, accuracy = _by_threshold(confidence, correct)
    usable = np.flatnonzero(answered >= min(_FEWEST_ROWS, len(correct)))
    if not len(usable):
        return ()
    # Spread the points evenly over the rows answered, and take no point twice.
    targets = np.linspace(answered[usable[0]], len(correct), _POINTS)
    chosen = sorted({int(usable[0] + np.searchsorted(answered[usable], rows)) for rows in targets})
    return tuple(
        CoveragePoint(float(answered[index] / len(correct)), float(accuracy[index]), float(thresholds[index]))
        for index in chosen
    )


def threshold_for(wanted_accuracy: float, confidence: Floats, correct: Bools) -> float | None:
    """Return the lowest confidence from which on the answers to validation rows reach ``wanted_accuracy``.

    Args:
        wanted_accuracy: share of answers that must be right.
        confidence: probability of each answer, (N,).
        correct: whether each answer is right, (N,).

    Returns:
        The threshold, or None when no threshold reaches the accuracy on enough rows.
    """
    thresholds, answered, accuracy = _by_threshold(confidence, correct)
    reached = np.flatnonzero((accuracy >= wanted_accuracy) & (answered >= min(_FEWEST_ROWS, len(correct))))
    return float(thresholds[reached[-1]]) if len(reached) else None


def _by_threshold(confidence: Floats, correct: Bools) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return every distinct confidence in falling order, with the number and accuracy of rows at or above it, (T,)."""
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    # Rows of equal confidence are answered together or not at all.
    last = np.append(np.flatnonzero(np.diff(sorted_confidence)), len(order) - 1) if len(order) else np.array([], int)
    answered = last + 1
    return sorted_confidence[last], answered, np.cumsum(correct[order])[last] / answered
