"""Read further training texts whose labels are probabilities, such as those that ``whinchat predict`` writes."""

from collections.abc import Collection
from pathlib import Path

from whinchat.data.answer_cells import read_shares
from whinchat.data.checks import text_key
from whinchat.data.dataset import SOFT_SPLIT, Split, certain_answer, one_hot
from whinchat.data.rows import require_file
from whinchat.data.split_files import read_split_file
from whinchat.errors import DataError
from whinchat.progress import logger
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.task import Task


def read_soft_labels(task: Task, data: DataConfig, known: Collection[str]) -> Split:
    """Return the texts of ``data.soft_labels`` with the probability of each label as their ``shares``.

    Rows without a text or without probabilities, texts in ``known`` and repeated texts are left out; the log says how
    many.

    Args:
        task: section of the recipe, with labels. The column ``p_LABEL`` holds the probability of each.
        data: section of the recipe, whose texts the table has in the same columns as ``data.source``.
        known: the labelled texts of all splits, as ``text_key`` returns them.

    Raises:
        DataError: the table cannot be read, holds a number that is no probability, or no row is left.
    """
    assert data.soft_labels is not None
    path = Path(data.soft_labels).expanduser()
    require_file(path, "check data.soft_labels")
    columns = {label: f"p_{label}" for label in task.labels}
    table = data.model_copy(update={"source": data.soft_labels, "format": "auto", "answers": {"label": columns}})
    rows = read_split_file(path, table)["train"]
    texts, labels, shares, seen = list[str](), list[int](), list[tuple[float, ...]](), set(known)
    incomplete = 0
    for row in rows:
        found = read_shares(tuple(columns.values()), row.cells)
        if found.fault:
            raise DataError(f"{row.where}: {found.fault}")
        if not row.text.strip() or (label := certain_answer(found.answers[0])) is None:
            incomplete += 1
        elif (key := text_key(row.text, task.clean)) not in seen:
            seen.add(key)
            texts.append(row.text)
            labels.append(label)
            one = found.answers[0]
            shares.append(one if isinstance(one, tuple) else one_hot(label, len(columns)))
    if not texts:
        raise DataError(
            f"{path}: has no text with probabilities besides those of {data.source}; remove data.soft_labels"
        )
    left_out = {"without text or probabilities": incomplete, "known already": len(rows) - incomplete - len(texts)}
    told = "".join(f"; {count:,} left out, {why}" for why, count in left_out.items() if count)
    logger.info(f"Texts of {path} to train on by probabilities: {len(texts):,}{told}")
    return Split(SOFT_SPLIT, tuple(texts), tuple(labels), shares=tuple(shares))
