"""Flipped labels are found, counted and put first."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from whinchat.evaluation.label_noise import FoldRecord, LabelPair, Review, find_label_noise, label_pairs, reviewed_rows
from whinchat.storage.json_records import from_json, to_json

LABELS = ("a", "b")

# Four rows given a, of which the last is surely b; three given b.
HAND = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.25, 0.75]])
GIVEN = np.array([0, 0, 0, 0, 1, 1, 1])


def test_a_case_by_hand() -> None:
    found = find_label_noise(HAND, GIVEN)
    np.testing.assert_allclose(found.thresholds, [0.6, 0.75])
    # Row 5 reaches no threshold and is counted nowhere; it keeps its label.
    np.testing.assert_array_equal(found.counts, [[3, 1], [0, 2]])
    np.testing.assert_array_equal(found.suspected, [0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(found.estimated, [[3, 1], [0, 3]])
    np.testing.assert_allclose(found.margins, [-0.8, -0.6, -0.2, 0.8, -0.6, -0.4, -0.5])
    assert found.ranked == [3, 2, 5, 6, 1, 4, 0]
    assert label_pairs(found, LABELS) == (LabelPair("a", "b", 1, 1.0),)


def test_no_row_is_suspected_of_a_label_that_is_never_given() -> None:
    found = find_label_noise(HAND, np.zeros(7, dtype=np.int64))
    assert found.thresholds.tolist() == [pytest.approx(HAND[:, 0].mean()), np.inf]
    assert found.suspected.tolist() == [0] * 7
    assert found.estimated.tolist() == [[7, 0], [0, 0]]


def test_rows_name_themselves() -> None:
    texts = [f"text {at}" for at in range(7)]
    rows = reviewed_rows(find_label_noise(HAND, GIVEN), HAND, GIVEN, texts, range(10, 17), LABELS)
    assert [row.row for row in rows] == [13, 12, 15, 16, 11, 14, 10]
    first = rows[0]
    assert (first.text, first.label, first.model_label, first.suspected) == ("text 3", "a", "b", "b")
    assert (first.label_probability, first.model_probability) == (0.1, 0.9)
    assert first.margin == pytest.approx(0.8)
    assert all(row.suspected is None for row in rows[1:])


def test_a_row_over_two_thresholds_is_of_the_likelier_label() -> None:
    probabilities = np.array([[0.3, 0.3, 0.4], [0.3, 0.2, 0.5], [0.2, 0.35, 0.45], [0.45, 0.35, 0.2]])
    found = find_label_noise(probabilities, np.array([0, 1, 2, 0]))
    np.testing.assert_allclose(found.thresholds, [0.375, 0.2, 0.45])
    # Row 1 reaches those of its own label and of the third.
    assert found.suspected.tolist() == [1, 2, 2, 0]


def test_equal_probabilities_reach_their_own_mean() -> None:
    # The mean of three times 0.1 is above 0.1 in floating point.
    probabilities = np.array([[0.1, 0.9]] * 3 + [[0.9, 0.1]] * 3)
    found = find_label_noise(probabilities, np.array([0, 0, 0, 1, 1, 1]))
    assert found.counts.sum() == 6
    assert np.isfinite(found.estimated).all()


@pytest.mark.parametrize("flipped", [0.05, 0.15])
def test_flipped_labels_are_found(flipped: float) -> None:
    draw = np.random.default_rng(0)
    rows = 3000
    truth = draw.choice(3, size=rows, p=(0.2, 0.5, 0.3))
    features = np.eye(3)[truth] * 3 + draw.normal(size=(rows, 3))
    wrong = draw.random(rows) < flipped
    given = np.where(wrong, (truth + draw.integers(1, 3, rows)) % 3, truth)
    probabilities = cross_val_predict(LogisticRegression(), features, given, cv=3, method="predict_proba")
    found = find_label_noise(probabilities, given)
    top = found.ranked[: int(wrong.sum())]
    assert wrong[top].mean() > 10 * flipped / (1 + 10 * flipped)
    assert wrong[top[: len(top) // 2]].mean() > 0.9
    off_diagonal = found.estimated.sum() - found.estimated.trace()
    assert off_diagonal == pytest.approx(wrong.sum(), rel=0.5)
    assert (found.suspected != given).sum() == found.counts.sum() - found.counts.trace()


def test_every_row_of_the_estimate_adds_up() -> None:
    draw = np.random.default_rng(1)
    given = draw.integers(0, 4, 400)
    found = find_label_noise(draw.dirichlet(np.ones(4), 400), given)
    np.testing.assert_allclose(found.estimated.sum(axis=1), np.bincount(given))


def test_the_record_survives_json() -> None:
    review = Review(
        "0.1", "model", None, "data", "revision", "f" * 64, 7, LABELS, (FoldRecord(4, "a", 3, 9, None),), 1.5, 0.8,
        0.7, (0.6, 0.75), 1, 1.0, (LabelPair("a", "b", 1, 1.0),), None,
    )  # fmt: skip
    assert from_json(Review, json.loads(json.dumps(to_json(review)))) == review
