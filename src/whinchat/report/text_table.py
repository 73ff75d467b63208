"""A table of text cells, as cards, reports and the terminal print it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """Cells of text under named columns; the first ``heads`` cells of a row name it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: bool = True
    heads: int = 1
