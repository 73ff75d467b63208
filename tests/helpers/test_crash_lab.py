"""The crash lab kills a command at the call that it is told, and lets the disk fill up there."""

from __future__ import annotations

import errno
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from tests.helpers import finished_runs
from tests.helpers.crash_lab import CrashLab


@pytest.fixture
def run_copy(tiny_llama: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_runs.finished_run(tiny_llama), tmp_path / "run")
    (tmp_path / "run" / "samples.md").unlink()
    return tmp_path / "run"


def test_a_command_is_killed_at_the_call(crash_lab: CrashLab, run_copy: Path) -> None:
    whole = crash_lab.run("report", run_copy, "--rewrite", folder=run_copy)
    assert whole.code == 0, whole.output
    card, calls = (run_copy / "README.md").read_bytes(), list(whole.calls)
    # What the Python code writes and renames is seen, and writes in a row count once.
    assert [call for call in calls if call.startswith("rename") and call.endswith("/report.html")]
    # The lock and its note each open the lock file, one after the other; older releases of filelock open it once.
    repeated = [first for first, second in pairwise(calls) if first == second]
    assert set(repeated) <= {f"open64 {run_copy / '.lock'}"}
    at = 1 + next(number for number, call in enumerate(calls) if call.endswith("/samples.md"))
    (run_copy / "samples.md").unlink()
    (run_copy / "README.md").unlink()
    killed = crash_lab.run("report", run_copy, "--rewrite", folder=run_copy, at=at)
    assert (killed.code, len(killed.calls)) == (-9, at)
    assert not (run_copy / "README.md").exists()
    assert crash_lab.run("report", run_copy, "--rewrite", folder=run_copy).code == 0
    assert (run_copy / "README.md").read_bytes() == card


def test_the_disk_is_full_from_the_call_on(crash_lab: CrashLab, run_copy: Path) -> None:
    (run_copy / "README.md").unlink()
    full = crash_lab.run("report", run_copy, "--rewrite", folder=run_copy, at=2, error=errno.ENOSPC)
    assert full.code != 0
    assert "No space left on device" in full.output
    assert not (run_copy / "README.md").exists()


def test_native_code_is_watched(crash_lab: CrashLab, tiny_llama: Path, tmp_path: Path) -> None:
    recipe = finished_runs.finished_run(tiny_llama) / "recipe.yaml"
    steps = ("--set", "train.max_steps=1", "--set", "train.save_steps=1")
    trained = crash_lab.run("train", recipe, "--out", tmp_path / "run", *steps, folder=tmp_path)
    assert trained.code == 0, trained.output
    # Rust writes the weights, and C++ the optimizer's state.
    assert any("write" in call and "/checkpoint-1/optimizer.pt" in call for call in trained.calls)
    assert any("write" in call and "/.tmp" in call for call in trained.calls)
