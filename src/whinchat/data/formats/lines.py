"""Tables of lines: CSV, TSV and JSONL."""

from __future__ import annotations

import csv
import io
import json
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from whinchat.data.formats.table_format import Block, BlockLocation, Columns, ColumnTypes, TableFormat, text_cell
from whinchat.data.rows import BOM, require_column
from whinchat.errors import DataError

# Characters. A quote that is never closed would otherwise take the rest of the file, and all of the memory.
csv.field_size_limit(1 << 20)


class LineFormat(TableFormat):
    """What CSV and JSONL share: lines of text, found by the byte they begin at."""

    def places(self, rows: int, seen: Callable[[int], object]) -> Iterator[BlockLocation]:
        with self.path.open("rb") as file:
            start = self._skip_head(file)
            number, count = 0, 0
            for end in self._ends(file, start):
                count += 1
                if count == rows:
                    yield BlockLocation(number, (start,), count)
                    seen(end - start)
                    start, number, count = end, number + 1, 0
            if count:
                yield BlockLocation(number, (start,), count)

    def read(self, place: BlockLocation) -> Block:
        with self.path.open("rb") as file:
            file.seek(place.start[0])
            found = list(islice(self._rows(file), place.rows))
        rows, texts, faults = zip(*found, strict=True)
        return Block(rows, texts, faults)

    def join(self, parts: Sequence[Path], path: Path, kinds: ColumnTypes) -> None:
        with path.open("wb") as out:
            out.write(self.head(tuple(kinds)))
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, out)

    @abstractmethod
    def _skip_head(self, file: Any) -> int:
        """Go to the first row; its byte."""

    @abstractmethod
    def _ends(self, file: Any, start: int) -> Iterator[int]:
        """The byte after each row."""

    @abstractmethod
    def _rows(self, file: Any) -> Iterator[tuple[Any, str, str]]:
        """Each row as it stands, its text, and what is wrong with it."""

    @abstractmethod
    def head(self, added: Sequence[str]) -> bytes:
        """What stands before the first row."""


class CsvFormat(LineFormat):
    """Comma-separated values with a header; a row of blanks alone is none."""

    suffix = ".csv"
    delimiter = ","

    def columns(self) -> tuple[str, ...]:
        """Those of the header.

        Raises:
            DataError: no header, or the texts' column is not in it.
        """
        with self.path.open("rb") as file:
            found = next(self._fields(_Source(file, skip_bom=True)), None)
        if found is None:
            raise DataError(f"{self.path}: the file is empty; give one with a header and rows")
        names, fault = found
        if fault:
            raise DataError(f"{self.path}: its header is broken: {fault}")
        require_column(self.column, names, "--text-column", str(self.path))
        return tuple(names)

    def write(self, path: Path, block: Block, added: Columns, kinds: ColumnTypes) -> None:
        """Rows of CSV without a header."""
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, delimiter=self.delimiter, lineterminator="\n")
            for at, row in enumerate(block.rows):
                # What does not fit the header stands in the fault.
                cells = [*row[: len(self.names)], *[""] * (len(self.names) - len(row))]
                writer.writerow([*cells, *(_cell(values[at]) for values in added.values())])

    def _skip_head(self, file: Any) -> int:
        source = _Source(file, skip_bom=True)
        next(self._fields(source))
        return source.end

    def _ends(self, file: Any, start: int) -> Iterator[int]:
        source = _Source(file, start)
        for _ in self._fields(source):
            yield source.end

    def _rows(self, file: Any) -> Iterator[tuple[Any, str, str]]:
        wanted, at = len(self.names), self.names.index(self.column)
        for row, fault in self._fields(_Source(file)):
            if not fault and len(row) != wanted:
                fault = f"{len(row)} fields, the header has {wanted}"  # noqa: PLW2901
                if len(row) > wanted:
                    fault += f": {json.dumps(row[wanted:], ensure_ascii=False)}"  # noqa: PLW2901
            yield row, "" if fault else row[at], fault

    def _fields(self, source: _Source) -> Iterator[tuple[list[str], str]]:
        """The fields of each row, and what is wrong with it."""
        reader = csv.reader(source, delimiter=self.delimiter)
        while True:
            source.lines.clear()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as fault:
                # The reader goes on after the line that it could not read.
                source.fault()
                yield [], f"not CSV ({fault}): {json.dumps(''.join(source.lines), ensure_ascii=False)}"
                continue
            if row:
                yield row, source.fault()

    def head(self, added: Sequence[str]) -> bytes:
        line = io.StringIO()
        csv.writer(line, delimiter=self.delimiter, lineterminator="\n").writerow([*self.names, *added])
        return line.getvalue().encode()


class TsvFormat(CsvFormat):
    """The same with tabs."""

    suffix = ".tsv"
    delimiter = "\t"


class JsonlFormat(LineFormat):
    """A JSON object a line; a blank line is no row."""

    suffix = ".jsonl"

    def columns(self) -> tuple[str, ...]:
        """Keys of the first row; others may have other ones."""
        with self.path.open("rb") as file:
            self._skip_head(file)
            row, _, _ = next(self._rows(file), ({}, "", ""))
        return tuple(row)

    def write(self, path: Path, block: Block, added: Columns, kinds: ColumnTypes) -> None:
        """The objects with the added keys; a line that is none stands under the key "line".

        Raises:
            DataError: a row has one of the keys already.
        """
        with path.open("wb") as out:
            for at, row in enumerate(block.rows):
                if taken := sorted(set(row) & set(added)):
                    raise DataError(f"{self.path}: a row has the key {taken[0]!r} already; choose another --prefix")
                line = {**row, **{name: values[at] for name, values in added.items()}}
                try:
                    out.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot hold
                    out.write(json.dumps(line).encode() + b"\n")

    def _skip_head(self, file: Any) -> int:
        return _skip_bom(file)

    def _ends(self, file: Any, start: int) -> Iterator[int]:
        end = start
        for line in file:
            end += len(line)
            if line.strip():
                yield end

    def _rows(self, file: Any) -> Iterator[tuple[Any, str, str]]:
        for line in file:
            if line.strip():
                yield self._row(line.rstrip(b"\r\n"))

    def _row(self, raw: bytes) -> tuple[Any, str, str]:
        try:
            row = json.loads(raw)
        except ValueError as fault:  # of JSON or of UTF-8
            return {"line": raw.decode("utf-8", "backslashreplace")}, "", f"not JSON ({fault})"
        if not isinstance(row, dict):
            return {"line": raw.decode()}, "", f"a {type(row).__name__}, not an object"
        if self.column not in row:
            return row, "", f"no key {self.column!r}"
        return row, *text_cell(row[self.column], self.column)

    def head(self, added: Sequence[str]) -> bytes:
        return b""


class _Source:
    """Lines of a binary file as text for ``csv``.

    Attributes:
        end: the byte after the last line that was asked for.
        lines: those asked for since the list was emptied.
    """

    def __init__(self, file: Any, start: int = 0, *, skip_bom: bool = False) -> None:
        self._file = file
        self.end = start
        self.lines: list[str] = []
        self._fault = ""
        if skip_bom:
            self.end = _skip_bom(file)

    def __iter__(self) -> Iterator[str]:
        for raw in self._file:
            self.end += len(raw)
            try:
                line = raw.decode()
            except UnicodeDecodeError as fault:
                self._fault = f"not UTF-8 (byte 0x{raw[fault.start]:02x})"
                line = raw.decode("utf-8", "backslashreplace")
            self.lines.append(line)
            yield line

    def fault(self) -> str:
        """What was wrong with the lines since the last call."""
        found, self._fault = self._fault, ""
        return found


def _skip_bom(file: Any) -> int:
    """Go behind a byte order mark at the start of the file; the byte there."""
    start = len(BOM) if file.read(len(BOM)) == BOM else 0
    file.seek(start)
    return start


def _cell(value: Any) -> str:
    """As it stands in a CSV."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
