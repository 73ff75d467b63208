"""Thresholds and curves against counting by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from whinchat.evaluation.abstention import coverage_curve, threshold_for


def test_threshold_for_a_wanted_accuracy() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.3, 1, 5000)
    right = draw.uniform(size=5000) < confidence
    threshold = threshold_for(0.8, confidence, right)
    assert threshold is not None
    kept = confidence >= threshold
    assert right[kept].mean() >= 0.8
    # Confidence is the chance of being right, so about the upper 40 of 70 points are kept.
    assert abs(kept.mean() - 4 / 7) < 0.05
    assert threshold_for(1.0, confidence, np.zeros(5000, dtype=bool)) is None


def test_rows_of_equal_confidence_stay_together() -> None:
    confidence = np.repeat([0.9, 0.8], 50)
    right = np.r_[np.ones(50), np.zeros(25), np.ones(25)].astype(bool)
    assert [(point.coverage, point.accuracy) for point in coverage_curve(confidence, right)] == [
        (0.5, 1.0),
        (1.0, 0.75),
    ]
    assert threshold_for(0.9, confidence, right) == 0.9
    assert threshold_for(0.7, confidence, right) == 0.8


def test_the_curve_ends_at_all_rows() -> None:
    draw = np.random.default_rng(1)
    confidence, right = draw.uniform(size=700), draw.uniform(size=700) < 0.6
    curve = coverage_curve(confidence, right)
    assert curve[-1].coverage == 1.0
    assert curve[-1].accuracy == right.mean()
    assert len(curve) <= 50
    assert all(one.coverage < other.coverage for one, other in pairwise(curve))
    assert coverage_curve(np.array([]), np.array([], dtype=bool)) == ()
