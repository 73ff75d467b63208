"""Folds part train evenly, and never part two copies of a text."""

from __future__ import annotations

from collections import Counter

import pytest

from whinchat.data.dataset import Split
from whinchat.data.splits import make_folds, source_indices
from whinchat.errors import DataError
from whinchat.recipe.task import Task

TASK = Task(name="t", labels=("a", "b", "c"), instruction="Decide.")


def split_of(counts: tuple[int, int, int]) -> Split:
    labels = [label for label, rows in enumerate(counts) for _ in range(rows)]
    return Split("train", tuple(f"text {at}" for at in range(len(labels))), tuple(labels))


@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_every_row_once_and_labels_even(count: int) -> None:
    train = split_of((61, 40, 17))
    parts = make_folds(train, TASK, count, 0, "source")
    assert sorted(row for part in parts for row in part) == list(range(len(train)))
    assert all(list(part) == sorted(part) for part in parts)
    for label in range(3):
        held = [sum(train.labels[row] == label for row in part) for part in parts]
        assert max(held) - min(held) <= 1
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 2


def test_the_seed_alone_decides() -> None:
    train = split_of((30, 30, 30))
    assert (
        make_folds(train, TASK, 3, 0, "s") == make_folds(train, TASK, 3, 0, "s") != make_folds(train, TASK, 3, 1, "s")
    )


def test_copies_of_a_text_stay_together() -> None:
    texts = [f"text {at % 25}" if at % 2 else f"TEXT  {at % 25}!" for at in range(100)]
    train = Split("train", tuple(texts), tuple(at % 3 for at in range(100)))
    parts = make_folds(train, TASK, 3, 0, "source")
    where = [{texts[row].casefold().replace("!", "").split()[1] for row in part} for part in parts]
    assert sum(map(len, where)) == 25
    for label in range(3):
        held = [sum(train.labels[row] == label for row in part) for part in parts]
        assert max(held) - min(held) <= 8
    assert max(map(len, parts)) - min(map(len, parts)) <= 8


def test_too_few_rows() -> None:
    with pytest.raises(DataError, match=r"mine\.csv: 25 training rows give 3 folds of fewer than 10 rows; use fewer"):
        make_folds(split_of((9, 8, 8)), TASK, 3, 0, "mine.csv")


def test_a_label_with_fewer_rows_than_folds() -> None:
    with pytest.raises(DataError, match=r"mine\.csv: c has 2 different texts in train, too few for 3 folds .* of that"):
        make_folds(split_of((30, 30, 2)), TASK, 3, 0, "mine.csv")


def test_a_label_whose_rows_are_copies() -> None:
    train = split_of((30, 30, 0))
    copies = Split("train", (*train.texts, *["the same"] * 9), (*train.labels, *[2] * 9))
    with pytest.raises(DataError, match="c has 1 different texts"):
        make_folds(copies, TASK, 3, 0, "mine.csv")


def test_rows_are_found_in_their_source() -> None:
    whole = Split("train", ("x", "y", "x", "z", "x"), (0, 1, 0, 2, 1))
    part = whole.take([4, 2, 3, 0])
    found = source_indices(part, whole)
    assert [(whole.texts[row], whole.labels[row]) for row in found] == list(zip(part.texts, part.labels, strict=True))
    assert Counter(found) == Counter([4, 2, 3, 0])
