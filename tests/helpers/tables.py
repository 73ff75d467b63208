"""Tables on disk, and a labelled copy of one that is made as ``predict_file`` makes it, without a model."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from whinchat.data.formats.table_format import Block, BlockLocation, TableFormat
from whinchat.data.formats.table_registry import open_table
from whinchat.recipe.data_config import DataConfig

# Rows of the table that the tests of tests/inference label.
ROWS = 23

# TweetEval's own files, which some machines have beside the repository.
TWEETEVAL = Path(__file__).parents[2].parent / "shared" / "data" / "tweeteval"
COLUMN_TYPES: dict[str, type] = {"label": str, "unsure": bool, "p_a": float, "error": str}


def data_config(**fields: Any) -> DataConfig:
    return DataConfig(source="unused", **fields)


def write_file(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_csv(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def locate_all(table: TableFormat, rows: int) -> list[BlockLocation]:
    return list(table.locate_blocks(rows, lambda _: None))


def label_columns(block: Block) -> dict[str, list[Any]]:
    """The label "a" for every row that could be read, and the faults."""
    good = [not fault for fault in block.faults]
    return {
        "label": ["a" if readable else None for readable in good],
        "unsure": [False if readable else None for readable in good],
        "p_a": [0.25 if readable else None for readable in good],
        "error": list(block.faults),
    }


def labelled_copy(path: Path, rows: int = 2, text_column: str = "text", **settings: Any) -> Path:
    """The table in ``path``, read in blocks of ``rows`` rows, labelled, written in parts and joined."""
    table = open_table(path, text_column, **settings)
    parts = []
    for location in locate_all(table, rows):
        block = table.read_block(location)
        assert len(block.texts) == len(block.faults) == location.rows
        part = path.with_name(f"part-{location.number}{path.suffix}")
        table.write_part(part, block, label_columns(block), COLUMN_TYPES)
        parts.append(part)
    out = path.with_name(f"out{path.suffix}")
    table.join_parts(parts, out, COLUMN_TYPES)
    return out
