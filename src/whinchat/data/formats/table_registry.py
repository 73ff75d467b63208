"""The registry of table formats, which training, prediction and the server share."""

import os
from pathlib import Path
from pkgutil import resolve_name

from whinchat.data.formats.table_format import TableFormat
from whinchat.errors import DataError

# Suffix -> format. The formats of whinchat are named here and imported when a file needs them: pyarrow is slow to load.
_FORMATS: dict[str, type[TableFormat] | str] = {
    ".csv": "whinchat.data.formats.delimited:CsvFormat",
    ".tsv": "whinchat.data.formats.delimited:TsvFormat",
    ".jsonl": "whinchat.data.formats.jsonl:JsonlFormat",
    ".ndjson": "whinchat.data.formats.jsonl:JsonlFormat",
    ".parquet": "whinchat.data.formats.parquet:ParquetFormat",
}


def register_table_format(table_format: type[TableFormat]) -> type[TableFormat]:
    """Let training, prediction and the server read files with the suffixes of ``table_format``.

    Returns:
        ``table_format``, so that the function can be used as a decorator.

    Raises:
        ValueError: a suffix is not a dot and lower-case characters, or belongs to another format.
    """
    name = table_format.__name__
    for suffix in table_format.suffixes:
        # A file's suffix is what follows its last dot.
        if Path(f"table{suffix}").suffix != suffix or suffix != suffix.lower():
            raise ValueError(f"{name}: the suffix {suffix!r} must be one dot and lower-case characters")
        if suffix in _FORMATS and _load(suffix) is not table_format:
            raise ValueError(f"{name}: {suffix} belongs to {_load(suffix).__name__}; choose another")
    _FORMATS.update(dict.fromkeys(table_format.suffixes, table_format))
    return table_format


def table_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all formats, such as ".csv"."""
    return tuple(_FORMATS)


def find_table_format(path: Path, name: str = "auto") -> type[TableFormat] | None:
    """Return the format of the file at ``path``: that of its suffix, or else the first format called ``name``.

    Args:
        path: a file, whose suffix may be in upper case.
        name: ``data.format`` of a recipe; "auto" goes by the suffix alone.

    Returns:
        The format; None where no format has the suffix, or that name.
    """
    suffix = path.suffix.lower()
    by_suffix = _load(suffix) if suffix in _FORMATS else None
    if name == "auto" or (by_suffix is not None and by_suffix.name == name):
        return by_suffix
    return next((table_format for table_format in map(_load, _FORMATS) if table_format.name == name), None)


def open_table(path: Path, text_column: str) -> TableFormat:
    """Open the table in ``path`` for prediction.

    Raises:
        DataError: the file is missing, has an unknown format, lacks ``text_column`` or cannot be read.
    """
    advice = f"give a {', '.join(table_suffixes())} file or a folder of them"
    if not path.is_file():
        raise DataError(f"{path}: no such file; {advice}")
    table_format = find_table_format(path)
    if table_format is None:
        raise DataError(f"{path}: is not a table that whinchat can label; {advice}")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read; check its permissions")
    return table_format(path, text_column)


def _load(suffix: str) -> type[TableFormat]:
    """Return the format of a known ``suffix``, importing its module where that was not done yet."""
    table_format = _FORMATS[suffix]
    if isinstance(table_format, str):
        table_format = _FORMATS[suffix] = resolve_name(table_format)
    return table_format
