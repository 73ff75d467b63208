"""Write text and JSON files atomically; see ``whinchat.output_files`` for what that protects from."""

import json
from pathlib import Path
from typing import Any

from whinchat.errors import RunError
from whinchat.output_files import replace_file


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, atomically.

    Raises:
        RunError: a number is NaN or infinite, which JSON cannot hold.
        OutputError: the file cannot be written.
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
    """Write ``text`` as UTF-8, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    replace_file(path, lambda draft: draft.write_text(text, encoding="utf-8"))
