"""Temperature and bias recover what the scores were made with; rare labels are favoured only where that gains."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, recall_score

from tests.helpers.label_scores import LABELS, PRIOR, drawn
from whinchat.data.formats.table_format import Block
from whinchat.errors import ModelError
from whinchat.evaluation.calibration import fit_calibrator, fit_temperature
from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.evaluation.calibrator import Calibrator, load_calibrators, save_calibrators
from whinchat.inference.prediction_columns import added_column_types, added_columns
from whinchat.inference.predictor import Predictions
from whinchat.recipe.question import Question
from whinchat.recipe.schema import EvaluateConfig, MetricName


def fitted_for(metric: MetricName, scores: np.ndarray, labels: np.ndarray) -> Calibrator:
    return fit_calibrator(scores, labels, LABELS, EvaluateConfig(metric=metric))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_recovered(temperature: float) -> None:
    scores, labels = drawn(20_000)
    found, bias = fit_temperature(scores * temperature, np.eye(len(LABELS))[labels])
    assert found == pytest.approx(temperature, rel=0.05)
    assert np.ptp(bias) < 0.1


def test_scores_of_a_model_that_was_trained_to_favour_a_label_are_set_right() -> None:
    """As class weights or logit adjustment leave them."""
    scores, labels = drawn(20_000)
    favouring = scores * 2 + np.array([3.0, 0.0, -1.0])
    fitted = fitted_for("accuracy", favouring, labels)
    probabilities = fitted.probabilities(favouring)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(probabilities.mean(axis=0), PRIOR, atol=0.01)
    np.testing.assert_allclose(probabilities, np.exp(scores), atol=0.05)
    assert (probabilities.argmax(axis=1) == labels).mean() > (favouring.argmax(axis=1) == labels).mean() + 0.05


def test_probabilities_are_fitted_to_shares() -> None:
    """By their largest alone, one label would always be true, and the calibrator would be sure of it."""
    scores, _ = drawn(2_000)
    shares = 0.5 * np.exp(scores) + [0.5, 0, 0]
    shares = shares[shares.argmax(axis=1) == 0]
    fitted = fit_calibrator(np.log(shares) * 3, shares.argmax(axis=1), LABELS, EvaluateConfig(), shares)
    assert fitted.temperature == pytest.approx(3, rel=0.01)
    np.testing.assert_allclose(replace(fitted, tau=0.0).probabilities(np.log(shares) * 3), shares, atol=0.01)
    np.testing.assert_allclose(fitted.prior, shares.mean(axis=0), atol=0.01)


def test_few_rows_leave_the_bias_near_zero() -> None:
    scores, _ = drawn(4)
    _, bias = fit_temperature(scores, np.eye(len(LABELS))[[0, 0, 0, 0]])
    assert np.abs(bias).max() < 2


def test_each_metric_is_served_best_by_its_own_rule() -> None:
    scores, labels = drawn(20_000)
    held_out, truth = drawn(40_000, seed=1)
    figures = {
        "accuracy": accuracy_score,
        "macro_f1": lambda truth, said: f1_score(truth, said, average="macro"),
        "macro_recall": lambda truth, said: recall_score(truth, said, average="macro"),
    }
    said = {metric: fitted_for(metric, scores, labels).probabilities(held_out).argmax(axis=1) for metric in figures}
    for metric, figure in figures.items():
        mine = figure(truth, said[metric])
        for other in figures:
            assert mine >= figure(truth, said[other]) - 0.002, (metric, other)
    assert (
        figures["macro_recall"](truth, said["macro_recall"]) > figures["macro_recall"](truth, said["accuracy"]) + 0.01
    )


def test_a_label_that_validation_lacks_keeps_a_finite_weight() -> None:
    scores, labels = drawn(300)
    fitted = fitted_for("macro_recall", scores, np.where(labels == 0, 1, labels))
    assert np.isfinite(np.log(fitted.prior)).all()


def test_nothing_fitted_leaves_scores_as_they_are() -> None:
    scores, _ = drawn(50)
    plain = Calibrator(LABELS)
    np.testing.assert_allclose(plain.probabilities(scores), softmax(scores, axis=1))
    assert plain.decision is None


def test_rare_labels_are_favoured_only_where_that_gains() -> None:
    """With 20,000 rows the gain is certain; with 400 it is not, so the probabilities stay as they are."""
    sure, unsure = (fitted_for("macro_recall", *drawn(rows)) for rows in (20_000, 400))
    for fitted in (sure, unsure):
        assert fitted.decision is not None
        assert fitted.decision.tau == 1.0
        assert fitted.decision.interval.low < fitted.decision.gain < fitted.decision.interval.high
        assert fitted.decision.gains == (fitted.decision.interval.low > 0) == (fitted.tau > 0)
    assert (sure.tau, unsure.tau) == (1.0, 0.0)
    # The gain is that of rows which no fitted number has seen.
    held_out, truth = drawn(40_000, seed=1)
    without, favoured = (
        recall_score(truth, replace(sure, tau=tau).probabilities(held_out).argmax(axis=1), average="macro")
        for tau in (0.0, 1.0)
    )
    assert sure.decision.gain == pytest.approx(favoured - without, abs=0.006)
    assert fitted_for("accuracy", *drawn(400)).decision is None


def test_a_gain_on_the_rows_of_the_fit_alone_is_no_gain() -> None:
    """With equal shares there is nothing to favour; a power fitted to 60 rows gains on these rows all the same."""
    fits = [fitted_for("macro_f1", *drawn(60, seed, (1 / 3, 1 / 3, 1 / 3))) for seed in range(20)]
    assert sum(one.tau > 0 for one in fits) <= 2


scores_of_rows = arrays(np.float32, (4, 3), elements=st.floats(-40, 0, width=32))


@given(
    scores_of_rows,
    st.floats(0.06, 19),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.tuples(*[st.floats(0.001, 1)] * 3),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_an_answer_never_contradicts_its_probabilities(
    scores: np.ndarray, temperature: float, bias: tuple[float, ...], prior: tuple[float, ...], tau: float, edge: float
) -> None:
    """Whatever a calibration file holds: in memory, in JSON and in the cells of tables."""
    calibrator = Calibrator(LABELS, temperature, bias, prior, "macro_f1", tau, 10, edge)
    predictions = Predictions.from_scores(scores, calibrator)
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1)
    wanted = scores.astype(float) / temperature + bias - tau * np.log(prior)
    np.testing.assert_allclose(predictions.probabilities, softmax(wanted, axis=1), rtol=1e-6, atol=1e-12)
    block = Block(None, ("text",) * 4, ("",) * 4, (1, 2, 3, 4))
    columns = added_columns(block, added_column_types(LABELS), predictions)
    for row in range(4):
        said, cells = predictions.to_dict(row), {name: column[row] for name, column in columns.items()}
        best = max(said["probabilities"].values())
        assert said["probabilities"][said["label"]] == best
        assert said["unsure"] == cells["unsure"] == (best < edge)
        assert cells["label"] == said["label"]
        assert cells[f"p_{said['label']}"] == max(cells[f"p_{label}"] for label in LABELS)


def test_an_old_file_with_a_threshold_of_other_probabilities_is_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = Calibrator(LABELS, prior=PRIOR, metric="macro_f1", tau=0.5, rows=9, threshold=0.6)
    record = {key: value for key, value in asdict(old).items() if key != "decision"}
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(record), encoding="utf-8")
    assert Calibrator.load(tmp_path, LABELS) == old
    assert "whinchat calibrate RUN" in caplog.text
    caplog.clear()
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(record | {"threshold": None}), encoding="utf-8")
    assert Calibrator.load(tmp_path, LABELS).tau == 0.5
    assert caplog.text == ""


def test_saved_beside_the_adapter(tmp_path: Path) -> None:
    scores, labels = drawn(400)
    fitted = fitted_for("macro_f1", scores, labels)
    assert fitted.decision is not None
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
    fitted = fitted_for("macro_f1", *drawn(400))
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(asdict(fitted) | change), encoding="utf-8")
    with pytest.raises(
        ModelError, match=rf"calibration\.json: (not a calibration \()?{message}.*whinchat calibrate RUN"
    ):
        Calibrator.load(tmp_path, LABELS)


def test_each_decision_finds_its_own_calibration(tmp_path: Path) -> None:
    decisions = Question(type="multi", instructions="Which?", options={"a": "", "b": ""}).decisions("tags")
    calibrators = [Calibrator(("no", "yes"), temperature) for temperature in (2.0, 3.0)]
    save_calibrators(calibrators, decisions, tmp_path)
    assert load_calibrators(tmp_path, decisions) == calibrators
    assert load_calibrators(tmp_path, decisions[::-1]) == calibrators[::-1], "the order in recipe.yaml was changed"
    renamed = Question(type="multi", instructions="Which?", options={"a": "", "c": ""}).decisions("tags")
    with pytest.raises(ModelError, match=r"made for the decisions tags/a, tags/b, the task has tags/a, tags/c; give"):
        load_calibrators(tmp_path, renamed)


def test_a_list_of_calibrations_of_the_first_runs_with_questions(tmp_path: Path) -> None:
    decisions = Question(type="multi", instructions="Which?", options={"a": "", "b": ""}).decisions("tags")
    calibrators = [Calibrator(("no", "yes"), temperature) for temperature in (2.0, 3.0)]
    content = json.dumps({"decisions": [asdict(calibrator) for calibrator in calibrators]})
    (tmp_path / CALIBRATION_FILE).write_text(content, encoding="utf-8")
    assert load_calibrators(tmp_path, decisions) == calibrators
    with pytest.raises(ModelError, match="made for 2 decisions, the task has 1; `whinchat calibrate RUN`"):
        load_calibrators(tmp_path, decisions[:1])


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
    with pytest.raises(ModelError, match=r"[12] of 2 texts have no probabilities, the first of them text [01]: "):
        calibrator.probabilities(scores)


def test_a_label_that_cannot_be_said_has_the_probability_zero() -> None:
    scores = np.array([[-np.inf, -1.0, -2.0]])
    probabilities = Calibrator(LABELS).probabilities(scores)
    assert probabilities[0, 0] == 0
    assert probabilities.argmax(axis=1).tolist() == [1]
