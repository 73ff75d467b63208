"""Replace several files of a folder together: after a kill or a full disk, all of them are new, or all are old.

The new files are written into a draft folder, which is then renamed; with that the update is decided. From then on,
whoever opens the folder first moves the files that are still waiting to their places.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from whinchat.errors import RunError
from whinchat.output_files import draft_path, publish, writing

# Holds the decided files that are not yet in their places.
_DECIDED = ".whinchat-update"


@contextmanager
def update_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder for new files, laid out as ``folder`` is, and put them into ``folder`` together at the end.

    Nothing in ``folder`` changes if the block fails. The caller holds the lock of ``folder``.

    Raises:
        OutputError: the new files cannot be written.
        RunError: a new file would go through a symbolic link to a place outside ``folder``.
    """
    finish_update(folder)
    draft = draft_path(folder / "update")
    try:
        with writing(folder):
            draft.mkdir(parents=True)
        yield draft
        for target in (folder / path.relative_to(draft) for path in _files(draft)):
            if target.is_dir():
                with writing(target):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            # Before the update is decided, since a decided update that cannot be finished makes the folder unusable.
            if _leads_out(target, folder):
                raise RunError(
                    f"{target}: leads out of {folder} through a symbolic link, so it cannot be replaced together with "
                    "the other files; put the files themselves in place of the link, and repeat this command"
                )
        with writing(folder):
            publish(draft, folder / _DECIDED)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    finish_update(folder)


def finish_update(folder: Path) -> None:
    """Move the files of a decided update to their places; without one, do nothing.

    Several processes may do so at once: each file is moved by one of them.

    Raises:
        RunError: a file cannot be moved, or would be moved out of ``folder`` through a symbolic link.
    """
    decided = folder / _DECIDED
    if not decided.is_dir():
        return
    try:
        for path in _files(decided):
            _move(path, folder / path.relative_to(decided), folder)
        # Not a recursive deletion: another process may have decided the next update meanwhile.
        for empty in sorted((decided, *decided.rglob("*")), reverse=True):
            with suppress(OSError):
                empty.rmdir()
    except OSError as error:
        raise RunError(
            f"{folder}: a command was stopped before all of its new files were in place, and they cannot be put there "
            f"now ({error.strerror}); make the folder writable, and repeat this command"
        ) from None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _leads_out(target: Path, folder: Path) -> bool:
    return not target.parent.resolve().is_relative_to(folder.resolve())


def _move(path: Path, target: Path, folder: Path) -> None:
    """Move ``path`` to ``target``, unless another process has done so."""
    if path.is_symlink() or _leads_out(target, folder):
        raise RunError(f"{path}: leads out of {folder} through a symbolic link; whinchat did not make this; delete it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        path.replace(target)
