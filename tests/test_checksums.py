"""A classifier whose files are lost, damaged or of another classifier is refused, as is a run that is not finished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers import finished_runs
from whinchat.errors import RunError
from whinchat.inference.predictor import Predictor
from whinchat.storage.locate import find_classifier


@pytest.fixture
def run_copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_runs.finished_run(tiny_llama), tmp_path / "run")


def test_a_finished_run_and_its_adapter_are_found(run_copy: Path) -> None:
    for path in (run_copy, run_copy / "adapter"):
        assert find_classifier(path).folder == run_copy / "adapter"


def test_a_lost_calibration_is_no_uncalibrated_answer(run_copy: Path) -> None:
    (run_copy / "adapter" / "calibration.json").unlink()
    for path in (run_copy, run_copy / "adapter"):
        with pytest.raises(RunError, match=r"calibration\.json: missing, .*`whinchat calibrate "):
            Predictor.load(path)
    # A run of version 0.1 has no checksums.
    (run_copy / "adapter" / "checksums.json").unlink()
    with pytest.raises(RunError, match=r"calibration\.json: missing, although this run was calibrated"):
        Predictor.load(run_copy)


@pytest.mark.parametrize("name", ["calibration.json", "adapter_model.safetensors", "tokenizer.json"])
def test_a_changed_file_is_named(run_copy: Path, name: str) -> None:
    content = bytearray((run_copy / "adapter" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run_copy / "adapter" / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}: damaged or replaced"):
        find_classifier(run_copy)


def test_a_calibration_of_another_classifier_is_refused(run_copy: Path) -> None:
    sums = run_copy / "adapter" / "checksums.json"
    known = json.loads(sums.read_text(encoding="utf-8"))
    del known["calibration.json"]
    sums.write_text(json.dumps(known), encoding="utf-8")
    with pytest.raises(RunError, match=r"calibration\.json: does not belong to this classifier"):
        find_classifier(run_copy)


def test_an_edited_recipe_is_taken(run_copy: Path) -> None:
    recipe = run_copy / "adapter" / "recipe.yaml"
    recipe.write_text(
        recipe.read_text(encoding="utf-8").replace("description: ''", "description: mine"), encoding="utf-8"
    )
    assert find_classifier(run_copy / "adapter")


def test_an_unfinished_run_does_not_answer(run_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run_copy / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"this run is not finished, .*--resume`, or name .*adapter"):
        Predictor.load(run_copy)
    assert find_classifier(run_copy, to_answer=False)
    # What `whinchat train` made can be used by the adapter's own name, and it is said that it is not calibrated.
    for name in ("calibration.json", "checksums.json", "../trust.json"):
        (run_copy / "adapter" / name).unlink()
    Predictor.load(run_copy / "adapter")
    assert "is not calibrated" in caplog.text
