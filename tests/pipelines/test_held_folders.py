"""While one process writes into a folder, every other command that would write there is refused; readers go on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import finished_runs
from tests.helpers.command_line import Whinchat

HOLDER = """
import sys
from pathlib import Path
from whinchat.storage.locking import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Hold ``folder`` by another process, and give its identifier."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder.pid


@pytest.fixture
def run_copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_runs.finished_run(tiny_llama), tmp_path / "run")


def test_a_second_process_is_refused(whinchat: Whinchat, run_copy: Path, tmp_path: Path) -> None:
    recipe, other = run_copy / "recipe.yaml", shutil.copytree(run_copy, tmp_path / "other")
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
    with held(run_copy) as process:
        for arguments in (
            ("run", recipe, "--out", run_copy),
            ("run", recipe, "--out", run_copy, "--overwrite"),
            ("train", recipe, "--out", run_copy, "--overwrite"),
            ("calibrate", run_copy, "--metric", "macro_recall"),
            ("report", run_copy, "--rewrite"),
            ("compare", other, run_copy, "--out", tmp_path / "figures"),
            ("review", recipe, "--out", run_copy),
            ("arena", "vader-curve", "--out", run_copy),
        ):
            result = whinchat(*arguments)
            assert result.code == 2, (arguments, result.err)
            assert f"run: another process is writing here (process {process} on " in result.err, arguments
        assert whinchat("predict", run_copy, "a text").code == 0
        assert whinchat("run", recipe, "--out", run_copy, "--resume", "--json").code == 0
    (run_copy / ".lock").unlink(missing_ok=True)
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before


def test_a_new_run_is_held_from_its_start(whinchat: Whinchat, run_copy: Path, tmp_path: Path) -> None:
    with held(tmp_path / "new"):
        result = whinchat("run", run_copy / "recipe.yaml", "--out", tmp_path / "new")
        assert result.code == 2
        assert "another process is writing here" in result.err
