"""Temperature and decision rule recover what the scores were made with."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, recall_score

from tests.helpers.label_scores import LABELS, PRIOR, drawn
from whinchat.errors import ModelError
from whinchat.evaluation.calibration import CALIBRATION_FILE, Calibrator, fit_calibrator, fit_temperature


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_recovered(temperature: float) -> None:
    scores, labels = drawn(20_000)
    found, bias = fit_temperature(scores * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    assert np.ptp(bias) < 0.1


def test_scores_of_a_model_that_was_trained_to_favour_a_label_are_set_right() -> None:
    """As class weights or logit adjustment leave them."""
    scores, labels = drawn(20_000)
    favouring = scores * 2 + np.array([3.0, 0.0, -1.0])
    fitted = fit_calibrator(favouring, labels, LABELS, "accuracy")
    probabilities = fitted.probabilities(favouring)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(probabilities.mean(axis=0), PRIOR, atol=0.01)
    np.testing.assert_allclose(probabilities, np.exp(scores), atol=0.05)
    assert (fitted.decide(favouring) == labels).mean() > (favouring.argmax(axis=1) == labels).mean() + 0.05


def test_few_rows_leave_the_bias_near_zero() -> None:
    scores, _ = drawn(4)
    _, bias = fit_temperature(scores, np.array([0, 0, 0, 0]))
    assert np.abs(bias).max() < 2


def test_each_metric_is_served_best_by_its_own_rule() -> None:
    scores, labels = drawn(20_000)
    held_out, truth = drawn(40_000, seed=1)
    figures = {
        "accuracy": accuracy_score,
        "macro_f1": lambda truth, said: f1_score(truth, said, average="macro"),
        "macro_recall": lambda truth, said: recall_score(truth, said, average="macro"),
    }
    said = {metric: fit_calibrator(scores, labels, LABELS, metric).decide(held_out) for metric in figures}
    for metric, figure in figures.items():
        mine = figure(truth, said[metric])
        for other in figures:
            assert mine >= figure(truth, said[other]) - 0.002, (metric, other)
    assert (
        figures["macro_recall"](truth, said["macro_recall"]) > figures["macro_recall"](truth, said["accuracy"]) + 0.01
    )


def test_a_label_that_validation_lacks_keeps_a_finite_weight() -> None:
    scores, labels = drawn(300)
    fitted = fit_calibrator(scores, np.where(labels == 0, 1, labels), LABELS, "macro_recall")
    assert np.isfinite(np.log(fitted.prior)).all()


def test_nothing_fitted_leaves_scores_as_they_are() -> None:
    scores, _ = drawn(50)
    plain = Calibrator(LABELS)
    np.testing.assert_allclose(plain.probabilities(scores), softmax(scores, axis=1))
    assert (plain.decide(scores) == scores.argmax(axis=1)).all()


def test_saved_beside_the_adapter(tmp_path: Path) -> None:
    scores, labels = drawn(400)
    fitted = fit_calibrator(scores, labels, LABELS, "macro_f1")
    fitted.save(tmp_path)
    assert Calibrator.load(tmp_path, LABELS) == fitted
    with pytest.raises(ModelError, match="made for the labels a, b, c, the task has a, b"):
        Calibrator.load(tmp_path, ("a", "b"))
    (tmp_path / CALIBRATION_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="not a calibration"):
        Calibrator.load(tmp_path, LABELS)
    (tmp_path / CALIBRATION_FILE).unlink()
    assert Calibrator.load(tmp_path, LABELS) == Calibrator(LABELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": float("nan")}, r"temperature: .*finite number, found nan"),
        ({"temperature": float("inf")}, r"temperature: .*finite number, found inf"),
        ({"temperature": 0}, r"temperature: .*greater than or equal to 0\.0.*, found 0"),
        ({"temperature": -1.0}, r"temperature: .*greater than or equal to 0\.0.*, found -1\.0"),
        ({"temperature": 1e-300}, r"temperature: .*found 1e-300"),
        ({"temperature": 1e300}, r"temperature: .*less than or equal to 20.*found 1e\+300"),
        ({"bias": [0.0, float("nan"), 0.0]}, r"bias\.1: .*finite number, found nan"),
        ({"bias": [0.0]}, "bias has 1 values for 3 labels"),
        ({"prior": [0.5, 0.5, 0.0]}, r"prior\.2: .*greater than 0, found 0\.0"),
        ({"prior": [0.5, 0.5, float("-inf")]}, r"prior\.2: .*finite number, found -inf"),
        ({"prior": [], "tau": 0.5}, "prior has 0 values for 3 labels"),
        ({"tau": float("nan")}, r"tau: .*finite number"),
        ({"tau": -3.0}, r"tau: .*greater than or equal to 0"),
        ({"threshold": float("nan")}, r"threshold: .*finite number"),
        ({"threshold": 2.0}, r"threshold: .*less than or equal to 1"),
        ({"rows": -1}, r"rows: .*greater than or equal to 0"),
    ],
)
def test_a_file_with_numbers_that_no_fit_gives_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    fitted = fit_calibrator(*drawn(400), LABELS, "macro_f1")
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(asdict(fitted) | change), encoding="utf-8")
    with pytest.raises(
        ModelError, match=rf"calibration\.json: (not a calibration \()?{message}.*whinchat calibrate RUN"
    ):
        Calibrator.load(tmp_path, LABELS)


@pytest.mark.parametrize("content", [b"[]", b"null", b"\xff", b"[" * 100_000], ids=["list", "null", "bytes", "nested"])
def test_a_file_that_holds_no_object_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_FILE).write_bytes(content)
    with pytest.raises(ModelError, match=r"calibration\.json: not a calibration"):
        Calibrator.load(tmp_path, LABELS)


@pytest.mark.parametrize(
    ("score", "calibrator"),
    [
        (float("nan"), Calibrator(LABELS)),
        (float("inf"), Calibrator(LABELS)),
        (-1.0, Calibrator(LABELS, temperature=float("nan"))),
        (-1.0, Calibrator(LABELS, bias=(0.0, float("inf"), 0.0))),
    ],
    ids=["score NaN", "score infinite", "temperature NaN", "bias infinite"],
)
def test_what_is_not_finite_gives_no_answer(score: float, calibrator: Calibrator) -> None:
    scores = np.log([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
    scores[1, 0] = score
    for answer in (calibrator.probabilities, calibrator.decide, calibrator.decision_scores):
        with pytest.raises(ModelError, match=r"[12] of 2 texts have no probabilities, the first of them text [12]: "):
            answer(scores)


def test_a_label_that_cannot_be_said_has_the_probability_zero() -> None:
    scores = np.array([[-np.inf, -1.0, -2.0]])
    assert Calibrator(LABELS).probabilities(scores)[0, 0] == 0
    assert Calibrator(LABELS).decide(scores).tolist() == [1]
