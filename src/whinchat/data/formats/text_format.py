"""The common base of CSV, TSV and JSON Lines: UTF-8 text in which a row is found by its byte offset."""

import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from whinchat.data.formats.table_format import Block, BlockLocation, ColumnTypes, TableFormat
from whinchat.data.rows import BOM


class TextFormat(TableFormat):
    """A format of UTF-8 text whose rows follow one another, so that a file can be cut between any two rows.

    The server accepts uploads in these formats: it sends back the header, then one labelled part after the other.
    """

    def locate_blocks(self, rows: int, on_bytes: Callable[[int], object]) -> Iterator[BlockLocation]:
        with self.path.open("rb") as file:
            start = self.skip_header(file)
            number, count = 0, 0
            for end in self.row_ends(file, start):
                count += 1
                if count == rows:
                    yield BlockLocation(number, (start,), count)
                    on_bytes(end - start)
                    start, number, count = end, number + 1, 0
            if count:
                yield BlockLocation(number, (start,), count)

    def read_block(self, location: BlockLocation) -> Block:
        with self.path.open("rb") as file:
            file.seek(location.start[0])
            rows, texts, faults = zip(*islice(self.read_rows(file), location.rows), strict=True)
        return Block(rows, texts, faults)

    def join_parts(self, parts: Sequence[Path], path: Path, column_types: ColumnTypes) -> None:
        with path.open("wb") as out:
            out.write(self.header(tuple(column_types)))
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, out)

    @abstractmethod
    def skip_header(self, file: BinaryIO) -> int:
        """Move ``file``, just opened, to the first row, and return the byte offset of that row."""

    @abstractmethod
    def row_ends(self, file: BinaryIO, start: int) -> Iterator[int]:
        """Yield the byte offset behind each row; ``file`` stands at the byte ``start``, where a row begins."""

    @abstractmethod
    def read_rows(self, file: BinaryIO) -> Iterator[tuple[Any, str, str]]:
        """Yield each row from the position of ``file`` on, its text, and its fault; text or fault is empty."""

    @abstractmethod
    def header(self, added: Sequence[str]) -> bytes:
        """Return the bytes before the first row of a labelled table: the header with the names of ``added`` columns."""


class DecodedLines:
    """Iterate over the lines of a binary file as text, and remember how far the file was read.

    Attributes:
        end: byte offset behind the last line that was read.
        lines: the lines that were read since the list was last cleared.
    """

    def __init__(self, file: BinaryIO, start: int = 0) -> None:
        self._file = file
        self.end = start
        self.lines: list[str] = []
        self._fault = ""

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

    def take_fault(self) -> str:
        """Return the fault of the lines read since the last call, or an empty string."""
        fault, self._fault = self._fault, ""
        return fault


def skip_bom(file: BinaryIO) -> int:
    """Move ``file``, just opened, behind a byte order mark if there is one, and return the byte offset there."""
    start = len(BOM) if file.read(len(BOM)) == BOM else 0
    file.seek(start)
    return start
