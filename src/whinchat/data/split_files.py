"""Which files of a folder are which split, and in which format."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from whinchat.data.formats.readers import read_delimited, read_jsonl, read_tweeteval
from whinchat.data.hub_dataset import read_parquet
from whinchat.data.rows import Row
from whinchat.errors import DataError
from whinchat.recipe.schema import DataConfig

_READERS: dict[str, Callable[[Path, DataConfig], tuple[Row, ...]]] = {
    "csv": read_delimited,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}
_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
# train.csv, or one of the shards that hub data sets are kept in: train-00000-of-00004.parquet
_SPLIT_FILE = re.compile(rf"({'|'.join(_SPLITS)})(-\d+-of-\d+)?", re.IGNORECASE)
_EXPECTED = (
    "expected train.csv (or .tsv, .jsonl, .parquet), with validation and test files beside it where there are any, "
    "or TweetEval's train_text.txt and train_labels.txt"
)


def read_split_file(path: Path, data: DataConfig) -> dict[str, tuple[Row, ...]]:
    """One file, which is one split: train.

    Raises:
        DataError: no format fits the file, or its reader finds a fault.
    """
    kind = _SUFFIXES.get(path.suffix.lower()) if data.format == "auto" else data.format
    if kind not in _READERS:
        hint = "a TweetEval source is a folder" if kind == "tweeteval" else "set data.format to csv, jsonl or parquet"
        raise DataError(f"{path}: cannot tell how to read a {path.suffix or 'nameless'} file; {hint}")
    return {"train": _READERS[kind](path, data)}


def read_split_folder(folder: Path, data: DataConfig) -> dict[str, tuple[Row, ...]]:
    """The splits of a folder: TweetEval's files, or one CSV, TSV, JSONL or Parquet file (or its shards) for each.

    Raises:
        DataError: no train split, files that compete for one split, or a reader finds a fault.
    """
    is_tweeteval = (folder / "train_text.txt").is_file() or (folder / "train_labels.txt").is_file()
    if data.format == "tweeteval" or (data.format == "auto" and is_tweeteval):
        return read_tweeteval(folder)
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _SPLIT_FILE.fullmatch(path.stem)
        kind = _SUFFIXES.get(path.suffix.lower())
        if match and kind and path.is_file() and data.format in {"auto", kind}:
            found.setdefault(_SPLITS[match[1].lower()], []).append(path)
    if "train" not in found:
        raise DataError(f"{folder}: no training file{_for_format(data)}; {_EXPECTED}; it holds {_listing(folder)}")
    return {name: _read_shards(paths, data) for name, paths in found.items()}


def _read_shards(paths: list[Path], data: DataConfig) -> tuple[Row, ...]:
    bases = {re.sub(r"-\d+-of-\d+", "", path.name) for path in paths}
    if len(bases) > 1:
        raise DataError(
            f"{paths[0].parent}: {' and '.join(path.name for path in paths)} compete for one split; "
            "keep one, or choose with data.format"
        )
    return tuple(row for path in paths for row in _READERS[_SUFFIXES[path.suffix.lower()]](path, data))


def _for_format(data: DataConfig) -> str:
    return "" if data.format == "auto" else f" in format {data.format}"


def _listing(folder: Path) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) + more) or "nothing"
