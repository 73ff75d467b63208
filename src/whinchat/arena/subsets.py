"""Choose the training rows of a trial: equal for every method, and nested, so that 300 rows contain the 100 rows."""

import random

from whinchat.data.dataset import Split
from whinchat.errors import DataError


def training_rows(train: Split, rows: int, seed: int, source: str) -> Split:
    """Return the first ``rows`` rows of ``train`` in an order that ``seed`` shuffles.

    Raises:
        DataError: ``train`` has fewer rows; the message names ``source``.
    """
    if rows > len(train):
        raise DataError(
            f"{source}: rows: {rows:,} asked for, train has {len(train):,}; lower rows, or raise data.train_rows if "
            "the source has more"
        )
    order = list(range(len(train)))
    random.Random(seed).shuffle(order)
    return train.take(order[:rows])


def draw_examples(train: Split, shots: int, labels: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return the first ``shots`` rows of each label, as text and label index, the labels taking turns.

    Raises:
        DataError: a label has fewer rows.
    """
    rows_by_label = [[row for row, label in enumerate(train.labels) if label == index] for index in range(len(labels))]
    for label, rows in zip(labels, rows_by_label, strict=True):
        if len(rows) < shots:
            raise DataError(
                f"shots: {shots} examples of each label asked for, {label} has {len(rows)} among the first "
                f"{len(train):,} rows; lower shots or raise the smallest of rows"
            )
    return [(train.texts[rows[shot]], index) for shot in range(shots) for index, rows in enumerate(rows_by_label)]
