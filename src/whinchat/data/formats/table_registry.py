"""Tables of any size, by the endings of their names."""

from __future__ import annotations

import os
from pathlib import Path

from whinchat.data.formats.lines import CsvFormat, JsonlFormat, TsvFormat
from whinchat.data.formats.parquet import ParquetFormat
from whinchat.data.formats.table_format import TableFormat
from whinchat.errors import DataError

TABLE_FORMATS: dict[str, type[TableFormat]] = {
    one.suffix: one for one in (CsvFormat, TsvFormat, JsonlFormat, ParquetFormat)
}


def open_table(path: Path, column: str) -> TableFormat:
    """The table in ``path``, by its name's ending.

    Raises:
        DataError: no such file, of no known format, or without the texts' column.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a {', '.join(TABLE_FORMATS)} file or a folder of them")
    if path.suffix.lower() not in TABLE_FORMATS:
        raise DataError(
            f"{path}: not a table whinchat labels; give a {', '.join(TABLE_FORMATS)} file or a folder of them"
        )
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read; check its permissions")
    return TABLE_FORMATS[path.suffix.lower()](path, column)
