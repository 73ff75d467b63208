"""The registry of table formats, which training, prediction and the server share."""

from pathlib import Path
from pkgutil import resolve_name

from whinchat.data.formats.table_format import TableFormat
from whinchat.data.formats.text_format import GZIP_SUFFIX, TextFormat
from whinchat.data.rows import require_file
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError

# Suffix -> format. The formats of whinchat are named here and imported when a file needs them: pyarrow is slow to load.
_FORMATS: dict[str, type[TableFormat] | str] = {
    ".csv": "whinchat.data.formats.delimited:CsvFormat",
    ".tsv": "whinchat.data.formats.delimited:TsvFormat",
    ".jsonl": "whinchat.data.formats.jsonl:JsonlFormat",
    ".ndjson": "whinchat.data.formats.jsonl:JsonlFormat",
    ".parquet": "whinchat.data.formats.parquet:ParquetFormat",
}

# Suffixes of spreadsheets, which no format reads.
_SPREADSHEETS = {".xlsx", ".xls", ".xlsm", ".ods", ".numbers"}


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


def table_suffix(path: Path) -> str:
    """Return the suffix of a file's name in lower case; with the suffix before it where the file is compressed."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() + suffix if suffix == GZIP_SUFFIX else suffix


def table_stem(path: Path) -> str:
    """Return the name of a file without ``table_suffix``."""
    return path.name[: len(path.name) - len(table_suffix(path))]


def find_table_format(path: Path, name: str = "auto") -> type[TableFormat] | None:
    """Return the format of the file at ``path``: that of its suffix, or else the first format called ``name``.

    Args:
        path: a file, whose suffix may be in upper case, and may be followed by ``.gz`` in a text format.
        name: ``data.format`` of a recipe, for a file whose suffix no format has; "auto" goes by the suffix alone.

    Returns:
        The format; None where no format has the suffix or the name, or the format cannot be compressed.
    """
    suffix = table_suffix(path)
    plain = suffix.removesuffix(GZIP_SUFFIX)
    if plain in _FORMATS:
        fitting = iter([_load(plain)])
    else:
        fitting = (table_format for table_format in map(_load, _FORMATS) if table_format.name == name)
    table_format = next(fitting, None)
    if table_format is None or (plain != suffix and not issubclass(table_format, TextFormat)):
        return None
    return table_format


def open_table(
    path: Path, text: TextColumns | str | None, *, format_name: str = "auto", escape_formulas: bool = False
) -> TableFormat:
    """Open the table in ``path`` for prediction.

    Args:
        path: the file.
        text: the columns with the texts, or the name of the one column; None to look at the other columns.
        format_name: ``data.format`` of the classifier's recipe, for a file whose suffix no format has.
        escape_formulas: see ``TableFormat``.

    Raises:
        DataError: the file is missing, has an unknown format, lacks a column of ``text`` or cannot be read.
    """
    advice = f"give a {', '.join(table_suffixes())} file or a folder of them"
    require_file(path, advice)
    table_format = find_table_format(path, format_name)
    if table_format is None:
        raise DataError(f"{path}: is not a table that whinchat can read; {spreadsheet_advice(path) or advice}")
    text = TextColumns((text,)) if isinstance(text, str) else text
    return table_format(path, text, escape_formulas=escape_formulas)


def spreadsheet_advice(path: Path) -> str:
    """Return how to turn a spreadsheet into a table that a format reads; empty for any other file."""
    return "save it as CSV in UTF-8" if path.suffix.lower() in _SPREADSHEETS else ""


def read_column_names(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of the table in ``path``, of which the beginning is enough in a text format.

    Raises:
        DataError: the file is missing, has an unknown format, or its header cannot be read.
    """
    return open_table(path, None).names


def _load(suffix: str) -> type[TableFormat]:
    """Return the format of a known ``suffix``, importing its module where that was not done yet."""
    table_format = _FORMATS[suffix]
    if isinstance(table_format, str):
        table_format = _FORMATS[suffix] = resolve_name(table_format)
    return table_format
