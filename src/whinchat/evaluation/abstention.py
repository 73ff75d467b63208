"""When to answer "unsure": accuracy against coverage, and the threshold for a wanted accuracy. N: rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.results import CoveragePoint

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_POINTS = 50
# An accuracy over fewer rows is an accident.
_FEWEST_ROWS = 30


def coverage_curve(confidence: Floats, right: Bools) -> tuple[CoveragePoint, ...]:
    """Accuracy at up to 50 coverages, from few rows to all; ``confidence`` and ``right`` are (N,).

    Source: selective classification, Geifman and El-Yaniv 2017, section 2.
    """
    thresholds, answered, accuracy = _by_threshold(confidence, right)
    usable = np.flatnonzero(answered >= min(_FEWEST_ROWS, len(right)))
    # Evenly over the rows answered, and never the same point twice.
    if not len(usable):
        return ()
    wanted = np.linspace(answered[usable[0]], len(right), _POINTS)
    chosen = sorted({int(usable[0] + np.searchsorted(answered[usable], rows)) for rows in wanted})
    return tuple(
        CoveragePoint(float(answered[at] / len(right)), float(accuracy[at]), float(thresholds[at])) for at in chosen
    )


def threshold_for(wanted: float, confidence: Floats, right: Bools) -> float | None:
    """The lowest confidence from which on the answers to validation rows (N,) are right as often as ``wanted``.

    Returns:
        The threshold; None where no threshold reaches that on enough rows.
    """
    thresholds, answered, accuracy = _by_threshold(confidence, right)
    reached = np.flatnonzero((accuracy >= wanted) & (answered >= min(_FEWEST_ROWS, len(right))))
    return float(thresholds[reached[-1]]) if len(reached) else None


def _by_threshold(confidence: Floats, right: Bools) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Every distinct confidence from high to low, with the rows at or above it and their accuracy."""
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    # Rows of equal confidence are answered together or not at all.
    last = np.append(np.flatnonzero(np.diff(sorted_confidence)), len(order) - 1) if len(order) else np.array([], int)
    answered = last + 1
    return sorted_confidence[last], answered, np.cumsum(right[order])[last] / answered
