"""Equal data: nested rows, the same for all methods."""

from __future__ import annotations

import pytest

from tests.helpers import tiny_models
from whinchat.arena.subsets import draw_examples, training_rows
from whinchat.data.dataset import Split
from whinchat.errors import DataError


def toy(rows: int = 50) -> Split:
    texts, labels = tiny_models.toy_rows(rows)
    return Split("train", tuple(f"{at} {text}" for at, text in enumerate(texts)), labels)


def test_more_rows_hold_the_fewer() -> None:
    train = toy()
    small, large = training_rows(train, 10, 3, "x"), training_rows(train, 30, 3, "x")
    assert large.head(10) == small
    assert training_rows(train, 10, 3, "x") == small
    other = training_rows(train, 10, 4, "x")
    assert set(other.texts) != set(small.texts)
    assert set(training_rows(train, 50, 3, "x").texts) == set(train.texts)


def test_too_few() -> None:
    with pytest.raises(DataError, match=r"x: rows: 1,000 asked for, train has 50; lower rows, or raise data\.train_ro"):
        training_rows(toy(), 1000, 0, "x")
    few = Split("train", ("a", "b", "c"), (0, 0, 1))
    with pytest.raises(DataError, match="2 examples of each label asked for, fine has 1 among the first 3 rows; lower"):
        draw_examples(few, 2, ("bad", "fine"))


def test_examples_are_balanced_and_take_turns() -> None:
    train = toy()
    examples = draw_examples(train, 2, tiny_models.ONE_TOKEN)
    assert [label for _, label in examples] == [0, 1, 2, 0, 1, 2]
    assert all(train.labels[train.texts.index(text)] == label for text, label in examples)
