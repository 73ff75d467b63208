"""CSV and TSV tables."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from whinchat.data.formats.table_format import Block, Columns, ColumnTypes
from whinchat.data.formats.text_format import MAX_LINE_BYTES, LineReader, TextFormat, decode_line, open_unpacked
from whinchat.errors import DataError

# The csv module refuses fields of more than 131,072 characters by default.
csv.field_size_limit(MAX_LINE_BYTES)
# Longest row that spans lines, in bytes. A quote that is never closed takes in as many, before its line becomes a row.
_MAX_ROW_BYTES = 1 << 20
# Parts of a row's fault.
_UNCLOSED = "a quote is opened and not closed at the end of a field"
_MISPLACED = "a quote is closed before the end of its field"
_RETURN = "a carriage return stands outside of quotes"
_COUNT = "fields, the header has"
# The first characters of cells that spreadsheets take for formulas (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class CsvFormat(TextFormat):
    """Comma-separated values with the names of the columns in the first line; empty lines are no rows.

    A table whose header has semicolons and no comma is separated by semicolons, as spreadsheets write tables where the
    comma is the decimal mark. A labelled table is separated like its source.

    Quoting is that of RFC 4180: a quoted field may hold delimiters, line breaks and doubled quotes. Where a quote is
    never closed, or is closed elsewhere than at the end of a field, the line alone is a row with a fault: no line is
    swallowed by another. A subclass with another ``delimiter`` is a format of its own.
    """

    name = "csv"
    suffixes = (".csv",)
    delimiter: str = ","
    delimiter_name: ClassVar[str] = "commas or semicolons (or tabs, in a file called .tsv)"

    def read_columns(self) -> tuple[str, ...]:
        number, fields, fault = self._read_header()
        wanted = () if self.text is None else self.text.names
        if self.delimiter == "," and len(fields) == 1 and ";" in fields[0] and fields[0].strip() not in wanted:
            self.delimiter = ";"
            number, fields, fault = self._read_header()
        where = f"{self.path}:{number}"
        if not fields:
            raise DataError(f"{self.path}: the file is empty; give one with a header and rows")
        if fault:
            raise DataError(f"{where}: the header cannot be read: {fault}; {self.repair_advice(fault)}")
        # A labelled table repeats the header as it was written; names are compared without the space around them.
        self._fields = tuple(fields)
        names = tuple(name.strip() for name in fields)
        if len(names) == 1 and names[0] not in wanted and any(other in names[0] for other in ",;\t|"):
            raise DataError(
                f"{where}: the header {names[0]!r} is not separated by {self.delimiter_name}; save it that way"
            )
        self.require_text(names, where)
        return names

    def _read_header(self) -> tuple[int, list[str], str]:
        """Return line, fields and fault of the first row; no fields for an empty file."""
        with self.open_lines() as lines:
            number, (fields, fault) = next(self.split_rows(lines), (1, ([], "")))
        return number, fields, fault

    def column_values(self, block: Block, column: str) -> Sequence[object]:
        index = self.names.index(column)
        return [row[index] if index < len(row) else None for row in block.rows]

    def repair_advice(self, fault: str) -> str:
        if any(kind in fault for kind in (_UNCLOSED, _MISPLACED, _RETURN, _COUNT)):
            return 'put a text with delimiters, quotes or line breaks in "quotes", and double each quote in it: ""'
        return super().repair_advice(fault)

    def write_part(self, path: Path, block: Block, columns: Columns, column_types: ColumnTypes) -> None:
        width = len(self.names)
        with path.open("w", encoding="utf-8", newline="") as out:
            for index, row in enumerate(block.rows):
                # The fault of a row with surplus fields quotes them, so they are not lost.
                cells = [*row[:width], *[""] * (width - len(row))]
                out.write(self._format_row([*cells, *(_format_cell(values[index]) for values in columns.values())]))

    def count_rows(self, path: Path) -> int:
        with io.TextIOWrapper(open_unpacked(path), "utf-8", newline="") as lines:
            return sum(1 for _ in csv.reader(lines, delimiter=self.delimiter, strict=True)) - 1

    def skip_header(self, lines: LineReader) -> None:
        next(self.split_rows(lines))

    def split_rows(self, lines: LineReader) -> Iterator[tuple[int, tuple[list[str], str]]]:
        """Yield the fields of each row and the fault of its quotes or bytes; see the base class."""
        row_lines = _RowLines(lines)
        reader = csv.reader(row_lines, delimiter=self.delimiter, strict=True)
        while True:
            row_lines.begin()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except (csv.Error, _RowTooLongError):
                fields = None
            if fields is None or self._looks_like_rows(row_lines.taken):
                yield row_lines.number, self._read_alone(row_lines)
            elif fields:
                yield row_lines.number, (fields, row_lines.fault)

    def read_row(self, split: tuple[list[str], str]) -> tuple[list[str], str, str]:
        fields, fault = split
        width = len(self.names)
        if len(fields) != width:
            surplus = f": {json.dumps(fields[width:], ensure_ascii=False)}" if len(fields) > width else ""
            counted = f"{len(fields)} {_COUNT} {width}{surplus}"
            fault = f"{fault}; {counted}" if fault else counted
        if fault or self.text is None:
            return fields, "", fault
        return fields, *self.text.read([fields[self.names.index(name)] for name in self.text.names])

    def header(self, added: Sequence[str]) -> bytes:
        return self._format_row([*self._fields, *added]).encode()

    def _split_alone(self, line: str) -> list[str]:
        """Return the fields of a line by its delimiters only, with quotes as they are."""
        return line.rstrip("\r\n").split(self.delimiter)

    def _read_alone(self, row_lines: "_RowLines") -> tuple[list[str], str]:
        """Make a row of the first line that was taken, and return the other lines to be read again."""
        several = len(row_lines.taken) > 1
        line, encoding_fault = decode_line(row_lines.keep_first())
        fields = self._split_alone(line)
        unquoted = _RETURN if "\r" in "".join(fields) else _MISPLACED
        return fields, encoding_fault or (_UNCLOSED if several or row_lines.ended else unquoted)

    def _looks_like_rows(self, taken: Sequence[bytes]) -> bool:
        """Return whether lines that one pair of quotes joins are more likely rows of their own.

        Each line has as many fields as the header, and, since texts hold commas more often than tabs, the same field of
        all of them is a number where fields are not separated by tabs.
        """
        width = len(self.names)
        if len(taken) < 2 or width < 2:
            return False
        rows = [self._split_alone(decode_line(line)[0]) for line in taken]
        if any(len(row) != width for row in rows):
            return False
        return self.delimiter == "\t" or any(all(map(_is_number, column)) for column in zip(*rows, strict=True))

    def _format_row(self, cells: Sequence[str]) -> str:
        return self.delimiter.join(self._quote(cell, alone=len(cells) == 1) for cell in cells) + "\n"

    def _quote(self, cell: str, alone: bool) -> str:
        if self.escape_formulas and cell.startswith(_FORMULA_STARTS):
            cell = f"'{cell}"
        if any(special in cell for special in (self.delimiter, '"', "\n", "\r")) or (alone and not cell):
            return '"' + cell.replace('"', '""') + '"'
        return cell


class TsvFormat(CsvFormat):
    """Tab-separated values, quoted as CSV is."""

    suffixes = (".tsv",)
    delimiter = "\t"
    delimiter_name = "tabs"


class _RowTooLongError(Exception):
    """A row spans more lines than it may."""


class _RowLines:
    """Iterate over lines for the csv module, and remember those of the row that is being read.

    Attributes:
        taken: the lines that were taken since ``begin``.
        number: number of the first of them.
        fault: why a taken line is not UTF-8, or an empty string.
        ended: whether there was no further line to take.
    """

    def __init__(self, lines: LineReader) -> None:
        self._lines = lines
        self.begin()

    def begin(self) -> None:
        """Begin a new row."""
        self.taken: list[bytes] = []
        self.number = self._lines.number + 1
        self._bytes = 0
        self._alone = self._lines.end < self._lines.alone_until
        self.fault = ""
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._bytes > _MAX_ROW_BYTES and len(self.taken) > 1:
            raise _RowTooLongError
        if self._alone and self.taken:
            self.ended = True
            raise StopIteration
        try:
            raw = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.taken.append(raw)
        self._bytes += len(raw)
        line, fault = decode_line(raw)
        self.fault = self.fault or fault
        return line

    def keep_first(self) -> bytes:
        """Return the first line that was taken, and have the others read again, each alone except for the last.

        So a file of quotes that are never closed is read in time that its size bounds.
        """
        if len(self.taken) > 1:
            self._lines.alone_until = self._lines.end - len(self.taken[-1])
        self._lines.put_back(self.taken[1:])
        return self.taken[0]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
