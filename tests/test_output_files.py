"""Files are written whole or not at all, and what cannot be written is one error with path and reason."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from whinchat.errors import OutputError
from whinchat.output_files import (
    draft_path,
    publish,
    replace_file,
    replace_folder,
    require_writable,
    sweep_drafts,
    synchronize,
    temporary_folder,
    writing,
)

ROOT_IGNORES_MODES = pytest.mark.skipif(os.geteuid() == 0, reason="the root user may write to read-only folders")


def dead_process() -> int:
    """Return the identifier of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"notes\.json: cannot be written \(No space left on device\); free some"):
        replace_file(path, refuse)
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "notes.json", []
    fsync = os.fsync

    def record(handle: int) -> None:
        calls.append((str(Path(f"/proc/self/fd/{handle}").readlink()), path.exists()))
        fsync(handle)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("only Linux says which file a handle belongs to")
    monkeypatch.setattr(os, "fsync", record)
    replace_file(path, lambda draft: draft.write_text("new"))
    (draft, existed), (folder, exists) = calls
    assert draft.endswith(".draft.json")
    assert not existed
    assert (folder, exists) == (str(tmp_path), True)
    assert path.read_text() == "new"


def test_a_folder_is_published_whole(tmp_path: Path) -> None:
    draft = draft_path(tmp_path / "model")
    (draft / "inner").mkdir(parents=True)
    (draft / "inner" / "weights").write_bytes(b"123")
    publish(draft, tmp_path / "model")
    assert (tmp_path / "model" / "inner" / "weights").read_bytes() == b"123"
    assert not draft.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_published_files_have_the_mode_that_the_umask_gives(
    umask: int, mode: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    former = os.umask(umask)
    request.addfinalizer(lambda: os.umask(former))

    def write_weights(path: Path) -> None:
        save_file({"a": torch.zeros(3)}, path)
        path.chmod(0o600)  # as safetensors leaves it, whatever the version

    def write_model(folder: Path) -> None:
        (folder / "inner").mkdir()
        write_weights(folder / "inner" / "weights")
        (folder / "script").touch(0o777)

    replace_file(tmp_path / "weights", write_weights)
    replace_folder(tmp_path / "model", write_model)
    for path in (tmp_path / "weights", tmp_path / "model" / "inner" / "weights"):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "model" / "script").stat().st_mode) == 0o777 & ~umask


def test_only_drafts_of_dead_processes_are_swept(tmp_path: Path) -> None:
    mine = draft_path(tmp_path / "a.csv")
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{dead_process()}-"))
    elsewhere = mine.with_name(f".00000000-{dead_process()}-aa.draft.csv")
    abandoned = elsewhere.with_name(elsewhere.name.replace("-aa", "-bb"))
    folder = dead.with_name(dead.name.replace(".draft.csv", ".draft"))
    mine_by_name = [tmp_path / ".my-own-notes.draft", tmp_path / "a-b-c.draft"]
    for path in (mine, dead, elsewhere, abandoned, *mine_by_name):
        path.touch()
    (folder / "inner").mkdir(parents=True)
    os.utime(abandoned, (0, 0))
    sweep_drafts(tmp_path)
    assert set(tmp_path.iterdir()) == {mine, elsewhere, *mine_by_name}
    sweep_drafts(tmp_path / "missing")


def test_temporary_folders_of_dead_processes_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as used:
        stale = used.with_name(used.name.replace(f"-{os.getpid()}-", f"-{dead_process()}-"))
        (stale / "inner").mkdir(parents=True)
        with temporary_folder():
            assert used.is_dir()
            assert not stale.exists()
    assert list(tmp_path.iterdir()) == []


def test_old_temporary_folders_in_use_and_folders_of_users_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    of_users = [tmp_path / "whinchat-run-3-seed1", tmp_path / "whinchat-20251101-12-x"]
    for path in of_users:
        path.mkdir()
    with temporary_folder() as used:  # as a server does that gets no upload for days
        for path in (used, *of_users):
            os.utime(path, (0, 0))
        with temporary_folder():
            pass
        assert set(tmp_path.iterdir()) == {used, *of_users}


def test_a_temporary_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"gone: cannot be written \(No such file"), temporary_folder():
        pass
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "gone")])
    said = r"No usable temporary directory found in .*gone.*; free some space, or set TMPDIR"
    with pytest.raises(OutputError, match=said), temporary_folder():
        pass


def test_files_that_another_process_renames_meanwhile_do_not_stop_a_synchronization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").touch()
    monkeypatch.setattr(os, "walk", lambda folder: [(str(folder), [], ["renamed", "here"])])
    synchronize(tmp_path)
    with pytest.raises(FileNotFoundError):
        synchronize(tmp_path / "renamed")


def test_what_can_be_written_is_found_without_a_trace(tmp_path: Path) -> None:
    require_writable(tmp_path)
    require_writable(tmp_path / "new" / "deep" / "file.csv")
    (tmp_path / "file").touch()
    require_writable(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("name", "reason"), [("file/out.csv", "Not a directory"), ("x" * 300, "File name too long")])
def test_what_cannot_be_written_is_said_at_once(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=rf"cannot be written \({reason}\)"):
        require_writable(tmp_path / name)


@ROOT_IGNORES_MODES
def test_a_read_only_folder_is_said_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        require_writable(tmp_path / "out.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="only Unix limits the size of files")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_file({"a": torch.zeros(100_000)}, path),
        lambda path: torch.save({"a": torch.zeros(100_000)}, path),
        lambda path: Path(path).write_bytes(b"1" * 100_000),
        lambda path: Tokenizer(WordLevel({f"word {number}": number for number in range(10_000)})).save(path),
    ],
    ids=["safetensors", "torch", "python", "tokenizers"],
)
def test_every_library_reports_a_file_that_is_cut_off_alike(
    write: object, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    with pytest.raises(OutputError, match="weights: cannot be written"), writing(tmp_path / "weights"):
        write(str(tmp_path / "weights"))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), writing(Path("x")):
        raise RuntimeError("a wrong shape")
