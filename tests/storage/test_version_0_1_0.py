"""What version 0.1.0 wrote is still read: a run with its adapter, a merged export, notes of predictions, an arena.

``version_0_1_0/`` was written by the commands of commit c263cb3: a DoRA run of four steps on a tiny Llama, without its
figures and its report.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.quick_figures import draw_no_figures
from whinchat.arena.run_arena import summarize_arena
from whinchat.inference.predict_file import predict_file, predict_in_process, predict_tables
from whinchat.inference.prediction_jobs import plan_jobs
from whinchat.inference.predictor import Predictor
from whinchat.pipelines.calibrate_run import calibrate_run
from whinchat.pipelines.evaluate_run import evaluate_run
from whinchat.pipelines.rebuild_report import rebuild_report
from whinchat.report.run_list import list_runs
from whinchat.storage.run_folder import RunFolder

STORED = Path(__file__).with_name("version_0_1_0")
LABELLED = list(csv.DictReader((STORED / "labelled.csv").open(encoding="utf-8")))


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files, as they lay when they were written: paths are relative, and the table has its time."""
    folder = tmp_path / "earlier"
    shutil.copytree(STORED, folder)
    modified = json.loads((folder / "labelled.csv.json").read_text(encoding="utf-8"))["job"]["modified"]
    os.utime(folder / "in.csv", ns=(modified, modified))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("classifier", ["run", "run/adapter", "merged"])
def test_the_same_labels_by_probabilities_that_agree_with_them(earlier: Path, classifier: str) -> None:
    """That version showed probabilities to which it then applied the power of the label shares to find the label."""
    predictor = Predictor.load(Path(classifier))
    predictions = predictor.predict([row["text"] for row in LABELLED])
    shown = np.array([[float(row[f"p_{label}"]) for label in predictions.labels] for row in LABELLED])
    assert predictor.calibrator.tau > 0.5
    wanted = shown / np.array(predictor.calibrator.prior) ** predictor.calibrator.tau
    np.testing.assert_allclose(predictions.probabilities, wanted / wanted.sum(axis=1, keepdims=True), atol=5e-6)
    assert predictions.label_names == [row["label"] for row in LABELLED]


def test_a_finished_prediction_is_not_computed_again(earlier: Path) -> None:
    written = (earlier / "labelled.csv").stat().st_mtime_ns
    (counts,) = predict_file("run", "in.csv", "labelled.csv").values()
    assert (counts.rows, counts.bad) == (len(LABELLED), 0)
    assert (earlier / "labelled.csv").stat().st_mtime_ns == written


def test_a_prediction_that_was_stopped_is_finished(earlier: Path) -> None:
    """A part of that version has no checksum in its note, so it is labelled again."""
    jobs = plan_jobs(Path("run"), Path("in.csv"), Path("half.csv"), rows_per_part=2)
    predict_tables(jobs, predict_in_process(Path("run")))
    rows = list(csv.DictReader((earlier / "half.csv").open(encoding="utf-8")))
    assert [row["text"] for row in rows] == [row["text"] for row in LABELLED]
    assert [row["label"] for row in rows] == [row["label"] for row in LABELLED]


def test_the_run_is_listed_evaluated_calibrated_and_reported(earlier: Path) -> None:
    (summary,) = list_runs(earlier)
    before = RunFolder(Path("run")).read()
    assert (summary.problem, summary.name) == (None, "run")
    evaluation = evaluate_run("run")
    assert evaluation.evaluation.score.confusion == before.after.score.confusion
    with draw_no_figures():
        card = rebuild_report("run").card.read_text(encoding="utf-8")
        assert "whinchat 0.1.0 calibrated this run for macro-F1. Its answers favour rare labels" in card
        record = calibrate_run("run", "accuracy")
        assert record.reliability is not None
        assert record.reliability.metric == "accuracy"
        folder = rebuild_report("run")
    assert "macro-F1" in folder.card.read_text(encoding="utf-8")
    assert folder.report.is_file()


def test_the_arena_has_the_same_results(earlier: Path) -> None:
    stored = json.loads((STORED / "arena" / "results.json").read_text(encoding="utf-8"))
    with draw_no_figures():
        results = summarize_arena(str(earlier / "arena.yaml"), Path("arena"))
    wanted = {(one["method"], one["rows"]): one["mean_macro_f1"] for one in stored["summaries"]}
    found = results.to_dict()["summaries"]
    assert {(one["method"], one["rows"]): one["mean_macro_f1"] for one in found} == wanted
    assert found[0].keys() == stored["summaries"][0].keys()
