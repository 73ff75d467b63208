"""Find the files of each split, and read them in their format."""

import re
from pathlib import Path

from whinchat.data.formats.table_format import TableFormat
from whinchat.data.formats.table_registry import (
    find_table_format,
    spreadsheet_advice,
    table_stem,
    table_suffixes,
)
from whinchat.data.rows import SPLIT_NAMES, Row, reading, require_file
from whinchat.data.tweeteval import read_tweeteval
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig

# How a file's name begins -> split.
_SPLITS = {spelling: name for name, spellings in SPLIT_NAMES.items() for spelling in spellings}
# Hub data sets are kept in shards: train-00000-of-00004.parquet.
_SHARD = re.compile(r"-\d+-of-\d+")
_SPLIT_FILE = re.compile(rf"({'|'.join(_SPLITS)})({_SHARD.pattern})?", re.IGNORECASE)
_SHOWN_FILES = 8


def read_split_file(path: Path, data: DataConfig) -> dict[str, tuple[Row, ...]]:
    """Read a single file, which is the split train.

    Raises:
        DataError: no format fits the file, or the file cannot be read.
    """
    table_format = find_table_format(path, data.format)
    if table_format is None:
        hint = spreadsheet_advice(path) or (
            "a TweetEval source is a folder"
            if data.format == "tweeteval"
            else "set data.format to csv, jsonl or parquet"
        )
        raise DataError(f"{path}: cannot tell how to read a {path.suffix or 'nameless'} file; {hint}")
    if data.format not in {"auto", table_format.name}:
        raise DataError(
            f"{path}: data.format is {data.format}, and the file's name says {table_format.name}; rename the file, or "
            "leave data.format at auto"
        )
    return {"train": table_format.read_labelled_rows(path, data)}


def read_split_folder(folder: Path, data: DataConfig) -> dict[str, tuple[Row, ...]]:
    """Read the splits of a folder, which holds TweetEval's files, or a table or its shards for each split.

    Raises:
        DataError: no train split, several tables for one split, or a file that cannot be read.
    """
    if data.format == "tweeteval" or (data.format == "auto" and is_tweeteval(folder)):
        require_one_label(data, "a TweetEval folder")
        return read_tweeteval(folder)
    return {name: _read_shards(shards, data) for name, shards in find_split_tables(folder, data).items()}


def require_one_label(data: DataConfig, kind: str) -> None:
    """Check that a recipe does not ask for columns of a source, the ``kind`` of which has one text and one label a row.

    Raises:
        DataError: the recipe has questions, or makes its texts of columns.
    """
    if data.answers or data.text is not None:
        wants = "task.questions needs a column for each question" if data.answers else "data.text names columns"
        raise DataError(
            f"{data.source}: {kind} has one text and one label a row, and {wants}; write the rows as a table with such "
            "columns (CSV, TSV, JSON Lines or Parquet)"
        )


def is_tweeteval(folder: Path) -> bool:
    """Return whether a folder holds TweetEval's files."""
    return (folder / "train_text.txt").is_file() or (folder / "train_labels.txt").is_file()


def find_split_tables(folder: Path, data: DataConfig) -> dict[str, list[tuple[Path, type[TableFormat]]]]:
    """Return the tables of each split in a folder, with their formats.

    Raises:
        DataError: there is no table for train.
    """
    tables: dict[str, list[tuple[Path, type[TableFormat]]]] = {}
    with reading(folder):
        paths = sorted(folder.iterdir())
    for path in paths:
        match = _SPLIT_FILE.fullmatch(table_stem(path))
        table_format = find_table_format(path)
        if match and table_format and data.format in {"auto", table_format.name}:
            require_file(path, "repair the link, or remove it")
            tables.setdefault(_SPLITS[match[1].lower()], []).append((path, table_format))
    if "train" not in tables:
        first, *others = table_suffixes()
        raise DataError(
            f"{folder}: no training file{_for_format(data)}; expected train{first} (or {', '.join(others)}), with "
            "validation and test files beside it where there are any, or TweetEval's train_text.txt and "
            f"train_labels.txt; it holds {_list_files(folder)}"
        )
    return tables


def _read_shards(shards: list[tuple[Path, type[TableFormat]]], data: DataConfig) -> tuple[Row, ...]:
    names = [path.name for path, _ in shards]
    if len({_SHARD.sub("", name) for name in names}) > 1:
        raise DataError(
            f"{shards[0][0].parent}: {' and '.join(names)} are files of one split; keep one, or choose with data.format"
        )
    return tuple(row for path, table_format in shards for row in table_format.read_labelled_rows(path, data))


def _for_format(data: DataConfig) -> str:
    return "" if data.format == "auto" else f" in format {data.format}"


def _list_files(folder: Path) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    return (", ".join(names[:_SHOWN_FILES]) + more) or "nothing"
