"""CSV and TSV tables."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from whinchat.data.formats.table_format import Block, Columns, ColumnTypes
from whinchat.data.formats.text_format import DecodedLines, TextFormat, skip_bom
from whinchat.data.rows import Row, read_text, require_column, require_columns, require_rows
from whinchat.errors import DataError
from whinchat.recipe.schema import DataConfig

# Longest field, in characters: a quote that is never closed would otherwise take in the rest of the file.
csv.field_size_limit(1 << 20)

_MESSAGE_CHARS = 200


class CsvFormat(TextFormat):
    """Comma-separated values with the names of the columns in the first line; empty lines are no rows.

    Quoting is that of Python's csv module: a quoted field may hold delimiters, line breaks and doubled quotes.
    A subclass with another ``delimiter`` is a format of its own.
    """

    name = "csv"
    suffixes = (".csv",)
    delimiter: ClassVar[str] = ","
    delimiter_name: ClassVar[str] = "commas (or tabs, in a file called .tsv)"

    @classmethod
    def read_labelled_rows(cls, path: Path, data: DataConfig) -> tuple[Row, ...]:
        # newline="" keeps line breaks inside quotes; splitlines would also break at U+2028, which stands in texts.
        reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=cls.delimiter, strict=True)
        rows: list[Row] = []
        header: list[str] = []
        line = 0
        try:
            for fields in reader:
                first_line, line = line + 1, reader.line_num
                if not fields:
                    continue
                if not header:
                    header = [name.strip() for name in fields]
                    cls._require_delimiter(header, f"{path}:1")
                    require_columns(data, header, f"{path}:1")
                    continue
                if len(fields) != len(header):
                    raise DataError(
                        f"{path}:{first_line}: {len(fields)} fields where the header has {len(header)}; "
                        'put a text with delimiters or line breaks in "quotes"'
                    )
                cells = dict(zip(header, fields, strict=True))
                rows.append(Row(cells[data.text_column], cells[data.label_column], f"{path}:", first_line))
        except csv.Error as fault:
            raise DataError(
                f"{path}:{line + 1}: cannot be parsed from here on ({fault}); "
                'inside a quoted text, double each quote: ""'
            ) from fault
        return require_rows(rows, str(path))

    @classmethod
    def _require_delimiter(cls, header: Sequence[str], where: str) -> None:
        if len(header) == 1 and any(other in header[0] for other in ",;\t|"):
            raise DataError(
                f"{where}: the header {header[0]!r} is not separated by {cls.delimiter_name}; save it that way"
            )

    def read_columns(self) -> tuple[str, ...]:
        with self.path.open("rb") as file:
            fields, fault = next(self._parse(DecodedLines(file, skip_bom(file))), (None, ""))
        if fields is None:
            raise DataError(f"{self.path}: the file is empty; give one with a header and rows")
        if fault:
            raise DataError(
                f"{self.path}: the header cannot be read: {fault[:_MESSAGE_CHARS]}; save the file as UTF-8 text with "
                "line breaks as Linux or Windows writes them"
            )
        # A labelled table repeats the header as it was written; names are compared without the space around them.
        self._fields = tuple(fields)
        names = tuple(name.strip() for name in fields)
        if self.text_column not in names:
            self._require_delimiter(names, str(self.path))
        require_column(self.text_column, names, "--text-column", str(self.path))
        return names

    def write_part(self, path: Path, block: Block, columns: Columns, column_types: ColumnTypes) -> None:
        width = len(self.names)
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, delimiter=self.delimiter, lineterminator="\n")
            for index, row in enumerate(block.rows):
                # The fault of a row with surplus fields quotes them, so they are not lost.
                cells = [*row[:width], *[""] * (width - len(row))]
                writer.writerow([*cells, *(_format_cell(values[index]) for values in columns.values())])

    def skip_header(self, file: BinaryIO) -> int:
        lines = DecodedLines(file, skip_bom(file))
        next(self._parse(lines))
        return lines.end

    def row_ends(self, file: BinaryIO, start: int) -> Iterator[int]:
        lines = DecodedLines(file, start)
        for _ in self._parse(lines):
            yield lines.end

    def read_rows(self, file: BinaryIO) -> Iterator[tuple[Any, str, str]]:
        width, text_index = len(self.names), self.names.index(self.text_column)
        for row, fault in self._parse(DecodedLines(file)):
            if not fault and len(row) != width:
                surplus = f": {_quote(row[width:])}" if len(row) > width else ""
                yield row, "", f"{len(row)} fields, the header has {width}{surplus}"
            else:
                yield row, "" if fault else row[text_index], fault

    def _parse(self, lines: DecodedLines) -> Iterator[tuple[list[str], str]]:
        """Yield the fields of each row, and its fault."""
        reader = csv.reader(lines, delimiter=self.delimiter)
        while True:
            lines.lines.clear()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as fault:
                # The reader goes on behind the line that it could not read.
                lines.take_fault()
                yield [], f"not CSV ({fault}): {_quote(''.join(lines.lines))}"
                continue
            if row:
                yield row, lines.take_fault()

    def header(self, added: Sequence[str]) -> bytes:
        line = io.StringIO()
        csv.writer(line, delimiter=self.delimiter, lineterminator="\n").writerow([*self._fields, *added])
        return line.getvalue().encode()


class TsvFormat(CsvFormat):
    """Tab-separated values, quoted as CSV is."""

    suffixes = (".tsv",)
    delimiter = "\t"
    delimiter_name = "tabs"


def _quote(value: Any) -> str:
    """Return ``value`` as JSON for a message, with characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False)


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
