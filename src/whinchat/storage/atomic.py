"""Write files atomically: a reader sees the old file or the new file, never a part of one."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whinchat.errors import RunError


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, atomically.

    Raises:
        RunError: a number is NaN or infinite, which JSON cannot hold.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RunError(
            f"{path}: a number is NaN or infinite ({error}); leave out what was not measured, and if it is the loss, "
            "training diverged: lower train.learning_rate"
        ) from None
    write_text(path, text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    replace_file(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with the path of a draft in the same folder, then rename the draft to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    draft = Path(name)
    try:
        write(draft)
        draft.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting the mask."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
