"""Figures against scikit-learn and by hand."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)

from whinchat.evaluation.metrics import LabelScores, calibration_metrics, compute_metrics, macro_f1_of_rows, paired_test
from whinchat.evaluation.results import Evaluation, LabelMetrics, Metrics
from whinchat.evaluation.scoring import label_probabilities
from whinchat.recipe.schema import EvaluateConfig
from whinchat.storage.json_records import from_json, to_json

LABELS = ("negative", "neutral", "positive")


def measured(
    expected: list[int], predicted: list[int], labels: tuple[str, ...] = LABELS, resamples: int = 200
) -> Metrics:
    return compute_metrics(
        "generate",
        labels,
        np.array(expected),
        np.array(predicted),
        EvaluateConfig(bootstrap_resamples=resamples),
        seconds=1.5,
    )


def test_a_case_by_hand() -> None:
    #            right  right  wrong  invalid  right  wrong
    found = measured([0, 0, 0, 1, 2, 2], [0, 0, 1, -1, 2, 0])
    assert found.confusion == ((2, 1, 0), (0, 0, 0), (1, 0, 1))
    assert found.invalid == (0, 1, 0)
    assert found.n == 6
    assert found.accuracy == pytest.approx(3 / 6)
    assert found.invalid_rate == pytest.approx(1 / 6)
    # negative: precision 2/3, recall 2/3; neutral: 0; positive: precision 1, recall 1/2.
    assert [one.f1 for one in found.per_label] == pytest.approx([2 / 3, 0, 2 / 3])
    assert [one.precision for one in found.per_label] == pytest.approx([2 / 3, 0, 1])
    assert [one.recall for one in found.per_label] == pytest.approx([2 / 3, 0, 1 / 2])
    assert [one.support for one in found.per_label] == [3, 1, 2]
    assert [one.label for one in found.per_label] == list(LABELS)
    assert found.macro_f1 == pytest.approx(4 / 9)
    assert found.macro_recall == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), min_size=1, max_size=60))
def test_figures_equal_scikit_learns(rows: list[tuple[int, int]]) -> None:
    expected, predicted = [row[0] for row in rows], [row[1] for row in rows]
    found = measured(expected, predicted, ("a", "b", "c", "d"), resamples=100)
    present = sorted(set(expected))
    kwargs = {"labels": present, "average": "macro", "zero_division": 0}
    assert found.macro_f1 == pytest.approx(f1_score(expected, predicted, **kwargs))
    assert found.macro_f1 == macro_f1_of_rows(np.array(expected), np.array(predicted), 4)
    assert found.macro_recall == pytest.approx(recall_score(expected, predicted, **kwargs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of answers that are no label of the rows
        assert found.macro_recall == pytest.approx(balanced_accuracy_score(expected, predicted))
    assert found.accuracy == pytest.approx(accuracy_score(expected, predicted))
    each = precision_recall_fscore_support(expected, predicted, labels=[0, 1, 2, 3], zero_division=0)
    for label, one in enumerate(found.per_label):
        assert one.f1 == (pytest.approx(each[2][label]) if label in present else None)
    assert found.absent_labels == tuple("abcd"[label] for label in range(4) if label not in present)
    assert sum(map(sum, found.confusion)) + sum(found.invalid) == found.n == len(rows)
    for true, row in enumerate(found.confusion):
        assert row == tuple(rows.count((true, answer)) for answer in range(4))
        assert found.invalid[true] == rows.count((true, -1))


def test_labels_without_rows_are_left_out_of_averages() -> None:
    found = measured([0, 0, 2, 2, 2], [0, 0, 2, 2, 2])
    assert (found.accuracy, found.macro_f1, found.macro_recall) == (1, 1, 1)
    assert found.absent_labels == ("neutral",)
    assert found.per_label[1] == LabelMetrics("neutral", None, None, None, 0)
    # An answer with the absent label is an error of the row's own label.
    wrong = measured([0, 0, 2, 2], [0, 1, 2, 2])
    assert wrong.macro_recall == pytest.approx((1 / 2 + 1) / 2)
    assert wrong.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    one_class = measured([1, 1, 1], [1, 1, 0])
    assert (one_class.macro_recall, one_class.macro_f1) == (pytest.approx(2 / 3), pytest.approx(0.8))
    assert one_class.absent_labels == ("negative", "positive")


@pytest.mark.parametrize("rows", [1, 5, 10, 100, 1000])
def test_no_interval_is_without_width(rows: int) -> None:
    expected = [row % 2 for row in range(rows)]
    right = measured(expected, expected, resamples=4000)
    wrong = measured(expected, [2] * rows, resamples=4000)
    wrong_in_two_ways = measured([0] * rows, [1 + row % 2 for row in range(rows)], resamples=4000)
    # Jeffreys' interval of a proportion of 1, which is (q, 1) with the 2.5 % quantile q of Beta(n + 1/2, 1/2).
    low = beta.ppf(0.025, rows + 0.5, 0.5)
    for name in ("accuracy", "macro_f1", "macro_recall"):
        assert right.intervals[name].high == 1
        assert right.intervals[name].low < 1
        assert wrong.intervals[name].low == 0
        assert wrong.intervals[name].high > 0
        assert wrong_in_two_ways.intervals[name].low == 0
        assert wrong_in_two_ways.intervals[name].high > 0
    assert right.intervals["accuracy"].low == pytest.approx(low, abs=1.1 / rows if rows > 1 else 1)


def test_an_interval_of_a_change_is_without_width_only_where_nothing_changed() -> None:
    expected, wrong = np.array([0, 1, 2, 0]), np.array([1, 2, 0, 1])
    settings = EvaluateConfig(bootstrap_resamples=2000)
    found = paired_test("score", expected, wrong, expected, size=3, settings=settings)
    assert (found.fixed, found.broken, found.macro_f1_gain) == (4, 0, 1.0)
    assert found.interval.low < 1
    assert found.interval.high == 1
    same = paired_test("score", expected, wrong, wrong, size=3, settings=settings)
    assert (same.interval.low, same.interval.high, same.mcnemar_p) == (0.0, 0.0, 1.0)


def test_all_invalid_is_zero_everywhere() -> None:
    found = measured([0, 1, 2], [-1, -1, -1])
    assert (found.macro_f1, found.macro_recall, found.accuracy, found.invalid_rate) == (0, 0, 0, 1)
    assert found.invalid == (1, 1, 1)


def draw(rows: int, seed: int, right: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    expected = random.integers(0, 3, rows)
    predicted = np.where(random.random(rows) < right, expected, random.integers(-1, 3, rows))
    return expected, predicted


def test_intervals_hold_the_figure_and_shrink_with_rows() -> None:
    widths = []
    for rows in (60, 600, 6000):
        found = measured(*(one.tolist() for one in draw(rows, 1, 0.6)), resamples=2000)
        assert set(found.intervals) == {"macro_f1", "macro_recall", "accuracy"}
        for name, interval in found.intervals.items():
            assert interval.low < getattr(found, name) < interval.high
        widths.append(found.intervals["accuracy"].high - found.intervals["accuracy"].low)
        # The accuracy's interval is known: 2 * 1.96 standard errors.
        error = math.sqrt(found.accuracy * (1 - found.accuracy) / rows)
        assert widths[-1] == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert widths[0] > 2.5 * widths[1] > 6 * widths[2]


def test_intervals_equal_resampling_the_rows_themselves() -> None:
    expected, predicted = draw(150, 3, 0.5)
    found = measured(expected.tolist(), predicted.tolist(), resamples=4000)
    random = np.random.default_rng(7)
    drawn = []
    for _ in range(1500):
        rows = random.integers(0, 150, 150)
        drawn.append(f1_score(expected[rows], predicted[rows], labels=[0, 1, 2], average="macro", zero_division=0))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.intervals["macro_f1"].low == pytest.approx(low, abs=0.01)
    assert found.intervals["macro_f1"].high == pytest.approx(high, abs=0.01)


def test_intervals_follow_from_the_seed() -> None:
    expected, predicted = (one.tolist() for one in draw(80, 2, 0.5))
    assert measured(expected, predicted) == measured(expected, predicted)


def test_paired_by_hand() -> None:
    expected = np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 0, 1, 2])
    before = np.array([0, 1, -1, 0, 0, 1, 1, 1, 2, 2, 0, -1])
    after_ = np.array([0, 0, 1, 1, 2, 2, 0, 0, 2, 0, 1, -1])
    found = paired_test("generate", expected, before, after_, size=3, settings=EvaluateConfig(bootstrap_resamples=500))
    # Right before and wrong after: row 7. Wrong before and right after: rows 1 to 6, 9 and 10.
    assert (found.n, found.fixed, found.broken) == (12, 8, 1)
    assert found.mcnemar_p == pytest.approx(2 * (binom.pmf(0, 9, 0.5) + binom.pmf(1, 9, 0.5)))
    kwargs = {"labels": [0, 1, 2], "average": "macro", "zero_division": 0}
    assert found.macro_f1_gain == pytest.approx(
        f1_score(expected, after_, **kwargs) - f1_score(expected, before, **kwargs)
    )
    assert found.interval.low < found.macro_f1_gain < found.interval.high


def test_paired_without_a_difference() -> None:
    expected = np.array([0, 1, 2, 0])
    found = paired_test("score", expected, expected, expected, size=3, settings=EvaluateConfig(bootstrap_resamples=200))
    assert (found.fixed, found.broken, found.mcnemar_p, found.macro_f1_gain) == (0, 0, 1.0, 0.0)
    assert (found.interval.low, found.interval.high) == (0.0, 0.0)


def test_paired_is_narrower_than_two_separate_intervals() -> None:
    """The same rows are drawn on both sides, so what both get wrong cancels out."""
    expected, before = draw(400, 5, 0.5)
    after_ = before.copy()
    after_[:20] = expected[:20]
    both = paired_test("score", expected, before, after_, size=3, settings=EvaluateConfig(bootstrap_resamples=2000))
    alone = measured(expected.tolist(), before.tolist(), resamples=2000).intervals["macro_f1"]
    assert both.interval.high - both.interval.low < 0.6 * (alone.high - alone.low)
    assert both.interval.low > 0


def test_calibration_by_hand() -> None:
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.62, 0.38]])
    log_probs = np.log(chances * 0.5).astype(np.float32)  # half of all probability falls on other words
    expected = np.array([0, 1, 1, 0])
    found = calibration_metrics(LabelScores(log_probs, label_probabilities(log_probs)), expected)
    # Bins of 1/15: 0.6 and 0.62 fall into [9/15, 10/15), 0.7 into [10/15, 11/15), 0.9 into [13/15, 14/15).
    filled = {at: (one.n, one.confidence, one.accuracy) for at, one in enumerate(found.bins) if one.n}
    assert set(filled) == {9, 10, 13} or set(filled) == {8, 9, 10, 13}  # 0.6 is a border, up to float32
    assert sum(one.n for one in found.bins) == 4
    if 8 not in filled:
        assert filled[9] == (2, pytest.approx(0.61), 0.5)
        assert found.ece == pytest.approx((2 * 0.11 + 0.3 + 0.1) / 4, abs=1e-6)
    assert filled[10] == (1, pytest.approx(0.7), 1.0)
    brier = (2 * 0.1**2 + 2 * 0.6**2 + 2 * 0.3**2 + 2 * 0.38**2) / 4
    assert found.brier == pytest.approx(brier, abs=1e-6)
    assert found.log_loss == pytest.approx(
        -(math.log(0.9) + math.log(0.4) + math.log(0.7) + math.log(0.62)) / 4, abs=1e-6
    )
    assert found.label_mass == pytest.approx(0.5, abs=1e-6)


def test_calibration_of_the_extremes() -> None:
    sure = np.array([[0.0, -200.0], [-200.0, 0.0]], dtype=np.float32)
    found = calibration_metrics(LabelScores(sure, label_probabilities(sure)), np.array([0, 1]))
    assert (found.ece, found.brier) == (pytest.approx(0), pytest.approx(0))
    assert found.bins[-1].n == 2
    wrong = calibration_metrics(LabelScores(sure, label_probabilities(sure)), np.array([1, 0]))
    assert wrong.ece == pytest.approx(1)
    assert wrong.brier == pytest.approx(2)
    assert wrong.log_loss == pytest.approx(200, rel=1e-3)
    assert math.isfinite(wrong.log_loss)
    assert len(found.bins) == 15


def test_records_survive_json() -> None:
    expected, predicted = draw(50, 1, 0.7)
    log_probs = np.log(np.random.default_rng(0).dirichlet([1, 1, 1], 50)).astype(np.float32)
    scores = LabelScores(log_probs, label_probabilities(log_probs))
    settings = EvaluateConfig(bootstrap_resamples=100)
    best = log_probs.argmax(axis=1)
    by_score = compute_metrics("score", LABELS, expected, best, settings, scores=scores, seconds=2.0)
    spoken = compute_metrics("generate", LABELS, expected, predicted, settings, seconds=2.0)
    for whole in (Evaluation("test", "abc", by_score, spoken), Evaluation("validation", "abc", by_score, None)):
        text = json.dumps(to_json(whole), allow_nan=False)
        assert from_json(Evaluation, json.loads(text)) == whole
    top = json.loads(json.dumps(to_json(Evaluation("test", "abc", by_score, spoken))))
    for mode in ("score", "generate"):
        assert {"macro_f1", "macro_recall", "accuracy", "confusion", "labels", "invalid_rate", "n"} <= set(top[mode])


def test_right_probabilities_have_the_calibration_error_of_chance() -> None:
    rng = np.random.default_rng(3)
    log_probs = np.log(rng.dirichlet((1.5, 1.0, 0.7), size=2000)).astype(np.float32)
    scores = LabelScores(log_probs, label_probabilities(log_probs))
    errors, by_chance = [], []
    for _ in range(40):
        expected = np.array([rng.choice(3, p=row) for row in scores.probabilities])
        found = calibration_metrics(scores, expected)
        errors.append(found.ece)
        by_chance.append(found.chance_ece)
    assert np.mean(by_chance) == pytest.approx(np.mean(errors), rel=0.1)
    fewer = calibration_metrics(LabelScores(log_probs[:500], scores.probabilities[:500]), expected[:500])
    assert fewer.chance_ece == pytest.approx(2 * np.mean(by_chance), rel=0.1)
