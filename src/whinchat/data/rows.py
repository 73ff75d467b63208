"""Rows as a source gives them, before labels are mapped, and the checks that all readers share."""

import math
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from gzip import BadGzipFile
from pathlib import Path
from typing import NamedTuple

from whinchat.errors import DataError, nearest
from whinchat.recipe.data_config import DataConfig

BOM = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# The prefix of a ``data.source`` that names a data set on the hub.
HUB_PREFIX = "hub:"
NAME_COLUMNS = "the right columns with data.text_column and data.label_column"
# Split -> the names that files and hub data sets give it.
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


class Row(NamedTuple):
    """A text, its label as the source spells it, and where both were found.

    Attributes:
        text: the text.
        label: the label, before ``data.label_map`` applies.
        origin: the source, up to the number of the row, such as ``my.csv:`` or ``my.parquet row ``.
        number: line or row in the source, from 1, a header line included.
    """

    text: str
    label: str
    origin: str
    number: int

    @property
    def where(self) -> str:
        """Return the place of the row for a message, such as ``my.csv:12`` or ``my.parquet row 12``."""
        return f"{self.origin}{self.number}"


@dataclass(frozen=True)
class RawSource:
    """Rows as read from a source.

    Attributes:
        splits: rows of each split the source has, under the names train, validation and test.
        revision: the commit or version that pins the content; None if the source has neither.
    """

    splits: dict[str, tuple[Row, ...]]
    revision: str | None = None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of the operating system and of gzip, raised inside ``with``, into a DataError that names ``path``."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path (in a recipe, data.source)") from None
    except (BadGzipFile, EOFError, zlib.error) as fault:
        raise DataError(f"{path}: cannot be decompressed ({fault}); compress it again with gzip") from fault
    except OSError as fault:
        reason = fault.strerror or fault
        raise DataError(f"{path}: cannot be read ({reason}); check the path and its permissions") from fault


def require_file(path: Path, advice: str) -> None:
    """Check that ``path`` is a file that can be read.

    Raises:
        DataError: there is no file, or not such a one; the message ends in ``advice`` where there is none.
    """
    with reading(path):
        mode = path.stat().st_mode if path.exists() else None
    if mode is None:
        missing = f"a link to {path.readlink()}, which is missing" if path.is_symlink() else "no such file"
        raise DataError(f"{path}: {missing}; {advice}")
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise DataError(f"{path}: is {kind}, where a file should be; rename or remove it, or give the path of a file")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read; check its permissions")


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without its byte order mark.

    Raises:
        DataError: missing, unreadable or empty file, or a byte that is not UTF-8.
    """
    with reading(path):
        raw = path.read_bytes()
    body = raw.removeprefix(BOM)
    if not body.strip():
        raise DataError(f"{path}: the file is empty; point data.source at one with rows")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as fault:
        offset = fault.start + len(raw) - len(body)
        line = raw.count(b"\n", 0, offset) + 1
        encoding = "utf-16" if raw.startswith(UTF16_MARKS) else "windows-1252"
        raise DataError(
            f"{path}:{line}: byte {offset} of the file (0x{raw[offset]:02x}) is not UTF-8; "
            f"{encoding_advice(path, encoding)}"
        ) from None


def encoding_advice(path: Path, encoding: str = "windows-1252") -> str:
    """Return how to convert a file that is not UTF-8, and may be in ``encoding``."""
    return (
        f"convert the file, for instance with `iconv -f {encoding} -t utf-8 {path.name} > fixed`, naming the encoding "
        "it is really in"
    )


def text_lines(path: Path) -> list[str]:
    r"""Return the lines of a UTF-8 file, which end in ``\n`` or ``\r\n`` only.

    ``str.splitlines`` would also break at characters such as U+2028 and U+0085, which occur inside texts. Errors are
    those of ``read_text``.
    """
    lines = read_text(path).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def require_column(column: str, columns: Sequence[str], key: str, where: str) -> None:
    """Check that ``column``, which the recipe key or option ``key`` names, occurs once among ``columns``.

    Raises:
        DataError: the column is missing, or occurs more than once; the message begins with ``where``.
    """
    if fault := _column_fault(column, columns, key):
        raise DataError(f"{where}: {fault}")


def require_columns(data: DataConfig, columns: Sequence[str], where: str) -> None:
    """Check ``data.text_column`` and ``data.label_column`` as ``require_column`` does, and report both."""
    wanted = {"data.text_column": data.text_column, "data.label_column": data.label_column}
    found = (_column_fault(column, columns, key) for key, column in wanted.items())
    if faults := [f"{where}: {fault}" for fault in found if fault]:
        raise DataError(*faults)


def _column_fault(column: str, columns: Sequence[str], key: str) -> str:
    count = list(columns).count(column)
    if count > 1:
        return f"{count} columns are called {column!r}; rename all but one"
    if count == 0:
        return (
            f"no column {column!r}{nearest(column, columns)} Columns found: {', '.join(columns)}. "
            f"Name the right one with {key}"
        )
    return ""


def require_rows(rows: Sequence[Row], where: str) -> tuple[Row, ...]:
    """Return ``rows``, or raise a DataError that begins with ``where`` if there are none."""
    if not rows:
        raise DataError(f"{where}: has no rows; point data.source at data with rows")
    return tuple(rows)


def labelled_rows(texts: Sequence[object], labels: Sequence[object], data: DataConfig, where: str) -> tuple[Row, ...]:
    """Return the rows of a table, whose name is ``where``, from its columns of texts and labels.

    Raises:
        DataError: there is a cell of the wrong kind, or no row.
    """
    cells = enumerate(zip(texts, labels, strict=True), 1)
    return require_rows([labelled_row(*pair, data, f"{where} row ", number) for number, pair in cells], where)


def class_names_for(labels: Sequence[object], names: Sequence[str]) -> list[object]:
    """Return ``labels`` with the ``names`` of a ClassLabel column of ``datasets`` in place of integers from 0 on."""
    known = dict(enumerate(names))
    return [known.get(label, label) if isinstance(label, int) else label for label in labels]


def labelled_row(text: object, label: object, data: DataConfig, origin: str, number: int) -> Row:
    """Return the row with the cells ``text`` and ``label``.

    A cell without a text or a label becomes an empty string, so that ``label_splits`` can report all such rows at once.

    Raises:
        DataError: a cell is of the wrong kind.
    """
    fault = text_fault(text, data.text_column)
    if fault == empty_fault(data.text_column):
        fault, text = "", ""
    if fault := fault or label_fault(label, data.label_column):
        raise DataError(f"{origin}{number}: {fault}; repair or remove that row, or name {NAME_COLUMNS}")
    return Row(str(text), label_spelling(label), origin, number)


def read_text_cell(value: object, column: str) -> tuple[str, str]:
    """Return the text of a cell and its fault, one of which is empty."""
    fault = text_fault(value, column)
    return ("", fault) if fault else (str(value), "")


def empty_fault(column: str) -> str:
    """Return the fault of a cell without a text."""
    return f"{column!r} holds nothing"


def text_fault(value: object, column: str) -> str:
    """Return why a model cannot read a cell as text; empty where it can.

    A blank cell holds nothing: an answer to an empty text means nothing.
    """
    if value is None:
        return empty_fault(column)
    if not isinstance(value, str):
        return f"{column!r} holds a {type(value).__name__}, not text"
    if not value.strip():
        return empty_fault(column)
    return _surrogate_fault(value, column)


def label_fault(value: object, column: str) -> str:
    """Return why a cell cannot be a label; empty where it can, also for a cell without a value."""
    if isinstance(value, str):
        return _surrogate_fault(value, column)
    if value is None or isinstance(value, (bool, int, Decimal)):
        return ""
    if isinstance(value, float):
        return f"{column!r} holds {value}, which is no label" if math.isinf(value) else ""
    return f"{column!r} holds a {type(value).__name__}; a label is one text, number or truth value"


def label_spelling(value: object) -> str:
    """Return a label cell as the string that is looked up in ``data.label_map`` and ``task.labels``.

    A missing value (None, or NaN, with which pandas fills gaps among numbers) gives an empty string.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"  # as YAML and JSON spell it
    return str(value)


def _surrogate_fault(value: str, column: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return f"{column!r} holds half of a surrogate pair, which is no character (often an emoji cut in two)"
    return ""
