"""The common base of CSV, TSV and JSON Lines: UTF-8 text in which a row is found by its byte offset."""

import gzip
import io
import math
import shutil
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self, cast

from whinchat.data.formats.table_format import Block, BlockLocation, ColumnTypes, TableFormat
from whinchat.data.rows import BOM, UTF16_MARKS, encoding_advice, reading
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError

GZIP_SUFFIX = ".gz"
# Longest line, in bytes: memory holds a line as a whole.
MAX_LINE_BYTES = 1 << 24
# gzip makes text some 3 to 20 times smaller, and a bomb up to 1,000 times.
_MAX_EXPANSION = 200
_ANY_EXPANSION_BYTES = 1 << 28
_CHUNK_BYTES = 1 << 16
_NOT_UTF8 = "not UTF-8"


class LineReader:
    r"""Iterate over the lines of a file, and know how far it was read.

    Lines end in ``\n`` or ``\r\n``; in a file of an old Mac, whose first line ends in ``\r`` alone, also in ``\r``.
    Elsewhere a lone ``\r`` belongs to the line.

    Attributes:
        end: byte offset behind the last line that was taken; in the decompressed text where the file is compressed.
        number: number of that line, from 1.
        alone_until: byte offset before which no row of several lines may begin, because a quote there is never closed.
    """

    def __init__(self, path: Path, file: BinaryIO, mac_lines: bool, start: tuple[int, ...] = (0, 0, 0)) -> None:
        """Read ``file``, the opened ``path``, from ``start``: the ``position`` of a reader of the same file."""
        self.end, self.number, self.alone_until = start
        self._path, self._file, self._mac_lines = path, file, mac_lines
        self._lines = self._split()
        self._put_back: list[bytes] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        line = self._put_back.pop() if self._put_back else next(self._lines)
        self.end += len(line)
        self.number += 1
        return line

    def put_back(self, lines: Sequence[bytes]) -> None:
        """Take back the last ``lines`` that were read, so that they are read again."""
        self._put_back += reversed(lines)
        self.end -= sum(map(len, lines))
        self.number -= len(lines)

    @property
    def position(self) -> tuple[int, int, int]:
        """Where the next line begins: its byte offset, the number of lines before it, and ``alone_until``."""
        return self.end, self.number, self.alone_until

    def skip_to(self, position: tuple[int, ...]) -> None:
        """Read on to the ``position`` of a reader of the same file; without it, the file has become shorter."""
        while self.end < position[0]:
            if next(self, None) is None:
                raise DataError(f"{self._path}: was changed while it was read; start again")
        self.alone_until = position[2]

    @property
    def file_bytes(self) -> int:
        """Number of bytes of the file, compressed as it may be, that were read so far."""
        return self._file.tell()

    def _split(self) -> Iterator[bytes]:
        if self.end:
            self._file.seek(self.end)
        chunks = read_chunks(self._path, self._file)
        tail = b"" if self.end else self._without_mark(next(chunks, b""))
        while True:
            # Of bytes, splitlines knows the three line ends only; of text, also U+2028, which occurs inside texts.
            lines = tail.splitlines(keepends=True) if self._mac_lines else io.BytesIO(tail).readlines()
            # The next chunk may continue the last line, or begin with the "\n" after its "\r".
            tail = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
            yield from lines
            if len(tail) > MAX_LINE_BYTES:
                raise DataError(
                    f"{self._path}:{self.number + 1}: the line is longer than {MAX_LINE_BYTES:,} bytes; split or "
                    "remove it"
                )
            if not (chunk := next(chunks, b"")):
                break
            tail += chunk
        if tail:
            yield tail

    def _without_mark(self, chunk: bytes) -> bytes:
        if chunk.startswith(UTF16_MARKS):
            raise DataError(f"{self._path}: is UTF-16, {_NOT_UTF8}; {encoding_advice(self._path, 'utf-16')}")
        if chunk.startswith(BOM):
            self.end = len(BOM)
        return chunk.removeprefix(BOM)


class TextFormat(TableFormat):
    """A format of UTF-8 text whose rows follow one another, so that a file can be cut between any two rows.

    A file whose name ends in ``.gz`` behind the format's suffix is compressed with gzip. The server accepts uploads in
    these formats, uncompressed: it sends back the header, then one labelled part after the other.
    """

    before_number: ClassVar[str] = ":"

    def __init__(self, path: Path, text: TextColumns | None, *, escape_formulas: bool = False) -> None:
        self._reader: LineReader | None = None  # of a compressed file, where the last block ended
        self._kept = ExitStack()
        weakref.finalize(self, self._kept.close)
        self._mac_lines = _has_mac_lines(path)
        super().__init__(path, text, escape_formulas=escape_formulas)

    def locate_blocks(self, rows: int, on_bytes: Callable[[int], object]) -> Iterator[BlockLocation]:
        with self.open_lines() as lines:
            self.skip_header(lines)
            start, read_bytes = lines.position, 0
            number, count = 0, 0
            for _ in self.split_rows(lines):
                count += 1
                if count == rows:
                    yield BlockLocation(number, start, count)
                    on_bytes(lines.file_bytes - read_bytes)
                    read_bytes = lines.file_bytes
                    start, number, count = lines.position, number + 1, 0
            if count:
                yield BlockLocation(number, start, count)

    def read_block(self, location: BlockLocation) -> Block:
        with self._lines_from(location.start) as lines:
            found = list(islice(self.split_rows(lines), location.rows))
        if len(found) != location.rows:
            raise DataError(f"{self.path}: was changed while it was read; start again")
        numbers, split = zip(*found, strict=True)
        rows, texts, faults = zip(*map(self.read_row, split), strict=True)
        return Block(rows, texts, faults, numbers)

    def repair_advice(self, fault: str) -> str:
        return encoding_advice(self.path) if fault.startswith(_NOT_UTF8) else super().repair_advice(fault)

    def join_parts(self, parts: Sequence[Path], path: Path, column_types: ColumnTypes) -> None:
        """Join the parts; see the base class. The labelled table is compressed if its name says so."""
        with path.open("wb") as file, _packed(file, path) as out:
            out.write(self.header(tuple(column_types)))
            for part in parts:
                with part.open("rb") as rows:
                    shutil.copyfileobj(rows, out)

    def open_lines(self, start: tuple[int, ...] = (0, 0, 0)) -> AbstractContextManager[LineReader]:
        """Open the file, to read its lines from ``start`` on as ``LineReader`` does."""
        return _open_lines(self.path, self._mac_lines, start)

    @contextmanager
    def _lines_from(self, start: tuple[int, ...]) -> Iterator[LineReader]:
        if not is_compressed(self.path):
            with self.open_lines(start) as lines:
                yield lines
            return
        # A compressed file can only be read forwards. The reader is kept, so that all blocks together read it once.
        if self._reader is None or self._reader.end > start[0]:
            self._kept.close()
            self._reader = self._kept.enter_context(self.open_lines())
        self._reader.skip_to(start)
        yield self._reader

    def skip_header(self, lines: LineReader) -> None:
        """Move ``lines``, at the beginning of the file, to the first row."""

    @abstractmethod
    def split_rows(self, lines: LineReader) -> Iterator[tuple[int, Any]]:
        """Yield each row from the position of ``lines`` on: the number of its first line, and what ``read_row`` reads.

        When a row is yielded, ``lines`` must stand behind the row.
        """

    @abstractmethod
    def read_row(self, split: Any) -> tuple[Any, str, str]:
        """Return the row that ``split_rows`` found as it will be written, its text, and its fault; text or fault is
        empty."""

    @abstractmethod
    def header(self, added: Sequence[str]) -> bytes:
        """Return the bytes before the first row of a labelled table: the header with the names of ``added`` columns."""


def is_compressed(path: Path) -> bool:
    """Return whether the name of a table says that it is compressed with gzip."""
    return path.suffix.lower() == GZIP_SUFFIX


def read_chunks(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of ``file``, the opened ``path``, decompressed if its name says that it is compressed."""
    if not is_compressed(path):
        max_bytes, unpacked = math.inf, file
    else:
        max_bytes = max(_ANY_EXPANSION_BYTES, _MAX_EXPANSION * path.stat().st_size)
        unpacked = cast(BinaryIO, gzip.GzipFile(fileobj=file))
    read_bytes = 0
    while read_bytes <= max_bytes:
        with reading(path):
            chunk = unpacked.read(_CHUNK_BYTES)
        if not chunk:
            return
        read_bytes += len(chunk)
        yield chunk
    raise DataError(
        f"{path}: holds more than {_MAX_EXPANSION} bytes of text for each of its own, which looks like a "
        "decompression bomb; if the table is meant to be so, decompress it first"
    )


@contextmanager
def _open_lines(path: Path, mac_lines: bool, start: tuple[int, ...]) -> Iterator[LineReader]:
    with reading(path):
        file = path.open("rb")
    with file:
        yield LineReader(path, file, mac_lines, start)


def _has_mac_lines(path: Path) -> bool:
    r"""Return whether the first line of a file ends in ``\r`` alone."""
    with reading(path):
        file = path.open("rb")
    with file:
        line_end = b""
        for chunk in read_chunks(path, file):
            line_end += chunk if line_end else chunk[len(chunk.splitlines()[0]) :]
            if len(line_end) > 1 or line_end == b"\n":
                break
    return line_end.startswith(b"\r") and not line_end.startswith(b"\r\n")


@contextmanager
def _packed(file: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    """Return ``file``, opened for writing, or what compresses into it where the name of ``path`` says so."""
    if not is_compressed(path):
        yield file
        return
    # Without a time and a name, equal tables are equal files.
    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        yield cast(BinaryIO, packed)


def open_unpacked(path: Path) -> BinaryIO:
    """Open a table that whinchat wrote, decompressed if its name says that it is compressed."""
    return cast(BinaryIO, gzip.GzipFile(path)) if is_compressed(path) else path.open("rb")


def decode_line(raw: bytes) -> tuple[str, str]:
    """Return a line as text, and its fault: bytes that are not UTF-8 stand in the text as ``\\xe9``."""
    try:
        return raw.decode(), ""
    except UnicodeDecodeError as fault:
        return raw.decode("utf-8", "backslashreplace"), f"{_NOT_UTF8} (byte 0x{raw[fault.start]:02x})"
