"""The threshold of a student: the test keeps its promise, and says so where no threshold passes."""

from __future__ import annotations

import numpy as np
import pytest

from whinchat.evaluation.agreement_test import fewest_texts, find_threshold

Generator = np.random.Generator


def draw(generator: Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and agreement that is as probable as each says."""
    confidence = generator.uniform(0.5, 1, rows)
    return confidence, generator.uniform(size=rows) < confidence


def test_the_promise_holds_in_nine_of_ten_draws() -> None:
    generator, delta, wanted, broken = np.random.default_rng(0), 0.1, 0.9, 0
    for _ in range(300):
        test = find_threshold(*draw(generator, 600), wanted, delta)
        if test.threshold is not None:
            # Above a threshold t, the mean confidence is (1 + t) / 2.
            broken += (1 + test.threshold) / 2 < wanted
    assert broken / 300 < delta + 0.03


def test_more_texts_let_the_student_answer_more() -> None:
    generator = np.random.default_rng(1)
    few, many = (find_threshold(*draw(generator, rows), 0.9, 0.05) for rows in (600, 60_000))
    assert few.coverage < many.coverage < 0.41
    assert many.interval is not None
    assert many.interval.low < many.agreeing / many.answered < many.interval.high


def test_nothing_is_answered_where_no_threshold_passes() -> None:
    confidence, agrees = np.linspace(0.5, 1, 1000), np.zeros(1000, dtype=bool)
    test = find_threshold(confidence, agrees, 0.9, 0.05)
    assert (test.threshold, test.answered, test.coverage, test.interval) == (None, 0, 0.0, None)
    empty = find_threshold(np.zeros(0), np.zeros(0, dtype=bool), 0.9, 0.05)
    assert (empty.threshold, empty.coverage) == (None, 0.0)


def test_all_texts_are_answered_where_all_agree() -> None:
    test = find_threshold(np.linspace(0.5, 1, 1000), np.ones(1000, dtype=bool), 0.95, 0.05)
    assert test.coverage == 1


def test_texts_of_equal_confidence_stay_together() -> None:
    confidence = np.repeat([0.9, 0.8], 500)
    agrees = np.concatenate([np.ones(500, dtype=bool), np.arange(500) % 2 == 0])
    test = find_threshold(confidence, agrees, 0.95, 0.05)
    assert (test.threshold, test.answered) == (0.9, 500)


@pytest.mark.parametrize(("wanted", "needed"), [(0.95, 236), (0.99, 1196)])
def test_how_many_texts_the_first_test_takes(wanted: float, needed: int) -> None:
    assert fewest_texts(wanted, 0.05) == needed
