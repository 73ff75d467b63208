"""Reader of data sets on the Hugging Face hub."""

import re
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # the base of httpx's errors; httpx's module has another name in each major version
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from whinchat.data.rows import (
    HUB_PREFIX,
    SPLIT_NAMES,
    RawSource,
    Row,
    class_names_for,
    labelled_rows,
    require_columns,
)
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig

_HUB_TIMEOUT_SECONDS = 10.0
_OFFLINE = "to stay offline, use a local folder with --set data.source=FOLDER, or the demo recipe"


def read_hub(data: DataConfig) -> RawSource:
    """Read the splits of a hub data set, and the commit they come from.

    One request asks for the commit before anything is loaded: the commit pins the content, and a hub that is out of
    reach is noticed within seconds. With ``HF_HUB_OFFLINE=1`` the copy in the cache of ``datasets`` is used.

    Raises:
        DataError: the hub is out of reach; the data set, its revision or its configuration is unknown or gated; there
            is no labelled train split; or a column is missing or of the wrong kind.
    """
    repo = data.source.removeprefix(HUB_PREFIX)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo):
        raise DataError(f"{data.source}: must read {HUB_PREFIX}OWNER/NAME")
    commit = None if is_offline_mode() else _resolve_commit(repo, data)
    loaded = _load(repo, data, commit)
    if commit is None:
        commit = _cached_commit(loaded, data)
    splits = {}
    for name, spellings in SPLIT_NAMES.items():
        table = next((loaded[spelling] for spelling in spellings if spelling in loaded), None)
        if table is not None and not _is_unlabelled(table, data):
            splits[name] = _hub_rows(table, data, f"{data.source} {name}")
    if "train" not in splits:
        raise DataError(f"{data.source}: no labelled train split; it has {', '.join(loaded)}: choose another data set")
    return RawSource(splits, commit)


def _resolve_commit(repo: str, data: DataConfig) -> str | None:
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
            f"{data.source}: the hub answered with an error ({_one_line(fault)}); try later; {_OFFLINE}"
        ) from fault
    except (HTTPError, OfflineModeIsEnabled, OSError) as fault:
        raise DataError(f"{data.source}: the hub cannot be reached ({_one_line(fault)}); {_OFFLINE}") from fault


def _load(repo: str, data: DataConfig, commit: str | None) -> Any:
    try:
        return datasets.load_dataset(repo, data.config, revision=commit, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as fault:
        raise DataError(
            f"{data.source}: cannot be loaded ({_one_line(fault)}); check data.config and data.revision; {_OFFLINE}"
        ) from fault


def _cached_commit(loaded: Any, data: DataConfig) -> str | None:
    """Return the commit of a cached copy, which is the name of the folder that ``datasets`` keeps the copy in.

    Raises:
        DataError: ``data.revision`` is set, and the commit is unknown or another.
    """
    files = [file["filename"] for table in loaded.values() for file in table.cache_files]
    commit = Path(files[0]).parent.name if files else None
    if data.revision is not None and not (commit or "").startswith(data.revision):
        raise DataError(
            f"{data.source}: the offline copy is commit {commit or 'unknown'}, data.revision asks for {data.revision}; "
            "unset HF_HUB_OFFLINE, or set data.revision to that commit"
        )
    return commit


def _class_names(feature: Any) -> list[str]:
    return list(getattr(feature, "names", None) or ())


def _is_unlabelled(table: Any, data: DataConfig) -> bool:
    """Return whether ClassLabel columns hold -1 in every row, as in GLUE's test splits, whose labels are secret."""
    return len(table) > 0 and all(
        _class_names(table.features.get(column)) and set(table[column]) == {-1} for column in data.label_columns
    )


def _hub_rows(table: Any, data: DataConfig, title: str) -> tuple[Row, ...]:
    require_columns(data, table.column_names, title)
    columns = {column: list(table[column]) for column in data.text_columns}
    for column in data.label_columns:
        feature = table.features.get(column)
        items = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
        names = _class_names(feature) or _class_names(items)
        columns[column] = class_names_for(list(table[column]), names)
    return labelled_rows(columns, data, title)


def _one_line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:300] or type(fault).__name__
