"""Write files whole: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whinchat.errors import RunError


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON; a reader sees the old file or the new one, never a part.

    Raises:
        RunError: a number is NaN or infinite, which JSON cannot hold.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as fault:
        raise RunError(
            f"{path}: a number is NaN or infinite ({fault}); leave out what was not measured, and if it is the loss, "
            "training diverged: lower train.learning_rate"
        ) from None
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text``, as whole as ``write_json`` does."""
    replace_file(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a draft beside ``path``, then put it in the place of ``path`` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    draft = Path(name)
    try:
        write(draft)
        draft.chmod(0o666 & ~_umask())  # mkstemp lets no one else read
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
