"""Rows as a source gives them, before labels are mapped, and the checks that all readers share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from whinchat.errors import DataError, nearest
from whinchat.recipe.schema import DataConfig

BOM = b"\xef\xbb\xbf"
# The prefix of a ``data.source`` that names a data set on the hub.
HUB_PREFIX = "hub:"
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


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without its byte order mark.

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
    count = list(columns).count(column)
    if count > 1:
        raise DataError(f"{where}: {count} columns are called {column!r}; rename all but one")
    if count == 0:
        raise DataError(
            f"{where}: no column {column!r}{nearest(column, columns)} Columns found: {', '.join(columns)}. "
            f"Name the right one with {key}"
        )


def require_columns(data: DataConfig, columns: Sequence[str], where: str) -> None:
    """Check ``data.text_column`` and ``data.label_column`` as ``require_column`` does."""
    require_column(data.text_column, columns, "data.text_column", where)
    require_column(data.label_column, columns, "data.label_column", where)


def require_rows(rows: Sequence[Row], where: str) -> tuple[Row, ...]:
    """Return ``rows``, or raise a DataError that begins with ``where`` if there are none."""
    if not rows:
        raise DataError(f"{where}: has no rows; point data.source at data with rows")
    return tuple(rows)


def labelled_rows(
    texts: Sequence[object], labels: Sequence[object], class_names: Sequence[str] | None, data: DataConfig, where: str
) -> tuple[Row, ...]:
    """Return the rows of a table, whose name is ``where``, from its columns of texts and labels.

    ``class_names``, as of a ClassLabel column of ``datasets``, replace integers from 0 on.

    Raises:
        DataError: there is a cell of the wrong kind, or no row.
    """
    names = class_names or ()
    rows = []
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        name = names[label] if isinstance(label, int) and 0 <= label < len(names) else label
        rows.append(labelled_row(text, name, data, f"{where} row ", number))
    return require_rows(rows, where)


def labelled_row(text: object, label: object, data: DataConfig, origin: str, number: int) -> Row:
    """Return the row with the cells ``text`` and ``label``, or raise a DataError for a cell of the wrong kind."""
    where = f"{origin}{number}"
    return Row(text_value(text, data.text_column, where), label_value(label, data.label_column, where), origin, number)


def text_value(value: object, column: str, where: str) -> str:
    """Return a text cell as a string; a missing value becomes an empty text, which ``label_splits`` reports.

    Raises:
        DataError: the cell holds something other than text.
    """
    if value is None:
        return ""
    if fault := text_fault(value, column):
        advice = (
            "repair or remove that row (often an emoji cut in two)"
            if isinstance(value, str)
            else "name the column of the texts with data.text_column"
        )
        raise DataError(f"{where}: {fault}; {advice}")
    return str(value)


def text_fault(value: object, column: str) -> str:
    """Return why a model cannot read a cell as text; empty where it can."""
    if not isinstance(value, str):
        return f"{column!r} holds a {type(value).__name__}, not text"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return f"{column!r} holds half of a surrogate pair, which is no character"
    return ""


def label_value(value: object, column: str, where: str) -> str:
    """Return a label cell as the string that is looked up in ``data.label_map`` and ``task.labels``.

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
