"""Tables of any size, block by block: CSV, JSONL and Parquet in, the same rows with columns of answers out.

No row is lost and none changes its place: what cannot be read is written back as it stands, with what is wrong with it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from whinchat.data.rows import require_column
from whinchat.errors import DataError

_BOM = b"\xef\xbb\xbf"
# Characters. A quote that is never closed would otherwise take the rest of the file, and all of the memory.
csv.field_size_limit(1 << 20)


@dataclass(frozen=True)
class Place:
    """Where a block begins, and how many rows it has.

    ``start`` is what its format finds it by: a byte of the file, or (row group, row in it) of a Parquet file.
    """

    number: int
    start: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class Block:
    """Some rows in their order; ``faults`` says of each what is wrong with it, or nothing."""

    rows: Any
    texts: tuple[str, ...]
    faults: tuple[str, ...]


# What is added, by the name of its column: what its cells are, or one cell, or None, for each row of a block.
Kinds = dict[str, type]
Columns = dict[str, list[Any]]


class Format(ABC):
    """One kind of table. ``column`` holds the texts."""

    suffix: ClassVar[str]

    def __init__(self, path: Path, column: str) -> None:
        self.path = path
        self.column = column
        self.names = self.columns()

    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that are there, the texts' among them; empty where every row has its own."""

    @abstractmethod
    def places(self, rows: int, seen: Callable[[int], object]) -> Iterator[Place]:
        """Where blocks of ``rows`` rows begin; ``seen`` is told how many bytes were looked through."""

    @abstractmethod
    def read(self, place: Place) -> Block:
        """The block there."""

    @abstractmethod
    def write(self, path: Path, block: Block, added: Columns, kinds: Kinds) -> None:
        """The block with its added columns as a file of its own, without what only a whole file has."""

    @abstractmethod
    def join(self, parts: Sequence[Path], path: Path, kinds: Kinds) -> None:
        """The whole file from its parts."""


class _Lines(Format):
    """What CSV and JSONL share: lines of text, found by the byte they begin at."""

    def places(self, rows: int, seen: Callable[[int], object]) -> Iterator[Place]:
        with self.path.open("rb") as file:
            start = self._skip_head(file)
            number, count = 0, 0
            for end in self._ends(file, start):
                count += 1
                if count == rows:
                    yield Place(number, (start,), count)
                    seen(end - start)
                    start, number, count = end, number + 1, 0
            if count:
                yield Place(number, (start,), count)

    def read(self, place: Place) -> Block:
        with self.path.open("rb") as file:
            file.seek(place.start[0])
            found = list(islice(self._rows(file), place.rows))
        rows, texts, faults = zip(*found, strict=True)
        return Block(rows, texts, faults)

    def join(self, parts: Sequence[Path], path: Path, kinds: Kinds) -> None:
        with path.open("wb") as out:
            out.write(self._head(tuple(kinds)))
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
    def _head(self, added: Sequence[str]) -> bytes:
        """What stands before the first row."""


class Csv(_Lines):
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

    def write(self, path: Path, block: Block, added: Columns, kinds: Kinds) -> None:
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

    def _head(self, added: Sequence[str]) -> bytes:
        line = io.StringIO()
        csv.writer(line, delimiter=self.delimiter, lineterminator="\n").writerow([*self.names, *added])
        return line.getvalue().encode()


class Tsv(Csv):
    """The same with tabs."""

    suffix = ".tsv"
    delimiter = "\t"


class Jsonl(_Lines):
    """A JSON object a line; a blank line is no row."""

    suffix = ".jsonl"

    def columns(self) -> tuple[str, ...]:
        """Keys of the first row; others may have other ones."""
        with self.path.open("rb") as file:
            self._skip_head(file)
            row, _, _ = next(self._rows(file), ({}, "", ""))
        return tuple(row)

    def write(self, path: Path, block: Block, added: Columns, kinds: Kinds) -> None:
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
        start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
        file.seek(start)
        return start

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
        return row, *_text(row[self.column], self.column)

    def _head(self, added: Sequence[str]) -> bytes:
        return b""


class Parquet(Format):
    """A Parquet file; the added columns come last."""

    suffix = ".parquet"

    def columns(self) -> tuple[str, ...]:
        """Those of the schema.

        Raises:
            DataError: not a Parquet file, or the texts' column is not in it.
        """
        import pyarrow
        import pyarrow.parquet

        try:
            names = tuple(pyarrow.parquet.read_schema(self.path).names)
        except (pyarrow.ArrowException, OSError) as fault:
            raise DataError(f"{self.path}: cannot be read as Parquet ({' '.join(str(fault).split())})") from None
        require_column(self.column, names, "--text-column", str(self.path))
        return names

    def places(self, rows: int, seen: Callable[[int], object]) -> Iterator[Place]:
        """From the file's own index; blocks do not reach over row groups."""
        import pyarrow.parquet

        number = 0
        meta = pyarrow.parquet.read_metadata(self.path)
        for group in range(meta.num_row_groups):
            size = meta.row_group(group).num_rows
            for first in range(0, size, rows):
                yield Place(number, (group, first), min(rows, size - first))
                number += 1

    def read(self, place: Place) -> Block:
        """Streamed up to the block, so that memory does not grow with the row group."""
        import pyarrow
        import pyarrow.parquet

        group, first = place.start
        with pyarrow.parquet.ParquetFile(self.path) as file:
            batches = file.iter_batches(batch_size=place.rows, row_groups=[group])
            skipped, kept = 0, []
            for batch in batches:
                low, high = max(first, skipped), min(first + place.rows, skipped + len(batch))
                if low < high:
                    kept.append(batch.slice(low - skipped, high - low))
                skipped += len(batch)
                if skipped >= first + place.rows:
                    break
            table = pyarrow.Table.from_batches(kept, file.schema_arrow)
        texts, faults = zip(*(_text(value, self.column) for value in table[self.column].to_pylist()), strict=True)
        return Block(table, texts, faults)

    def write(self, path: Path, block: Block, added: Columns, kinds: Kinds) -> None:
        """A Parquet file with one row group."""
        import pyarrow
        import pyarrow.parquet

        table = block.rows
        for field in _arrow_fields(kinds):
            table = table.append_column(field, pyarrow.array(added[field.name], field.type))
        pyarrow.parquet.write_table(table, path)

    def join(self, parts: Sequence[Path], path: Path, kinds: Kinds) -> None:
        """Each part as a row group."""
        import pyarrow.parquet

        schema = pyarrow.parquet.read_schema(self.path)
        for field in _arrow_fields(kinds):
            schema = schema.append(field)
        with pyarrow.parquet.ParquetWriter(path, schema) as out:
            for part in parts:
                out.write_table(pyarrow.parquet.read_table(part, schema=schema))


def _arrow_fields(kinds: Kinds) -> list[Any]:
    import pyarrow

    types = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    return [pyarrow.field(name, types[kind]) for name, kind in kinds.items()]


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
            self.end = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
            file.seek(self.end)

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


def _text(value: object, column: str) -> tuple[str, str]:
    """A cell's text, and what is wrong with it."""
    if not isinstance(value, str):
        return "", f"{column!r} holds {'nothing' if value is None else f'a {type(value).__name__}, not text'}"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "", f"{column!r} holds half of a surrogate pair, which is no character"
    return value, ""


def _cell(value: Any) -> str:
    """As it stands in a CSV."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


FORMATS: dict[str, type[Format]] = {one.suffix: one for one in (Csv, Tsv, Jsonl, Parquet)}


def open_table(path: Path, column: str) -> Format:
    """The table in ``path``, by its name's ending.

    Raises:
        DataError: no such file, of no known format, or without the texts' column.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a {', '.join(FORMATS)} file or a folder of them")
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path}: not a table whinchat labels; give a {', '.join(FORMATS)} file or a folder of them")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read; check its permissions")
    return FORMATS[path.suffix.lower()](path, column)
