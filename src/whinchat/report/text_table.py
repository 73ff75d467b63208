"""A table of text cells, which cards, reports and the terminal print."""

from __future__ import annotations

from dataclasses import dataclass


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
