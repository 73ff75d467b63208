"""What is examined after training: honest about the rows it was fitted on, and stored whole."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from tests.helpers.label_scores import LABELS, drawn
from whinchat.data.dataset import Split
from whinchat.evaluation.calibration import Calibrator
from whinchat.evaluation.reliability import ScoredSplit, analyze, calibrate_rows, fit_with_threshold
from whinchat.evaluation.results import ReliabilityReport
from whinchat.recipe.schema import EvaluateConfig
from whinchat.storage.json_records import from_json, to_json

SETTINGS = EvaluateConfig(
    metric="macro_recall", wanted_accuracy=0.85, stress_rows=40, stress_edits=("typo", "mention", "full_stop")
)


def scored(name: str, rows: int, seed: int, sharpness: float = 3.0) -> ScoredSplit:
    """A split with scores that are too sure of themselves."""
    scores, labels = drawn(rows, seed)
    texts = tuple(f"text {row} of this split" for row in range(rows))
    return ScoredSplit(Split(name, texts, tuple(labels.tolist())), scores * sharpness)


def answer(texts: Sequence[str]) -> np.ndarray:
    """Scores of edited texts: those of their row, but none where the text begins with a mention."""
    rows = [int(next(word for word in text.split() if word.isdigit())) for text in texts]
    known = drawn(400, 2)[0][rows] * 3.0
    known[[text.startswith("@") for text in texts]] = np.log([0.98, 0.01, 0.01])
    return known.astype(np.float32)


def analyzed(
    calibrator: Calibrator, validation: ScoredSplit, evaluated: ScoredSplit, settings: EvaluateConfig = SETTINGS
) -> ReliabilityReport:
    rows = calibrate_rows(calibrator, validation, evaluated, settings)
    return analyze(calibrator, validation, evaluated, rows, settings, answer)


def test_a_split_of_its_own() -> None:
    validation, evaluated = scored("validation", 2000, 1), scored("test", 400, 2)
    calibrator = fit_with_threshold(validation, LABELS, SETTINGS)
    found = analyzed(calibrator, validation, evaluated)
    assert (found.fitted_on, found.fitted_rows, found.cross_fitted) == ("validation", 2000, False)
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    raw = np.abs(np.exp(evaluated.log_probs).max(axis=1).mean() - found.calibrated.accuracy)
    assert found.calibrated.calibration is not None
    assert found.calibrated.calibration.ece < 0.06 < raw
    assert found.abstention is not None
    assert found.abstention.accuracy is not None
    assert found.abstention.accuracy > found.calibrated.accuracy
    assert 0.1 < found.abstention.coverage < 0.95
    stressed = {one.name: one for one in found.stress}
    assert stressed["one typo"].changed == 0.0
    assert stressed["a mention in front"].n == 40
    assert stressed["a mention in front"].changed > 0.3
    surest = [one.confidence for one in found.errors]
    assert surest == sorted(surest, reverse=True)
    assert all(one.expected != one.answered for one in found.errors)


def test_the_split_it_was_fitted_on_is_measured_by_cross_fitting() -> None:
    # 60 rows without any signal: fitting and measuring on the same rows would find some.
    draw = np.random.default_rng(0)
    labels = tuple(draw.integers(0, 3, 60).tolist())
    noise = ScoredSplit(
        Split("validation", tuple(f"a text {row}" for row in range(60)), labels), draw.normal(size=(60, 3))
    )
    settings = SETTINGS.model_copy(update={"metric": "macro_f1", "stress_rows": 0})
    calibrator = fit_with_threshold(noise, LABELS, settings)
    found = analyzed(calibrator, noise, noise, settings)
    assert found.cross_fitted
    assert found.stress == ()
    optimistic = (calibrator.probabilities(noise.log_probs).argmax(axis=1) == noise.expected).mean()
    assert found.calibrated.accuracy <= optimistic + 0.02


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_hardly_any_rows(rows: int) -> None:
    few = scored("validation", rows, 3)
    calibrator = fit_with_threshold(few, LABELS, SETTINGS)
    found = analyzed(calibrator, few, few, SETTINGS.model_copy(update={"stress_rows": 0}))
    assert found.calibrated.n == rows
    assert np.isfinite(found.calibrated.calibration.log_loss)


def test_stored_and_read_back() -> None:
    validation, evaluated = scored("validation", 300, 1), scored("test", 200, 2)
    found = analyzed(fit_with_threshold(validation, LABELS, SETTINGS), validation, evaluated)
    assert from_json(ReliabilityReport, json.loads(json.dumps(to_json(found), allow_nan=False))) == found
