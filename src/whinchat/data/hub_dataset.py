"""Readers of typed tables: Parquet files and hub data sets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from whinchat.data.rows import RawSource, Row, label_value, require_column, text_value
from whinchat.errors import DataError
from whinchat.recipe.schema import DataConfig

HUB_PREFIX = "hub:"
_HUB_TIMEOUT_SECONDS = 10.0
_HUB_SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
_OFFLINE = "to stay offline, use a local folder with --set data.source=FOLDER, or the demo recipe"


def read_parquet(path: Path, data: DataConfig) -> tuple[Row, ...]:
    """Rows of a Parquet file; label names that ``datasets`` stored in its metadata are used.

    Raises:
        DataError: not a Parquet file, a missing column, a value of the wrong kind, no rows.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = list(file.schema_arrow.names)
            require_column(data.text_column, columns, "data.text_column", str(path))
            require_column(data.label_column, columns, "data.label_column", str(path))
            table = file.read(columns=[data.text_column, data.label_column])
            names = _stored_label_names(file.schema_arrow.metadata, data.label_column)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check data.source") from None
    except (pyarrow.ArrowException, OSError) as fault:
        raise DataError(
            f"{path}: cannot be read as Parquet ({' '.join(str(fault).split())}); write it again"
        ) from fault
    texts, labels = table[data.text_column].to_pylist(), table[data.label_column].to_pylist()
    return _rows(texts, labels, names, data, f"{path} row ")


def _stored_label_names(metadata: dict[bytes, bytes] | None, column: str) -> list[str] | None:
    """Names of a ClassLabel column, which ``datasets`` keeps beside the integers in the schema's metadata."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _rows(
    texts: Sequence[object], labels: Sequence[object], names: list[str] | None, data: DataConfig, origin: str
) -> tuple[Row, ...]:
    if not texts:
        raise DataError(f"{origin.removesuffix(' row ')}: has no rows; point data.source at one with some")
    rows = []
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        where = f"{origin}{number}"
        if names and isinstance(label, int) and 0 <= label < len(names):
            label = names[label]  # noqa: PLW2901
        rows.append(
            Row(text_value(text, data.text_column, where), label_value(label, data.label_column, where), origin, number)
        )
    return tuple(rows)


def read_hub(data: DataConfig) -> RawSource:
    """Splits of a hub data set, and the commit they come from.

    One quick request settles the commit first: it pins what is loaded, and an unreachable hub is known in seconds.
    With ``HF_HUB_OFFLINE=1`` the copy in the datasets cache is used, if there is one.

    Raises:
        DataError: unreachable hub; unknown or gated data set, revision or configuration; no train split; bad columns.
    """
    repo = data.source.removeprefix(HUB_PREFIX)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo):
        raise DataError(f"{data.source}: must read {HUB_PREFIX}OWNER/NAME")
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    commit = None if offline else _resolve_commit(repo, data)
    loaded = _load(repo, data, commit)
    if commit is None:
        commit = _cached_commit(loaded, data)
    splits = {}
    for name, spellings in _HUB_SPLITS.items():
        table = next((loaded[spelling] for spelling in spellings if spelling in loaded), None)
        if table is not None and not _unlabelled(table, data):
            splits[name] = _hub_rows(table, data, f"{data.source} {name}")
    if "train" not in splits:
        raise DataError(f"{data.source}: no labelled train split; it has {', '.join(loaded)}: choose another data set")
    return RawSource(splits, commit)


def _resolve_commit(repo: str, data: DataConfig) -> str | None:

    # HTTPError is the base of httpx's errors, whose module has another name in each major version.

    try:
        return HfApi().dataset_info(repo, revision=data.revision, timeout=_HUB_TIMEOUT_SECONDS).sha
    except GatedRepoError:
        raise DataError(
            f"{data.source}: access is gated; ask for it on the data set's page, then run `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise DataError(f"{data.source}: has no revision {data.revision!r}; check data.revision") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise DataError(
            f"{data.source}: no such data set on the hub, or a private one; check the name, or run `hf auth login`"
        ) from None
    except HfHubHTTPError as fault:
        raise DataError(
            f"{data.source}: the hub answered with an error ({_line(fault)}); try later; {_OFFLINE}"
        ) from fault
    except (HTTPError, OfflineModeIsEnabled, OSError) as fault:
        raise DataError(f"{data.source}: the hub cannot be reached ({_line(fault)}); {_OFFLINE}") from fault


def _load(repo: str, data: DataConfig, commit: str | None) -> Any:

    try:
        return datasets.load_dataset(repo, data.config, revision=commit)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as fault:
        raise DataError(
            f"{data.source}: cannot be loaded ({_line(fault)}); check data.config and data.revision; {_OFFLINE}"
        ) from fault


def _cached_commit(loaded: Any, data: DataConfig) -> str | None:
    """Commit of a cached copy, which ``datasets`` makes the name of the folder that holds it.

    Raises:
        DataError: the recipe asks for a revision that this copy cannot be shown to be.
    """
    files = [file["filename"] for table in loaded.values() for file in table.cache_files]
    commit = Path(files[0]).parent.name if files else None
    if data.revision is not None and not (commit or "").startswith(data.revision):
        raise DataError(
            f"{data.source}: the offline copy is commit {commit or 'unknown'}, data.revision asks for {data.revision}; "
            "unset HF_HUB_OFFLINE, or set data.revision to that commit"
        )
    return commit


def _class_names(table: Any, data: DataConfig) -> list[str] | None:
    names = getattr(table.features.get(data.label_column), "names", None)
    return list(names) if names else None


def _unlabelled(table: Any, data: DataConfig) -> bool:
    """Whether the split's labels are kept secret: -1 in every row of a ClassLabel column, as in GLUE's test splits."""
    names = _class_names(table, data)
    return names is not None and len(table) > 0 and set(table[data.label_column]) == {-1}


def _hub_rows(table: Any, data: DataConfig, title: str) -> tuple[Row, ...]:
    require_column(data.text_column, table.column_names, "data.text_column", title)
    require_column(data.label_column, table.column_names, "data.label_column", title)
    texts, labels = list(table[data.text_column]), list(table[data.label_column])
    return _rows(texts, labels, _class_names(table, data), data, f"{title} row ")


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:300] or type(fault).__name__
