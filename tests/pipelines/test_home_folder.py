"""The files of a run do not hold the path of the home folder, and its own paths stay valid."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers import finished_runs
from whinchat.pipelines.calibrate_run import calibrate_run
from whinchat.pipelines.run import run
from whinchat.storage.run_folder import RunFolder


def test_files_of_a_run_name_no_home_folder(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "ann-of-green-gables"
    model = shutil.copytree(tiny_llama, home / "models" / "tiny")
    source, folder = finished_runs.write_csv(home / "texts.csv"), tmp_path / "run"
    monkeypatch.setenv("HOME", str(home))
    steps = {"max_steps": 2, "save_steps": 1, "eval_steps": None}
    recipe = finished_runs.recipe_for(model, source, train=steps, evaluate={"generate": False, "stress_rows": 4})
    before = run(recipe, folder).before
    stored = RunFolder(folder).read_recipe()
    assert (stored.backbone.model, stored.data.source) == ("~/models/tiny", "~/texts.csv")
    # The paths are read, and the recipe is still that of the run.
    assert run(recipe, folder, "resume").before == before
    calibrate_run(folder, "macro_recall")
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert [name for name in names if b"green-gables" in (folder / name).read_bytes()] == []
