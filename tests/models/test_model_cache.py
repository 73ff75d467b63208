"""A model folder of the cache is written once, and is whole whatever happens to the process that writes it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from whinchat.errors import OutputError
from whinchat.models import model_cache
from whinchat.models.model_cache import cached_model_path, find_cached_model, write_cached_model

NAME = "tiny-v1"
FILES = {"config.json": "{}", "model.safetensors": "weights", "chat_template.jinja": "{{ text }}"}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("WHINCHAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def write(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).write_text(text)


def is_whole() -> bool:
    folder = find_cached_model(NAME)
    return folder is not None and all((folder / name).read_text() == text for name, text in FILES.items())


def in_another_process(act: Callable[[], Any]) -> int | None:
    """Call ``act`` in a fork of this process, and return its exit code, negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    process.join(60)
    return process.exitcode


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("lost", FILES)
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_folder_is_written_again(cache: Path, lost: str, cut: bool) -> None:
    assert find_cached_model(NAME) is None
    folder = write_cached_model(NAME, write)
    assert is_whole()
    if cut:
        (folder / lost).write_text(FILES[lost][:-1])
    else:
        (folder / lost).unlink()
    assert find_cached_model(NAME) is None
    assert write_cached_model(NAME, write) == folder == cached_model_path(NAME)
    assert is_whole()
    assert [path.name for path in cache.iterdir()] == [NAME], "a draft is left"


@pytest.mark.parametrize("killed_at", ["write", "_sizes", "remove_folder", "publish"])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_killed_process(cache: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str, damaged: bool) -> None:
    if damaged:
        (write_cached_model(NAME, write) / "config.json").unlink()
    with monkeypatch.context() as patch:
        if killed_at != "write":
            patch.setattr(model_cache, killed_at, die)
        writer = die if killed_at == "write" else write
        assert in_another_process(lambda: write_cached_model(NAME, writer)) == -signal.SIGKILL
    assert find_cached_model(NAME) is None
    write_cached_model(NAME, write)
    assert is_whole()
    assert [path.name for path in cache.iterdir()] == [NAME], "a draft is left"


@pytest.mark.parametrize("damaged", [False, True])
def test_another_process_is_faster(cache: Path, damaged: bool) -> None:
    if damaged:
        (write_cached_model(NAME, write) / "config.json").unlink()

    def write_slowly(folder: Path) -> None:
        assert in_another_process(lambda: write_cached_model(NAME, write)) == 0
        (cached_model_path(NAME) / "note").touch()
        write(folder)

    folder = write_cached_model(NAME, write_slowly)
    assert [path.name for path in cache.iterdir()] == [NAME]
    assert all((folder / name).read_text() == text for name, text in FILES.items())


def test_many_processes_repair_one_folder(cache: Path) -> None:
    (write_cached_model(NAME, write) / "config.json").unlink()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_cached_model, args=(NAME, write)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert is_whole()
    assert [path.name for path in cache.iterdir()] == [NAME]


def test_files_have_the_modes_that_the_umask_gives(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.mkdir()
    (usual / "file").touch()
    made = write_cached_model(NAME, lambda folder: (folder / "config.json").touch(0o600))
    assert made.stat().st_mode == usual.stat().st_mode
    assert (made / "config.json").stat().st_mode == (usual / "file").stat().st_mode


def test_a_full_disk_is_one_error_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(folder: Path) -> None:
        (folder / "config.json").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    with pytest.raises(OutputError, match=r"models/tiny-v1: cannot be written \(No space left on device\); free"):
        write_cached_model(NAME, fill)
    assert not list(cache.iterdir())
    cache.rmdir()
    cache.touch()
    with pytest.raises(OutputError, match=r"models/tiny-v1: cannot be written \((Not a directory|File exists)"):
        write_cached_model(NAME, write)
