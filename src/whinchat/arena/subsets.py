"""The rows of a cell: the same for every method, and nested, so that 300 rows are the 100 and 200 more."""

from __future__ import annotations

import random

from whinchat.data.dataset import Corpus, Split
from whinchat.errors import DataError
from whinchat.recipe.schema import EvaluateConfig


def training_rows(train: Split, rows: int, seed: int, source: str) -> Split:
    """The first ``rows`` of ``train`` in the order that ``seed`` shuffles it to.

    Raises:
        DataError: there are fewer.
    """
    if rows > len(train):
        raise DataError(
            f"{source}: rows: {rows:,} asked for, train has {len(train):,}; lower rows, or raise data.train_rows if "
            "the source has more"
        )
    order = list(range(len(train)))
    random.Random(seed).shuffle(order)
    return train.take(order[:rows])


def evaluated_rows(corpus: Corpus, evaluate: EvaluateConfig) -> Split:
    """What every cell is measured on.

    Raises:
        DataError: the source has no such split.
    """
    return corpus.split(evaluate.split).head(evaluate.rows)


def draw_examples(train: Split, shots: int, labels: tuple[str, ...]) -> list[tuple[str, int]]:
    """The first ``shots`` rows of each label, label after label in turn, so that none stands last for long.

    Raises:
        DataError: a label has fewer.
    """
    by_label = [[row for row, label in enumerate(train.labels) if label == index] for index in range(len(labels))]
    for label, found in zip(labels, by_label, strict=True):
        if len(found) < shots:
            raise DataError(
                f"shots: {shots} examples of each label asked for, {label} has {len(found)} among the first "
                f"{len(train):,} rows; lower shots or raise the smallest of rows"
            )
    return [(train.texts[found[shot]], index) for shot in range(shots) for index, found in enumerate(by_label)]
