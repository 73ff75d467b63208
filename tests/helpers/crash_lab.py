"""Kill a command before each system call that changes a file, or let its disk fill up there, and run the command again.

``CrashLab.run`` runs one command, in a process of its own that takes no time to start; the fixture ``crash_lab`` is
one. ``check_crashes`` does the whole experiment: it runs a command undisturbed, then killed at one call after the
other, and each time once more, and compares the bytes of the folder. To test another command, write a function that
prepares the folder and returns the command's arguments; see ``tests/pipelines/test_crashes.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("system_calls.c")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: its exit code; -9 if it was killed.
        output: what it printed to both streams.
        calls: the system calls that change files below the watched folder, in their order, such as
            "rename /tmp/x/run/recipe.yaml". The last one is the call at which the process was killed.
    """

    code: int
    output: str
    calls: tuple[str, ...]


class CrashLab:
    """Runs commands with watched system calls; a context manager that ends its server.

    Args:
        scratch: a folder for the compiled library and for what the commands print.
    """

    def __init__(self, scratch: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None or not sys.platform.startswith("linux"):
            pytest.skip("needs Linux and a C compiler, to kill a process at a system call")
        scratch.mkdir(parents=True, exist_ok=True)
        library = scratch / "system_calls.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-w", "-o", library, SOURCE, "-ldl"], check=True)
        self._output, self._log = scratch / "output.txt", scratch / "calls.txt"
        environment = os.environ | {
            "LD_PRELOAD": str(library),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        }
        command = [sys.executable, "-m", "tests.helpers.crash_server"]
        self._server = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def __enter__(self) -> CrashLab:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()

    def run(self, *arguments: str | Path, folder: Path, at: int = 0, error: int = 0, cwd: Path = ROOT) -> Outcome:
        """Run ``whinchat ARGUMENTS``.

        Args:
            arguments: the arguments of the command line.
            folder: the calls that change files in this folder are counted.
            at: number of the call at which to disturb the command, from 1; 0 to let it run.
            error: 0 to kill the process at that call, where a write first writes half of its bytes; else the errno
                with which that call and all later ones fail, such as ``errno.ENOSPC`` or ``errno.EROFS``.
            cwd: the command's working folder.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._output.unlink(missing_ok=True)
        request = {
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder),
            "at": at,
            "error": error,
            "cwd": str(cwd),
            "output": str(self._output),
            "log": str(self._log),
        }
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        output = self._output.read_text(encoding="utf-8", errors="replace")
        return Outcome(code, output, tuple(self._log.read_text(encoding="utf-8").splitlines()))


def check_crashes(
    lab: CrashLab,
    folder: Path,
    prepare: Callable[[], Sequence[str | Path]],
    *,
    points: int | None = None,
    error: int = 0,
    differs: Collection[str] = (),
    between: Callable[[], object] = lambda: None,
) -> int:
    """Check that a command that was disturbed at a system call, and run again, ends with the same bytes.

    Args:
        lab: runs the commands.
        folder: the folder that the command writes into. It is emptied before each ``prepare``.
        prepare: fills ``folder`` with what the command starts from, and returns the command's arguments.
        points: how many calls to disturb the command at, spread evenly over all; None for every call.
        error: as in ``CrashLab.run``. With an error, the command must end with exit code 2 and one line of error.
        differs: files that may differ, relative to ``folder``, such as one that says when a run ended; or how their
            paths start.
        between: called after each disturbed command, for instance to check what a reader sees then.

    Returns:
        The number of calls of the undisturbed command.
    """

    def fresh() -> Sequence[str | Path]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return prepare()

    undisturbed = lab.run(*fresh(), folder=folder)
    assert undisturbed.code == 0, undisturbed.output
    expected, count = snapshot(folder, differs), len(undisturbed.calls)
    every = 1 if points is None else max(1, count // points)
    numbers = range(1 if every == 1 else every // 2, count + 1, every)
    for number in numbers:
        arguments = fresh()
        disturbed = lab.run(*arguments, folder=folder, at=number, error=error)
        where = f"call {number} of {count}: {disturbed.calls[number - 1] if len(disturbed.calls) >= number else '?'}"
        if error:
            # A call whose failure does not matter, such as the deletion of a file that is not needed any more.
            assert disturbed.code in {0, 2}, f"{where}\n{disturbed.output}"
            assert "Traceback" not in disturbed.output, f"{where}\n{disturbed.output}"
            # torch.save does not say why it could not write.
            reasons = (os.strerror(error), "the file is cut off; is the disk full?")
            is_named = any(reason in disturbed.output for reason in reasons)
            assert is_named == (disturbed.code == 2), f"{where}\n{disturbed.output}"
        else:
            assert disturbed.code == -signal.SIGKILL, f"{where}\n{disturbed.output}"
        between()
        again = lab.run(*arguments, folder=folder)
        assert again.code == 0, f"{where}\n{again.output}"
        found = snapshot(folder, differs)
        changed = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        assert not changed, f"{where}: different, missing or left over: {', '.join(changed)}"
    return count


def snapshot(folder: Path, without: Collection[str] = ()) -> dict[str, bytes]:
    """Return the content of every file in ``folder`` by its relative path, without locks and those named."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if not name.startswith(tuple(without)) and not name.endswith(".lock")
    }
