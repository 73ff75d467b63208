"""Files that belong together are replaced together, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from whinchat import output_files
from whinchat.errors import OutputError, RunError
from whinchat.storage import folder_update
from whinchat.storage.folder_update import finish_update, update_folder

OLD, NEW = {"a.txt": "old a", "in/b.txt": "old b"}, {"a.txt": "new a", "in/b.txt": "new b", "in/c.txt": "new c"}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.txt")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "run", OLD)
    return tmp_path / "run"


def test_all_files_are_replaced(folder: Path) -> None:
    with update_folder(folder) as changed:
        write(changed, NEW)
        assert content(folder) != NEW
    assert content(folder) == NEW
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "in"]


def test_a_failure_changes_nothing(folder: Path) -> None:
    def fail() -> None:
        with update_folder(folder) as changed:
            write(changed, NEW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert content(folder) == OLD
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "in"]


def test_a_full_disk_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(output_files, "synchronize", full)
    with pytest.raises(OutputError, match="No space left on device"), update_folder(folder) as changed:
        write(changed, NEW)
    assert content(folder) == OLD


def decided(folder: Path, monkeypatch: pytest.MonkeyPatch, moved: int) -> None:
    """Leave the folder as a process does that is killed after it has moved some of the new files."""
    left = [moved]
    real = folder_update._move

    def killed(*arguments: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(folder_update, "_move", killed)
        with pytest.raises(KeyboardInterrupt), update_folder(folder) as changed:
            write(changed, NEW)


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_decided_update_is_finished_by_the_next_process(
    folder: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(folder, monkeypatch, moved)
    assert content(folder) != NEW
    finish_update(folder)
    assert content(folder) == NEW
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "in"]
    finish_update(folder)
    assert content(folder) == NEW


def test_a_folder_that_cannot_be_written_is_not_taken_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided(folder, monkeypatch, 1)

    def read_only(self: Path, target: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "replace", read_only)
    with pytest.raises(RunError, match=r"was stopped before .*Read-only file system.*make the folder writable"):
        finish_update(folder)


def test_an_update_does_not_leave_its_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (folder / "figures").symlink_to(tmp_path / "home")
    write(folder / ".whinchat-update", {"figures/deep/keys.txt": "evil"})
    with pytest.raises(RunError, match=r"leads out of .* through a symbolic link"):
        finish_update(folder)
    assert not any((tmp_path / "home").iterdir())


def test_a_link_out_of_the_folder_is_found_before_the_update_is_decided(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (folder / "figures").symlink_to(tmp_path / "home")
    with pytest.raises(RunError, match=r"through a symbolic link.*put the files"), update_folder(folder) as changed:
        write(changed, {**NEW, "figures/d.txt": "new d"})
    finish_update(folder)
    assert content(folder) == OLD
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "figures", "in"]
