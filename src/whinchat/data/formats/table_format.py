"""What every kind of table is: blocks of rows that are found, read, written and joined.

No row is lost and none changes its place: what cannot be read is written back as it stands, with what is wrong with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from whinchat.data.rows import text_fault


@dataclass(frozen=True)
class BlockLocation:
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
ColumnTypes = dict[str, type]
Columns = dict[str, list[Any]]


class TableFormat(ABC):
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
    def places(self, rows: int, seen: Callable[[int], object]) -> Iterator[BlockLocation]:
        """Where blocks of ``rows`` rows begin; ``seen`` is told how many bytes were looked through."""

    @abstractmethod
    def read(self, place: BlockLocation) -> Block:
        """The block there."""

    @abstractmethod
    def write(self, path: Path, block: Block, added: Columns, kinds: ColumnTypes) -> None:
        """The block with its added columns as a file of its own, without what only a whole file has."""

    @abstractmethod
    def join(self, parts: Sequence[Path], path: Path, kinds: ColumnTypes) -> None:
        """The whole file from its parts."""


def text_cell(value: object, column: str) -> tuple[str, str]:
    """A cell's text, and what is wrong with it."""
    fault = f"{column!r} holds nothing" if value is None else text_fault(value, column)
    return ("", fault) if fault else (str(value), "")
