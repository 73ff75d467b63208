"""``compare_runs``: finished runs read from their folders; the comparison itself is tested in tests/report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.finished_runs import finished_run
from whinchat.errors import RunError
from whinchat.pipelines.compare_runs import compare_runs


@pytest.fixture
def run_path(tiny_llama: Path) -> Path:
    """A finished run, to be read only."""
    return finished_run(tiny_llama)


def test_runs_are_named_after_their_folders_or_paths(run_path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run_path, tmp_path / "copy")
    comparison = compare_runs([run_path, str(copy)])
    assert [row.name for row in comparison.rows] == ["run", "copy"]
    assert [(pair.first, pair.second, pair.paired.macro_f1_gain) for pair in comparison.pairs] == [("run", "copy", 0.0)]
    assert list(tmp_path.glob("*.png")) == []
    twin = shutil.copytree(run_path, tmp_path / "run")
    assert [row.name for row in compare_runs([run_path, twin]).rows] == [str(run_path), str(twin)]


def test_the_figure_is_written_into_the_named_folder(run_path: Path, tmp_path: Path) -> None:
    compare_runs([run_path], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.png", "comparison.svg"]


def test_a_run_must_exist_and_be_named_once(run_path: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the same run is named twice"):
        compare_runs([run_path, run_path])
    with pytest.raises(RunError, match="no such run folder"):
        compare_runs([run_path, tmp_path / "nothing"])
    with pytest.raises(RunError, match="no runs given"):
        compare_runs([])
