"""``evaluate_run`` and ``calibrate_run`` give the results of a run that was made with the same settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.helpers import finished_runs, tiny_models
from whinchat.errors import RecipeError, RunError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.pipelines.calibrate_run import calibrate_run
from whinchat.pipelines.evaluate_run import evaluate_run
from whinchat.pipelines.run import run, train_run
from whinchat.storage.json_records import to_json
from whinchat.storage.predictions import read_predictions
from whinchat.storage.run_folder import RunFolder


@pytest.fixture(scope="module")
def folder(tiny_llama: Path) -> Path:
    return finished_runs.finished_run(tiny_llama)


@pytest.fixture
def run_copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "mine")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_same_rows_give_the_same_metrics(folder: Path) -> None:
    metrics = json.loads(json.dumps(to_json(evaluate_run(folder).evaluation)))
    assert finished_runs.timeless(metrics) == finished_runs.timeless(read(folder / "after.json"))


def test_calibrated_answers_are_those_of_the_saved_calibrator(folder: Path) -> None:
    evaluation, predictions = evaluate_run(folder), read_predictions(folder / "predictions.parquet")
    calibrator = Calibrator.load(folder / "adapter", tiny_models.ONE_TOKEN)
    scores = np.array([prediction.log_probs for prediction in predictions.after])
    answers = calibrator.probabilities(scores).argmax(axis=1)
    assert evaluation.calibrated is not None
    assert evaluation.calibrated.macro_f1 == pytest.approx(f1_score(predictions.expected, answers, average="macro"))
    assert evaluation.in_sample
    (folder.parent / "other.csv").write_bytes((folder.parent / "texts.csv").read_bytes())
    assert not evaluate_run(folder, str(folder.parent / "other.csv")).in_sample


def test_every_row_of_a_source_is_evaluated(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = finished_runs.recipe_for(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv"), evaluate={"rows": 5})
    train_run(recipe, tmp_path / "run")
    own = evaluate_run(tmp_path / "run")
    assert own.evaluation.score.n == 5
    assert own.calibrated is None, "nothing was calibrated yet"
    (tmp_path / "more.csv").write_text("body,label\n" + "hello,2\nthere,0\n" * 5, encoding="utf-8")
    more = str(tmp_path / "more.csv")
    overrides_of_source = ["data.text_column=body", 'data.label_map={"0": bad, "2": good}']
    # Row limits of the run's own splits do not apply to this source.
    for overrides, rows in (
        (overrides_of_source, 10),
        ([*overrides_of_source, "evaluate.rows=3"], 3),
        ([*overrides_of_source, "data.train_rows=null"], 10),
    ):
        assert evaluate_run(tmp_path / "run", more, overrides).evaluation.score.n == rows


def test_calibrating_again_equals_a_run_with_these_settings(folder: Path, run_copy: Path, tmp_path: Path) -> None:
    recipe = RunFolder(folder).read_recipe()
    settings = {"metric": "macro_recall", "wanted_accuracy": 0.4}
    assert recipe.evaluate.metric != settings["metric"]
    whole = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=settings)})
    run(whole, tmp_path / "whole")
    manifest = (run_copy / "manifest.json").stat().st_mtime_ns
    record = calibrate_run(run_copy, "macro_recall", 0.4)
    assert (run_copy / "manifest.json").stat().st_mtime_ns == manifest, "written once"
    assert record == RunFolder(run_copy).read()
    shared = ("trust.json", "paired.json", "samples.json", "adapter/calibration.json", "recipe.yaml")
    for name in (*shared, "adapter/recipe.yaml", "predictions.parquet"):
        if name.endswith("json"):
            assert read(run_copy / name) == read(tmp_path / "whole" / name), name
        else:
            assert (run_copy / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert "macro recall" in (run_copy / "README.md").read_text(encoding="utf-8")
    for name in ("adapter/adapter_model.safetensors", "after.json"):
        assert (run_copy / name).read_bytes() == (folder / name).read_bytes(), name


def test_settings_that_are_not_named_are_kept(run_copy: Path) -> None:
    (run_copy / "adapter" / "calibration.json").write_text("{", encoding="utf-8")
    before = read(run_copy / "trust.json")
    assert calibrate_run(run_copy, wanted_accuracy=0.4).recipe.evaluate.wanted_accuracy == 0.4
    assert calibrate_run(run_copy, wanted_accuracy=0).recipe.evaluate.wanted_accuracy is None
    assert read(run_copy / "trust.json") == before


def test_changed_data_is_refused(run_copy: Path, tmp_path: Path) -> None:
    recipe = RunFolder(run_copy).read_recipe()
    other = recipe.data.model_copy(update={"source": str(finished_runs.write_csv(tmp_path / "other.csv", seed=5))})
    RunFolder(run_copy).write_recipe(recipe.model_copy(update={"data": other}))
    stamps = {path: path.stat().st_mtime_ns for path in run_copy.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"other\.csv, or how it is divided, has changed since this run was evaluated"):
        calibrate_run(run_copy, "accuracy")
    with pytest.raises(RunError, match="so the classifier may have been trained on rows of these splits"):
        evaluate_run(run_copy)
    assert {path: path.stat().st_mtime_ns for path in run_copy.rglob("*") if path.is_file()} == stamps


def test_an_evaluation_refuses_calibration_keys(folder: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"takes effect in calibration; `whinchat calibrate .+` calibrates the run again"
    ):
        evaluate_run(folder, overrides=["evaluate.metric=accuracy"])
