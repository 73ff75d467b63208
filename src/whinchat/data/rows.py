"""Rows as a source gives them, before labels are mapped, and the checks that all readers share."""

import math
import os
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from gzip import BadGzipFile
from pathlib import Path
from typing import NamedTuple

from whinchat.data.text_columns import TextColumns, cell_spelling, surrogate_fault
from whinchat.errors import DataError, nearest
from whinchat.recipe.data_config import DataConfig

BOM = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# The prefix of a ``data.source`` that names a data set on the hub.
HUB_PREFIX = "hub:"
NAME_COLUMNS = "the right columns with data.text_column and data.label_column (with questions: data.answers)"
# Split -> the names that files and hub data sets give it.
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


class Row(NamedTuple):
    """A text, its label as the source spells it, and where both were found.

    Attributes:
        text: the text.
        label: the label, before ``data.label_map`` applies.
        origin: the source, up to the number of the row, such as ``my.csv:`` or ``my.parquet row ``.
        number: line or row in the source, from 1, a header line included.
        cells: in a recipe with questions, which has no label, the cells of ``data.label_columns``.
    """

    text: str
    label: str
    origin: str
    number: int
    cells: tuple[object, ...] = ()

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
    if fault := _column_fault(column, columns, f"Name the right one with {key}"):
        raise DataError(f"{where}: {fault}")


def require_columns(data: DataConfig, columns: Sequence[str], where: str) -> None:
    """Check the columns of the texts and of the labels or answers as ``require_column`` does, and report all."""
    text_key = "data.text_column" if data.text is None else "data.text"
    label_key = "data.answers" if data.answers else "data.label_column"
    label_remedy = f"Name the right one with {label_key}"
    if data.source == data.soft_labels:
        label_remedy = "Give the probability of each label a column p_LABEL"
    wanted = [(column, f"Name the right one with {text_key}") for column in data.text_columns]
    wanted += [(column, label_remedy) for column in data.label_columns]
    found = (_column_fault(column, columns, remedy) for column, remedy in wanted)
    if faults := [f"{where}: {fault}" for fault in found if fault]:
        raise DataError(*faults)


def _column_fault(column: str, columns: Sequence[str], remedy: str) -> str:
    count = list(columns).count(column)
    if count > 1:
        return f"{count} columns are called {column!r}; rename all but one"
    if count == 0:
        return f"no column {column!r}{nearest(column, columns)} Columns found: {', '.join(columns)}. {remedy}"
    return ""


def require_rows(rows: Sequence[Row], where: str) -> tuple[Row, ...]:
    """Return ``rows``, or raise a DataError that begins with ``where`` if there are none."""
    if not rows:
        raise DataError(f"{where}: has no rows; point data.source at data with rows")
    return tuple(rows)


def labelled_rows(columns: Mapping[str, Sequence[object]], data: DataConfig, where: str) -> tuple[Row, ...]:
    """Return the rows of a table, whose name is ``where``, from the columns that ``data`` names.

    Raises:
        DataError: there is a cell of the wrong kind, or no row.
    """
    text = TextColumns.of(data)
    parts = zip(*(columns[name] for name in text.names), strict=True)
    labels = zip(*(columns[name] for name in data.label_columns), strict=True)
    rows = [
        labelled_row(*text.read(cells), answers, data, f"{where} row ", number)
        for number, (cells, answers) in enumerate(zip(parts, labels, strict=True), 1)
    ]
    return require_rows(rows, where)


def class_names_for(labels: Sequence[object], names: Sequence[str]) -> list[object]:
    """Return ``labels`` with the ``names`` of a ClassLabel column of ``datasets`` in place of integers from 0 on.

    A column of lists of such integers gives lists of names.
    """
    known: dict[object, object] = dict(enumerate(names))

    def named(label: object) -> object:
        if isinstance(label, list):
            return [named(item) for item in label]
        return known.get(label, label) if isinstance(label, int) else label

    return list(map(named, labels))


def labelled_row(text: str, fault: str, cells: Sequence[object], data: DataConfig, origin: str, number: int) -> Row:
    """Return the row with ``text`` and the ``cells`` of ``data.label_columns``.

    A row without a text or a label has an empty string there, so that ``label_splits`` can report all such rows at
    once.

    Args:
        text, fault: what ``TextColumns.read`` returns.
        cells: the label, or with questions the answers.
        data: section of the recipe.
        origin, number: where the row is, as ``Row`` has them.

    Raises:
        DataError: a cell is of the wrong kind.
    """
    if fault == TextColumns.of(data).empty_fault:
        fault = ""
    if not data.answers:
        fault = fault or label_fault(cells[0], data.label_column)
    if fault:
        raise DataError(f"{origin}{number}: {fault}; repair or remove that row, or name {NAME_COLUMNS}")
    if data.answers:
        return Row(text, "", origin, number, tuple(cells))
    return Row(text, cell_spelling(cells[0]), origin, number)


def label_fault(value: object, column: str, noun: str = "label") -> str:
    """Return why a cell cannot be a label, or the ``noun``; empty where it can, also for a cell without a value."""
    if isinstance(value, str):
        return surrogate_fault(value, column)
    if value is None or isinstance(value, (bool, int, Decimal)):
        return ""
    if isinstance(value, float):
        return f"{column!r} holds {value}, which is no {noun}" if math.isinf(value) else ""
    article = "an" if noun.startswith("a") else "a"
    return f"{column!r} holds a {type(value).__name__}; {article} {noun} is one text, number or truth value"
