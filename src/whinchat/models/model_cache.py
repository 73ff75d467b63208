"""Keep model folders that whinchat writes itself: each is written once, and appears whole or not at all."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from whinchat.data.packages import cache_folder
from whinchat.models.json_files import JsonFileError, read_json_object
from whinchat.output_files import draft_path, publish, remove_folder, sweep_drafts, writing

# Written last, it holds the size in bytes of each other file.
_SIZES = ".whinchat-sizes"


def find_cached_model(name: str) -> Path | None:
    """Return the model folder ``name`` of the cache; None where it is missing, or has lost a file or a part of one."""
    folder = cached_model_path(name)
    return folder if _is_whole(folder) else None


def write_cached_model(name: str, write: Callable[[Path], Any]) -> Path:
    """Write the model folder ``name`` of the cache; a damaged folder of this name is replaced.

    Several processes may write the same folder at once, and any of them may be killed.

    Args:
        name: the folder's name.
        write: writes the model's files to the empty folder that is its argument.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = cached_model_path(name)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_drafts(target.parent)
        draft = draft_path(target)
        draft.mkdir()
        try:
            write(draft)
            (draft / _SIZES).write_text(json.dumps(_sizes(draft), indent=2), encoding="utf-8")
            _put_in_place(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def cached_model_path(name: str) -> Path:
    """Return where the cache keeps the model folder ``name``, whether or not it exists yet."""
    return cache_folder() / "models" / name


def _put_in_place(draft: Path, target: Path) -> None:
    """Rename ``draft`` to ``target``, unless another process that wrote the same folder was faster."""
    if not _is_whole(target):
        with suppress(FileNotFoundError):  # another process has just removed it
            remove_folder(target)
    try:
        publish(draft, target)
    except OSError:
        if not _is_whole(target):
            raise


def _is_whole(folder: Path) -> bool:
    """Return whether ``folder`` still has each file that was written to it, at its full length."""
    try:
        return read_json_object(folder / _SIZES) == _sizes(folder)
    except JsonFileError:
        return False


def _sizes(folder: Path) -> dict[str, int]:
    return {
        file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file() and file.name != _SIZES
    }
