"""A table of text cells, which cards, reports and the terminal print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")
# Characters. Columns with cells shorter or longer than these are as wide as if their cells had this length.
SHORT_CELL, LONG_CELL = 36, 72
# Heading of each column -> the function that turns an item into its cell in that column.
Columns = Mapping[str, Callable[[T], str]]


@dataclass(frozen=True)
class TextTable:
    """A table of text cells.

    Attributes:
        caption: what the table shows.
        columns: the heading of each column.
        rows: the cells of each row, as many as there are columns.
        numeric: whether the cells hold numbers, which are aligned to the right.
        heads: how many cells at the start of a row are its headings.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: bool = True
    heads: int = 1

    @classmethod
    def of(
        cls, caption: str, items: Iterable[T], columns: Columns[T], *, numeric: bool = True, heads: int = 1
    ) -> TextTable:
        """Return a table with a row for each item."""
        rows = tuple(tuple(cell(item) for cell in columns.values()) for item in items)
        return cls(caption, tuple(columns), rows, numeric, heads)

    @property
    def row_groups(self) -> list[list[tuple[str, ...]]]:
        """The rows; with several headings a row, neighbours of the same first heading share a group."""
        if self.heads == 1:
            return [[row] for row in self.rows]
        return [list(rows) for _, rows in groupby(self.rows, key=lambda row: row[0])]

    @property
    def column_shares(self) -> list[int]:
        """The width of each column in percent, for a table with texts: long texts get more, no column gets little."""
        longest = [max(map(len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]
        weights = [min(max(length, SHORT_CELL), LONG_CELL) for length in longest]
        return [round(100 * weight / sum(weights)) for weight in weights]
