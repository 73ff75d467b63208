"""Rows as a source gives them, before labels are mapped, and the manners all readers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from whinchat.errors import DataError, nearest

BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """A text, the label as the source spells it, and where both were found."""

    text: str
    label: str
    origin: str
    number: int

    @property
    def where(self) -> str:
        """Such as ``my.csv:12`` or ``my.parquet row 12``; both count from 1, a header line included."""
        return f"{self.origin}{self.number}"


@dataclass(frozen=True)
class RawSource:
    """Rows of each split the source has, under the names train, validation and test.

    ``revision`` pins the content where the source can say so.
    """

    splits: dict[str, tuple[Row, ...]]
    revision: str | None = None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without its byte order mark.

    Raises:
        DataError: missing, unreadable or empty file, or a byte that is not UTF-8.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check data.source") from None
    except OSError as fault:
        raise DataError(f"{path}: cannot be read ({fault.strerror}); check the path and its permissions") from fault
    body = raw.removeprefix(BOM)
    if not body.strip():
        raise DataError(f"{path}: the file is empty; point data.source at one with rows")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as fault:
        offset = fault.start + len(raw) - len(body)
        line = raw.count(b"\n", 0, offset) + 1
        guess = "utf-16" if raw[:2] in {b"\xff\xfe", b"\xfe\xff"} else "windows-1252"
        raise DataError(
            f"{path}:{line}: byte {offset} of the file (0x{raw[offset]:02x}) is not UTF-8; convert the file, for "
            f"instance with `iconv -f {guess} -t utf-8 {path.name} > fixed`, naming the encoding it is really in"
        ) from None


def text_lines(path: Path) -> list[str]:
    r"""Lines of a UTF-8 file, ended by ``\n`` or ``\r\n`` and by nothing else.

    ``str.splitlines`` would also break at U+2028, U+0085 and the like, which do stand inside tweets.
    """
    lines = read_text(path).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def require_column(wanted: str, found: Sequence[str], key: str, where: str) -> None:
    """Check that the column which recipe key ``key`` names is there.

    Raises:
        DataError: it is not, or stands there twice.
    """
    times = list(found).count(wanted)
    if times == 1:
        return
    if times > 1:
        raise DataError(f"{where}: column {wanted!r} stands there {times} times; rename all but one")
    raise DataError(
        f"{where}: no column {wanted!r}{nearest(wanted, found)} Columns found: {', '.join(found)}. "
        f"Name the right one with {key}"
    )


def text_value(value: object, column: str, where: str) -> str:
    """A text cell as a string; a missing one is empty, which is reported later with its fellows.

    Raises:
        DataError: the cell holds something other than text.
    """
    if value is None:
        return ""
    if fault := text_fault(value, column):
        mend = (
            "repair or remove that row (often an emoji cut in two)"
            if isinstance(value, str)
            else "name the column of the texts with data.text_column"
        )
        raise DataError(f"{where}: {fault}; {mend}")
    return str(value)


def text_fault(value: object, column: str) -> str:
    """What keeps a cell from being a text that a model can read; empty where nothing does."""
    if not isinstance(value, str):
        return f"{column!r} holds a {type(value).__name__}, not text"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return f"{column!r} holds half of a surrogate pair, which is no character"
    return ""


def label_value(value: object, column: str, where: str) -> str:
    """A label cell as the string that ``data.label_map`` and ``task.labels`` are compared with.

    Raises:
        DataError: the cell holds several values.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"  # as YAML and JSON spell it
    if isinstance(value, (list, tuple, dict, set)):
        raise DataError(
            f"{where}: {column!r} holds a {type(value).__name__}; a row has exactly one label: "
            "name the column of the labels with data.label_column"
        )
    return str(value)
