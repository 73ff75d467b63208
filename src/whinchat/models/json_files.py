"""Read the JSON files of models and adapters within bounds: size, depth and type."""

import json
from pathlib import Path
from typing import Any

# The largest are the indexes of models with thousands of experts, of some 15 MiB.
LARGEST_BYTES = 64 * 2**20


class JsonFileError(ValueError):
    """A JSON file cannot be read; the message says why, without the file's name."""


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        JsonFileError: the file is larger than 64 MiB, cannot be read, is not JSON, or holds another type.
    """
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= LARGEST_BYTES else None
    except OSError as error:
        raise JsonFileError(error.strerror or type(error).__name__) from error
    except UnicodeDecodeError as error:
        raise JsonFileError("it is not UTF-8") from error
    if text is None:
        raise JsonFileError(f"it has {size / 2**20:.0f} MiB, and no such file needs more than 64")
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise JsonFileError("it is nested too deeply") from error
    except ValueError as error:
        raise JsonFileError(f"it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise JsonFileError(f"it holds a {type(content).__name__} where an object is expected")
    return content
