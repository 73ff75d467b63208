"""Load the data of a recipe: find the source, read it, map labels, split, check, limit."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from whinchat.data.answers import AnswerReader, answer_splits
from whinchat.data.checks import (
    check_corpus,
    doubled_space_answers,
    doubled_space_shares,
    require_every_answer,
    require_every_label,
    text_key,
)
from whinchat.data.dataset import Corpus, Split, evaluated_split
from whinchat.data.formats.table_registry import table_suffixes
from whinchat.data.labels import complete_rows, label_splits
from whinchat.data.packages import PACKAGE_PREFIX, catalog_entry, fetch_package_file
from whinchat.data.rows import HUB_PREFIX, RawSource, Row, reading, require_file
from whinchat.data.soft_labels import SHARE_READERS, read_soft_labels
from whinchat.data.split_files import read_split_file, read_split_folder, require_one_label
from whinchat.data.splits import carve_splits, limit_rows, rows_to_carve, source_indices
from whinchat.data.vader import read_vader
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.schema import Recipe
from whinchat.recipe.task import Task

# What ``load_corpus`` has read inside ``reading_once``, with what it was read for.
_corpora: ContextVar[list[tuple[Task, DataConfig, Corpus]] | None] = ContextVar("_corpora", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Inside, ``load_corpus`` reads the data of a recipe once, for a command that checks data before it uses them."""
    token = _corpora.set([])
    try:
        yield
    finally:
        _corpora.reset(token)


def load_corpus(recipe: Recipe) -> Corpus:
    """Return the splits of a recipe, checked and ready to use.

    Splits that the source lacks are carved from train as the recipe says. Then leaks and duplicates are dropped from
    train as the recipe says. Then the row limits apply.

    Raises:
        DataError: the source cannot be found or read, or does not fit the task.
    """
    read = _corpora.get()
    if read is None:
        return read_corpus(recipe.task, recipe.data)
    # A resumed run gets its date after the check, and data do not depend on the date.
    task = recipe.task.model_copy(update={"date": None})
    for known_task, known_data, corpus in read:
        if (known_task, known_data) == (task, recipe.data):
            return corpus
    corpus = read_corpus(recipe.task, recipe.data)
    read.append((task, recipe.data, corpus))
    return corpus


def read_corpus(task: Task, data: DataConfig) -> Corpus:
    """Return the splits of two sections of a recipe; see ``load_corpus``."""
    data = data.for_questions(task.questions)
    raw = read_source(data)
    splits = _without_empty(raw.splits, task, data)
    held_out = _labelled(splits, task, data)
    train = held_out.pop("train")
    limits = {"validation": data.validation_rows, "test": data.test_rows}
    if wanted := rows_to_carve(data, held_out, len(train)):
        train, carved = carve_splits(train, wanted, data.split_seed, data.source, task.clean)
        held_out |= carved
    train, report = check_corpus(train, held_out, data, data.source, task.clean)
    train = limit_rows(train, data.train_rows, data.source)
    if task.questions:
        require_every_answer(train, task, data.source)
        doubled_spaces = doubled_space_answers(train, task)
    else:
        require_every_label(train, task.labels, data.source)
        doubled_spaces = doubled_space_shares(train, task.labels)
    empty = sum(map(len, raw.splits.values())) - sum(map(len, splits.values()))
    report = replace(report, doubled_spaces=doubled_spaces, empty=empty)
    # A carved split has its size already, or a little less where equal texts stay together; see carve_splits.
    kept = {
        name: split if name in wanted else limit_rows(split, limits[name], data.source)
        for name, split in held_out.items()
    }
    soft = None
    if data.soft_labels is not None:
        labelled = (text for split in (train, *held_out.values()) for text in split.texts)
        soft = read_soft_labels(task, data, {text_key(text, task.clean) for text in labelled})
    return Corpus(
        data.source, raw.revision, train, kept.get("validation"), kept.get("test"), report, tuple(wanted), soft
    )


def load_labelled(recipe: Recipe) -> Corpus:
    """Return what ``load_corpus`` does, without the texts of ``data.soft_labels``, for a use that trains nothing.

    So a trained classifier can be measured where that table is not at hand. Errors are those of ``load_corpus``.
    """
    data = recipe.data.model_copy(update={"soft_labels": None})
    return load_corpus(recipe.model_copy(update={"data": data}))


def load_split(recipe: Recipe) -> Split:
    """Return the rows to evaluate on, from a source that need not have a train split.

    The rows are those of the split that ``evaluate.split`` names ("auto": test, else validation), or all rows of a
    source that is a single table. The split is named after the source, since nothing was trained or chosen on it.

    Raises:
        DataError: the source cannot be found or read, does not fit the task, or has other splits only.
    """
    data = recipe.data.for_questions(recipe.task.questions)
    rows = _without_empty(read_source(data).splits, recipe.task, data)
    splits = _labelled(rows, recipe.task, data, can_relabel=False)
    wanted = evaluated_split(recipe.evaluate.split, splits)
    if wanted not in splits and len(splits) > 1:
        raise DataError(f"{data.source}: has no {wanted} split (it has {', '.join(splits)}); set evaluate.split")
    if wanted in splits:
        return replace(splits[wanted], name=f"{wanted} of {data.source}")
    return replace(next(iter(splits.values())), name=data.source)


def require_row(train: Split, row: int) -> None:
    """Check that ``train`` has the row ``row``, counted from 0.

    Raises:
        DataError: it has not; the message names the option of the command line.
    """
    if row >= len(train):
        raise DataError(f"--row {row}: the training split has {len(train)} rows, numbered from 0")


def source_rows(recipe: Recipe, train: Split) -> tuple[int, ...]:
    """Return, for each row of ``train`` from ``load_corpus``, its index in the train split of the source.

    Raises:
        DataError: the source cannot be read again.
    """
    data = recipe.data.for_questions(recipe.task.questions)
    rows = read_source(data).splits["train"]
    kept = _kept_rows(rows, recipe.task, data) if data.drop_empty else range(len(rows))
    whole = _labelled({"train": [rows[index] for index in kept]}, recipe.task, data)["train"]
    return tuple(kept[index] for index in source_indices(train, whole))


def _labelled(
    splits: Mapping[str, Sequence[Row]], task: Task, data: DataConfig, *, can_relabel: bool = True
) -> dict[str, Split]:
    """Return splits with labels, or with the answers to questions; see ``label_splits`` and ``answer_splits``."""
    if task.questions:
        return answer_splits(splits, task, data)
    return label_splits(splits, task, data.label_map, data.source, can_relabel=can_relabel)


def _without_empty(splits: Mapping[str, Sequence[Row]], task: Task, data: DataConfig) -> Mapping[str, Sequence[Row]]:
    """Return the rows to use: all, or with ``data.drop_empty`` those with a text and a label or an answer."""
    if not data.drop_empty:
        return splits
    return {name: [rows[index] for index in _kept_rows(rows, task, data)] for name, rows in splits.items()}


def _kept_rows(rows: Sequence[Row], task: Task, data: DataConfig) -> list[int]:
    return AnswerReader(task, data).complete_rows(rows) if task.questions else complete_rows(rows, data.label_map)


def read_source(data: DataConfig) -> RawSource:
    """Read the rows of every split of ``data.source``, with labels as the source spells them.

    For a recipe with questions, ``data`` is what ``DataConfig.for_questions`` returns.

    Raises:
        DataError: the source cannot be found or read.
    """
    source = data.source
    if source.startswith(PACKAGE_PREFIX):
        return _read_package(data)
    if source.startswith(HUB_PREFIX):
        _require_format(data, "hub")
        from whinchat.data.hub_dataset import read_hub  # datasets takes seconds to load

        return read_hub(data)
    path = Path(source).expanduser()
    if data.format == "hub":
        raise DataError(f"{source}: data.format is hub, so data.source must read {HUB_PREFIX}OWNER/NAME")
    with reading(path):
        is_folder = path.is_dir()
    if is_folder:
        return RawSource(read_split_folder(path, data))
    if not path.exists() and not path.is_symlink():
        raise DataError(f"{source}: no such file or folder in {Path.cwd()}; {_hub_hint(source)}{_source_kinds()}")
    require_file(path, "mend the link")
    return RawSource(read_split_file(path, data))


def _read_package(data: DataConfig) -> RawSource:
    entry = catalog_entry(data.source)
    if entry.reader in SHARE_READERS:
        raise DataError(f"{data.source}: has shares of labels and no label; name it in data.soft_labels")
    if entry.reader is None:
        raise DataError(f"{data.source}: is {entry.filename}, not a data set; {_source_kinds()}")
    _require_format(data, None)
    require_one_label(data, "this package")
    return RawSource({"train": read_vader(fetch_package_file(entry.name))}, entry.revision)


def _require_format(data: DataConfig, source_format: str | None) -> None:
    if data.format not in {"auto", source_format}:
        raise DataError(f"{data.source}: data.format {data.format} does not fit this source; leave it at auto")


def _source_kinds() -> str:
    *suffixes, last = table_suffixes()
    return (
        f"a source is a folder, a {', '.join(suffixes)} or {last} file, "
        f"{HUB_PREFIX}OWNER/NAME for a hub data set, or {PACKAGE_PREFIX}NAME for a file inside a PyPI package"
    )


def _hub_hint(source: str) -> str:
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) and Path(source).suffix.lower() not in table_suffixes():
        return f"for a hub data set write {HUB_PREFIX}{source}; "
    return ""
