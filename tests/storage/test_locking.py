"""Two processes never write to the same place, and a dead one holds nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest

from whinchat.errors import RunError
from whinchat.storage import locking
from whinchat.storage.locking import lock_folder, lock_output

HOLDER = """
import sys, time
from pathlib import Path
from whinchat.storage.locking import {function}
with {function}(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("function", [lock_folder, lock_output])
def test_the_second_process_is_told_who_holds_the_place(function: object, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    command = [sys.executable, "-c", HOLDER.format(function=function.__name__), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=rf"run: another process is writing here \(process {holder.pid} on "),
            function(path),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with function(path):
        pass
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_place_is_held_once_in_a_process(tmp_path: Path) -> None:
    refused = []

    def second() -> None:
        try:
            with lock_output(tmp_path / "out.csv"):
                pass
        except RunError:
            refused.append(True)

    with lock_output(tmp_path / "out.csv"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        second()
    assert refused == [True, True]


def test_a_folder_made_for_the_lock_goes_if_nothing_was_written(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "empty"):
        pass
    with lock_folder(tmp_path / "used"):
        (tmp_path / "used" / "file").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "used"]


def test_a_file_system_without_locks_has_the_file_as_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLocks(filelock.FileLock):
        def _acquire(self) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(locking, "FileLock", NoLocks)
    with (
        lock_output(tmp_path / "out.csv"),
        pytest.raises(RunError, match=str(os.getpid())),
        lock_output(tmp_path / "out.csv"),
    ):
        pass
    with lock_output(tmp_path / "out.csv"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_note_that_cannot_be_written_leaves_the_lock_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refuse)
    with (
        lock_output(tmp_path / "out.csv"),
        pytest.raises(RunError, match="which one is not known"),
        lock_output(tmp_path / "out.csv"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
