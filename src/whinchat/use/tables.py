"""Tables of any size, by the endings of their names."""

from __future__ import annotations

import os
from pathlib import Path

from whinchat.errors import DataError
from whinchat.use.blocks import Format
from whinchat.use.lines import Csv, Jsonl, Tsv
from whinchat.use.parquet import Parquet

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
