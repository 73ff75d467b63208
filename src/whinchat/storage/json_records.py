"""Frozen records as JSON: pydantic's ``TypeAdapter`` writes them, checks them, and reads them back.

A record is a frozen dataclass, a pydantic model, or a tuple of either. Its JSON has one key a field, in the order of
the fields; a field whose stored key differs declares it with ``Annotated[..., Field(alias=...)]``.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from whinchat.errors import RunError
from whinchat.storage.atomic import write_json

T = TypeVar("T")


def to_json(record: Any) -> Any:
    """Return ``record`` as dicts, lists or tuples, strings and numbers, ready for ``json.dumps``."""
    if isinstance(record, tuple):
        return [to_json(row) for row in record]
    kind: Any = type(record)
    return _adapter(kind).dump_python((record,), by_alias=True, warnings=False)[0]


def from_json(kind: type[T], content: Any) -> T:
    """Return the record of type ``kind`` that ``to_json`` turned into ``content``.

    Raises:
        pydantic.ValidationError: a key is missing or unknown, or a value has the wrong type. It is a ``ValueError``.
    """
    hashable_kind: Any = kind  # mypy doubts that a class is hashable
    return cast("T", _adapter(hashable_kind).validate_python((content,))[0])


def write_json_record(path: Path, record: Any) -> None:
    """Write ``record`` as JSON to ``path``, whole or not at all.

    Raises:
        RunError: a number is NaN or infinite, which JSON cannot hold.
    """
    write_json(path, to_json(record))


def read_json_record(path: Path, kind: type[T], remedy: str) -> T:
    """Read the record of type ``kind`` that ``write_json_record`` wrote to ``path``.

    Args:
        path: the file.
        kind: type of the record, such as ``Manifest`` or ``tuple[Sample, ...]``.
        remedy: what the user can do about a file that cannot be read; it ends the error message.

    Raises:
        RunError: the file cannot be read, is not JSON, or does not hold such a record.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not readable as JSON ({error}); {remedy}") from None
    try:
        return from_json(kind, content)
    except ValidationError as error:
        raise RunError(
            f"{path}: not what this version of whinchat writes ({describe_mismatch(error)}); read it with the version "
            f"that wrote it, or {remedy}"
        ) from None


def describe_mismatch(error: ValidationError) -> str:
    """Return the first fault of ``error`` on one line: the path of the key, and what is wrong there."""
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"][1:])  # the first part is the index in the adapter's tuple
    return f"{key}: {fault['msg']}" if key else fault["msg"]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # A dataclass takes no configuration from its adapter, but inherits that of a tuple around it.
    return TypeAdapter(tuple[kind], config=ConfigDict(extra="forbid", allow_inf_nan=False))
