"""``calibrate_run`` gives a run with questions the bytes of a run that was made with the new settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers import tiny_questions
from tests.helpers.command_line import Whinchat
from whinchat.data.sources import load_corpus
from whinchat.errors import RunError
from whinchat.pipelines.calibrate_run import calibrate_run
from whinchat.pipelines.compare_runs import compare_runs
from whinchat.pipelines.evaluate_run import evaluate_run
from whinchat.pipelines.run import run
from whinchat.storage.questions_record import all_decision_folders
from whinchat.storage.run_folder import RunFolder

# What says when or how long the run was made.
TIMED = {"manifest.json", "README.md", "report.html", "baselines.json", "before.json", "after.json"}


@pytest.fixture(scope="module")
def folder(tiny_llama: Path) -> Path:
    """A finished run, to be read only."""
    return tiny_questions.finished_run(tiny_llama)


@pytest.fixture
def run_copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "mine")


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_calibrating_again_equals_a_run_with_these_settings(folder: Path, run_copy: Path, tmp_path: Path) -> None:
    recipe = RunFolder(folder).read_recipe()
    settings = {"metric": "macro_recall", "wanted_accuracy": 0.6}
    run(recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=settings)}), tmp_path / "whole")
    # A comparison leaves a card in the folder of a decision, which must not keep the old calibration.
    compared = [run_copy / "questions" / "mood", shutil.copytree(folder / "questions" / "mood", tmp_path / "other")]
    compare_runs(compared, update_cards=True)
    manifest = (run_copy / "manifest.json").stat().st_mtime_ns
    record = calibrate_run(run_copy, "macro_recall", 0.6)
    assert (run_copy / "manifest.json").stat().st_mtime_ns == manifest, "written once"
    assert record == RunFolder(run_copy).read_questions()
    old, new, whole = (contents(path) for path in (folder, run_copy, tmp_path / "whole"))
    added = {"questions/mood/README.md", "questions/mood/comparison.json"}
    assert new.keys() == whole.keys() | added
    assert "macro recall" in new["questions/mood/README.md"].decode()
    unlike = {name for name in whole if whole[name] != new[name]}
    assert {Path(name).name for name in unlike} <= TIMED
    for name in sorted(name for name in unlike if name.endswith("baselines.json")):
        assert [own["paired"] for own in json.loads(new[name])] == [own["paired"] for own in json.loads(whole[name])]
    changed = {name for name in whole if whole[name] != old[name]} - unlike
    decisions = all_decision_folders(recipe.task.questions)
    assert {f"{decision}/trust.json" for decision in decisions} | {"adapter/calibration.json"} <= changed
    assert "questions.json" in changed
    assert all(new[name] == old[name] for name in old if Path(name).name in ("before.json", "after.json"))
    assert new["adapter/adapter_model.safetensors"] == old["adapter/adapter_model.safetensors"]
    # The checksum of the new calibration is right, too.
    evaluate_run(run_copy, overrides=["evaluate.rows=5"])


def test_settings_that_are_not_named_are_kept(whinchat: Whinchat, folder: Path, run_copy: Path) -> None:
    (run_copy / "adapter" / "calibration.json").write_text("{", encoding="utf-8")
    result = whinchat("calibrate", run_copy, "--json")
    assert result.code == 0, result.err
    stored = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    assert json.loads(result.out) == stored
    assert (run_copy / "adapter" / "calibration.json").read_bytes() == (
        folder / "adapter/calibration.json"
    ).read_bytes()
    shown = whinchat("calibrate", run_copy, "--wanted-accuracy", "0.5").out
    assert "quadratic weighted kappa" in shown
    assert RunFolder(run_copy).read_recipe().evaluate.wanted_accuracy == 0.5


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_changed_data_is_refused(run_copy: Path, tmp_path: Path, split: str) -> None:
    """One answer to one question is another one, in any split: the rows of the fit and of simple methods count, too."""
    recipe = RunFolder(run_copy).read_recipe()
    table, part = tmp_path / "table.csv", load_corpus(recipe).split(split)
    row = next(row for row, answers in enumerate(part.answers) if answers[1] == 0)
    lines = Path(recipe.data.source).read_text(encoding="utf-8").split("\n")
    day = part.texts[row].rpartition(" ")[2]
    (line,) = (line for line, text in enumerate(lines) if f" day {day}," in text)
    assert ",no," in lines[line]
    lines[line] = lines[line].replace(",no,", ",,")
    table.write_text("\n".join(lines), encoding="utf-8")
    data = recipe.data.model_copy(update={"source": str(table)})
    RunFolder(run_copy).write_recipe(recipe.model_copy(update={"data": data}))
    before = contents(run_copy)
    with pytest.raises(
        RunError,
        match=rf"table\.csv, or how it is divided, has changed since this run was evaluated \(rows of .*{split}",
    ):
        calibrate_run(run_copy, "accuracy")
    assert contents(run_copy) == before


@pytest.mark.parametrize("decision", ["mood", "tags/01"])
def test_the_evidence_of_a_decision_is_no_run_to_calibrate_or_evaluate(folder: Path, decision: str) -> None:
    for command in (calibrate_run, evaluate_run):
        with pytest.raises(RunError, match=r"is the evidence of one decision; name the whole run, .*run$"):
            command(folder / "questions" / decision)


def test_a_decided_update_is_finished_by_whoever_reads_a_decision(run_copy: Path) -> None:
    waiting = run_copy / ".whinchat-update" / "questions" / "tags" / "02"
    waiting.mkdir(parents=True)
    samples = run_copy / "questions" / "tags" / "02" / "samples.json"
    (waiting / "samples.json").write_text("[]", encoding="utf-8")
    assert RunFolder(samples.parent).read_samples() == ()
    assert samples.read_text(encoding="utf-8") == "[]"
