"""Answers under re-estimated shares: better where only the shares moved, distrusted where more did, never silent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tests.evaluation.test_calibration import LABELS, PRIOR, drawn
from whinchat.errors import DataError, RunError
from whinchat.evaluation.calibration import Calibrator, fit
from whinchat.evaluation.metrics import measure_decision
from whinchat.evaluation.priors import Reestimation, ScoreBins
from whinchat.evaluation.reestimation import measure_reanswered, reanswer, require
from whinchat.publish.wording import verdict
from whinchat.recipe.recipe import Evaluate, Metric

SHIFTED = (0.6, 0.25, 0.15)
SETTINGS = Evaluate(bootstrap_resamples=100)


def fitted(metric: Metric) -> Calibrator:
    scores, labels = drawn(3000, 0)
    calibrator = fit(scores, labels, LABELS, metric)
    return replace(calibrator, bins=ScoreBins.of(calibrator.probabilities(scores), labels))


def shifted(rows: int = 3000, seed: int = 9, blur: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a model that knows PRIOR, on texts whose labels have the shares SHIFTED; ``blur`` scales evidence."""
    scores, labels = drawn(rows, seed, SHIFTED)
    evidence = scores - np.log(SHIFTED)
    return evidence * blur + np.log(PRIOR), labels


@pytest.mark.parametrize(("metric", "figure"), [("accuracy", "accuracy"), ("macro_f1", "macro_f1")])
def test_each_metric_gains_under_label_shift(metric: Metric, figure: str) -> None:
    scores, labels = shifted()
    calibrator = fitted(metric)
    found = measure_reanswered(calibrator, scores, labels, SETTINGS)
    assert found.reestimation.trusted
    np.testing.assert_allclose(found.reestimation.estimated, SHIFTED, atol=0.03)
    np.testing.assert_allclose(found.actual, np.bincount(labels) / len(labels))
    probabilities, answers = calibrator.probabilities(scores), calibrator.decide(scores)
    plain = measure_decision(LABELS, scores, probabilities, answers, labels, SETTINGS)
    assert getattr(found.reestimated, figure) > getattr(plain, figure) + 0.005
    assert found.reestimated.calibration is not None
    assert plain.calibration is not None
    assert found.reestimated.calibration.log_loss < plain.calibration.log_loss


def test_the_decision_is_bayes_rule_with_the_new_shares() -> None:
    scores, labels = shifted()
    plain = fitted("accuracy")
    found = reanswer(plain, scores)
    weights = plain.probabilities(scores) * np.array(found.reestimation.estimated) / np.array(plain.prior)
    np.testing.assert_allclose(found.probabilities, weights / weights.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(found.answers, weights.argmax(axis=1))
    assert found.reestimation.changed == (found.answers != found.plain_answers).sum() > 0
    assert accuracy_score(labels, found.answers) > accuracy_score(labels, found.plain_answers)
    weighed = reanswer(replace(plain, metric="macro_f1", tau=0.5), scores)
    powers = weights / np.sqrt(weighed.reestimation.estimated)
    np.testing.assert_array_equal(weighed.answers, powers.argmax(axis=1))
    assert f1_score(labels, weighed.answers, average="macro") > 0.5


def test_macro_recall_needs_no_shares() -> None:
    scores, _ = shifted()
    found = reanswer(fitted("macro_recall"), scores)
    # They enter the probability and leave the decision again.
    np.testing.assert_array_equal(found.answers, found.plain_answers)
    assert found.reestimation.changed == 0
    assert not np.allclose(found.probabilities, found.plain)


def test_a_label_that_no_text_has_is_not_ruled_out() -> None:
    scores, labels = shifted()
    found = reanswer(fitted("macro_f1"), scores[labels != 2] - np.array([0, 0, 900.0]))
    assert 0 < found.reestimation.estimated[2] < 0.001
    assert sum(found.reestimation.estimated) == pytest.approx(1)
    assert np.isfinite(found.probabilities).all()
    assert not (found.answers == 2).any()


def test_more_than_the_shares_has_changed() -> None:
    scores, labels = shifted(blur=0.4)
    found = measure_reanswered(fitted("accuracy"), scores, labels, SETTINGS).reestimation
    assert not found.trusted
    said = verdict(found)
    assert said.startswith("do not trust this: more than the label shares has changed (p < 0.001, ")
    assert said.endswith(" % of rows out of place)")
    assert verdict(replace(found, p_value=0.4)).startswith("trusted: ")


def test_what_it_needs() -> None:
    with pytest.raises(DataError, match="label shares cannot be estimated from 99 texts; give 100 or more at once"):
        require(fitted("accuracy"), 99, Path("run"))
    require(fitted("accuracy"), 100, Path("run"))
    with pytest.raises(RunError, match=r"^run: has no calibration on validation rows, .*data\.validation_rows"):
        require(Calibrator(LABELS), 5000, Path("run"))


def test_the_records_survive_json() -> None:
    scores, labels = shifted(400)
    found = measure_reanswered(fitted("accuracy"), scores, labels, SETTINGS)
    written = json.loads(json.dumps(found.to_dict()))
    assert Reestimation.from_dict(written["reestimation"]) == found.reestimation
    assert written["reestimation"]["trusted"] is found.reestimation.trusted
    assert written["reestimated"]["mode"] == "decide"
