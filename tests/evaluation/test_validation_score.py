"""Trials are judged by calibrated log-loss, each row calibrated by the others; questions count alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from whinchat.data.dataset import Split
from whinchat.evaluation.validation_score import paired_gain_of_losses, score_decisions, score_labels
from whinchat.recipe.schema import EvaluateConfig


def scored(rows: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, Split]:
    """Return scores whose log-odds are ``sharpness`` times the true ones, and the rows."""
    draw = np.random.default_rng(seed)
    logits = 1.5 * draw.normal(size=(rows, 3))
    labels = [int(draw.choice(3, p=np.exp(own))) for own in log_softmax(logits, axis=1)]
    split = Split("validation", tuple(map(str, range(rows))), tuple(labels))
    return (sharpness * logits).astype(np.float32), split


def test_a_model_that_is_too_sure_is_not_punished() -> None:
    fair, rows = scored(400, 1.0)
    sure, _ = scored(400, 6.0)
    one, other = score_labels(fair, rows, EvaluateConfig()), score_labels(sure, rows, EvaluateConfig())
    assert other.raw_log_loss > 2 * one.raw_log_loss
    assert other.log_loss == pytest.approx(one.log_loss, abs=1e-4)
    assert other.log_loss == pytest.approx(other.row_losses.mean())
    assert other.metric == pytest.approx(one.metric)
    truth = -log_softmax(fair.astype(float), axis=1)[np.arange(400), rows.labels].mean()
    assert one.raw_log_loss == pytest.approx(truth)
    assert truth < one.log_loss < truth + 0.02, "nothing is fitted on the row that is judged"


def test_few_rows_and_certain_scores_give_finite_losses() -> None:
    rows = Split("validation", ("a",), (0,))
    only = score_labels(np.array([[-np.inf, 0.0]], dtype=np.float32), rows, EvaluateConfig())
    assert only.log_loss == only.raw_log_loss == 690
    pair = Split("validation", ("a", "b"), (0, 1))
    scores = np.array([[-1.0, -2.0], [-2.0, -1.0]], np.float32)
    assert np.isfinite(score_labels(scores, pair, EvaluateConfig()).log_loss)


def test_questions_count_alike_and_rows_without_an_answer_are_left_out() -> None:
    log_probs, rows = scored(60, 1.0)
    other, second = scored(60, 0.5, seed=1)
    answers = tuple(
        (label, None if row % 3 == 0 else second.labels[row], second.labels[row])
        for row, label in enumerate(rows.labels)
    )
    split = Split("validation", rows.texts, rows.labels, answers=answers)
    found = score_decisions([log_probs, other, other], split, ["one", "two", "two"], EvaluateConfig())
    kept = [row for row in range(60) if row % 3]
    parts = [
        score_labels(log_probs, rows, EvaluateConfig()),
        score_labels(other[kept], second.take(kept), EvaluateConfig()),
        score_labels(other, second, EvaluateConfig()),
    ]
    for name in ("log_loss", "raw_log_loss", "metric"):
        one, *of_two = (getattr(part, name) for part in parts)
        assert getattr(found, name) == pytest.approx((one + np.mean(of_two)) / 2)
    assert found.row_losses.mean() == pytest.approx(found.log_loss)


def test_the_interval_of_a_gain_is_that_of_paired_rows() -> None:
    old = np.random.default_rng(0).normal(size=500) ** 2
    gain, (low, high) = paired_gain_of_losses(old, old - 0.1)
    assert gain == pytest.approx(0.1)
    assert high - low < 1e-9, "the rows differ, their differences do not"
    _, (low, high) = paired_gain_of_losses(old, old[::-1])
    assert low < 0 < high
