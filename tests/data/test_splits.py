"""Carved splits: the rows asked for, stratified, no text on both sides, the same on every machine."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from html import unescape
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from whinchat.data.checks import normalize_text
from whinchat.data.dataset import Split
from whinchat.data.splits import carve_splits, limit_rows, rows_to_carve
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig

PINNED = ("text 8", "text 3", "text 10", "text 7")


def corpus(texts: list[str], labels: list[int]) -> Split:
    return Split("train", tuple(texts), tuple(labels))


def pairs(split: Split) -> Counter[tuple[str, int]]:
    return Counter(zip(split.texts, split.labels, strict=True))


@settings(max_examples=60, deadline=None)
@example(labels=[0, 1, 2, 2, 2, 2, 2, 3], seed=0, shares=(0.375, 0.125))
@given(
    labels=st.lists(st.integers(0, 3), min_size=3, max_size=120),
    seed=st.integers(0, 5),
    shares=st.tuples(st.floats(0.01, 0.45), st.floats(0.01, 0.45)),
)
def test_distinct_texts_are_exact_and_stratified(labels: list[int], seed: int, shares: tuple[float, float]) -> None:
    train = corpus([f"text {i}" for i in range(len(labels))], labels)
    wanted = {
        name: max(1, int(share * len(labels))) for name, share in zip(("validation", "test"), shares, strict=True)
    }
    counts = Counter(labels)
    try:
        rest, parts = carve_splits(train, wanted, seed, "src")
    except DataError:
        # One row of each label stays in train, which leaves nothing for the last split.
        assert len(labels) - len(counts) <= wanted["validation"]
        return
    assert set(rest.labels) == set(labels)
    assert pairs(rest) + pairs(parts["validation"]) + pairs(parts["test"]) == pairs(train)
    if {name: len(part) for name, part in parts.items()} != wanted:
        assert set(Counter(rest.labels).values()) == {1}
        return
    # Rows of other labels take the places of a label whose last row stays in train.
    taken = sum(wanted.values()) / len(labels)
    scarce = sum(count * taken > count - 1 for count in counts.values())
    for label, count in counts.items():
        share = wanted["validation"] * count / len(labels)
        assert abs(parts["validation"].labels.count(label) - share) < 1 + scarce


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", " ", "!", " ?"])), min_size=2, max_size=40
    ),
    seed=st.integers(0, 3),
    rows=st.integers(1, 20),
)
def test_kindred_texts_stay_together(words: list[tuple[str, str]], seed: int, rows: int) -> None:
    texts = [(word.upper() if i % 2 else word) + tail for i, (word, tail) in enumerate(words)]
    train = corpus(texts, [i % 3 for i in range(len(texts))])
    sizes = Counter(word for word, _ in words)
    if rows >= len(train) or rows < min(sizes.values()):
        with pytest.raises(DataError):
            carve_splits(train, {"test": rows}, seed, "src")
        return
    # A group that is small enough may hold the only rows of a label that train would keep.
    carved = None
    with suppress(DataError):
        carved = carve_splits(train, {"test": rows}, seed, "src")
    if carved is None:
        return
    rest, parts = carved
    assert set(rest.labels) == set(train.labels)
    # At most short by less than the smallest group that is left, and exact where that is a single text; shorter only
    # where a label has no second group in train.
    words_left = {text[0].lower() for text in rest.texts}
    smallest_left = min(size for word, size in sizes.items() if word in words_left)
    groups_of_label = Counter(label for _, label in {(text[0].lower(), label) for text, label in pairs(rest)})
    assert rows - smallest_left < len(parts["test"]) or min(groups_of_label.values()) == 1
    assert len(parts["test"]) <= rows
    assert pairs(rest) + pairs(parts["test"]) == pairs(train)
    assert not words_left & {text[0].lower() for text in parts["test"].texts}


def test_two_splits_of_repeated_texts_share_no_text() -> None:
    train = corpus([f"Text {i // 2}" for i in range(100)], [i // 2 % 3 for i in range(100)])
    rest, parts = carve_splits(train, {"validation": 20, "test": 30}, 0, "src")
    sides = [{normalize_text(text) for text in one.texts} for one in (rest, *parts.values())]
    assert sum(len(side) for side in sides) == 50
    assert (len(parts["validation"]), len(parts["test"]), len(rest)) == (20, 30, 50)


def test_texts_that_are_equal_once_cleaned_stay_together() -> None:
    # As they are, "&#98;0" and "b0" differ in their words.
    texts = [text for i in range(40) for text in (f"&#98;{i}", f"b{i}")]
    rest, parts = carve_splits(corpus(texts, [0, 1] * 40), {"test": 30}, 0, "src", ("html_entities",))
    assert {unescape(text) for text in rest.texts}.isdisjoint(map(unescape, parts["test"].texts))
    assert len(parts["test"]) == 30


def test_the_shuffle_is_fixed() -> None:
    train = corpus([f"text {i}" for i in range(12)], [i % 2 for i in range(12)])
    rest, parts = carve_splits(train, {"test": 4}, 0, "src")
    # A pinned order: it must not change with the Python version, the hash seed or the platform.
    assert parts["test"].texts == PINNED
    assert rest.texts != tuple(text for text in train.texts if text in rest.texts)
    assert carve_splits(train, {"test": 4}, 1, "src")[1]["test"].texts != PINNED


def test_the_shuffle_does_not_depend_on_the_order_of_the_source() -> None:
    train = corpus([f"text {i}" for i in range(30)], [i % 3 for i in range(30)])
    backwards = train.take(list(range(29, -1, -1)))
    assert carve_splits(train, {"test": 10}, 0, "src") == carve_splits(backwards, {"test": 10}, 0, "src")


def test_too_few_rows() -> None:
    train = corpus(["a", "b", "c"], [0, 1, 0])
    with pytest.raises(DataError, match=r"src: data\.validation_rows=1 and data\.test_rows=2 take 3 of the 3 rows"):
        carve_splits(train, {"validation": 1, "test": 2}, 0, "src")
    with pytest.raises(DataError, match=r"data\.test_rows=1 cannot be met, since equal texts must stay together"):
        carve_splits(corpus(["a", "A", "b", "B"], [0, 0, 1, 1]), {"test": 1}, 0, "src")
    with pytest.raises(DataError, match=r"data\.test_rows=1 cannot be met, since one row of each label stays in train"):
        carve_splits(corpus(["a", "b"], [0, 1]), {"test": 1}, 0, "src")


def test_no_label_leaves_train_whole() -> None:
    # Of ten rows in a hundred, each rare label would be owed a tenth of a row, and the first would lose its only row.
    train = corpus([f"text {row}" for row in range(40)], [0] * 30 + list(range(1, 11)))
    rest, parts = carve_splits(train, {"validation": 4, "test": 4}, 0, "src")
    assert set(rest.labels) == set(range(11))
    assert {name: part.labels for name, part in parts.items()} == {"validation": (0,) * 4, "test": (0,) * 4}


@pytest.mark.parametrize(
    ("rows", "present", "wanted"),
    [
        ({}, (), {"validation": 4, "test": 4}),
        ({}, ("validation",), {}),
        ({}, ("test",), {"validation": 4}),
        ({}, ("validation", "test"), {}),
        ({"validation_rows": 7}, (), {"validation": 7}),
        ({"test_rows": 0.25}, (), {"validation": 4, "test": 10}),
        ({"validation_rows": 0.001, "test_rows": 5}, (), {"validation": 1, "test": 5}),
        ({"validation_rows": None}, (), {}),
        ({"test_rows": None}, (), {"validation": 4}),
    ],
)
def test_rows_to_carve(rows: dict[str, Any], present: tuple[str, ...], wanted: dict[str, int]) -> None:
    data = DataConfig(source="src", **rows)
    assert rows_to_carve(data, present, 40) == wanted
    # What a run stores reads back as the same splits.
    assert rows_to_carve(DataConfig.model_validate(data.model_dump(mode="json")), present, 40) == wanted


def test_limited() -> None:
    train = corpus(["a", "b", "c"], [0, 1, 0])
    assert limit_rows(train, 0.7, "src").texts == ("a", "b")
    assert limit_rows(train, "auto", "src").texts == train.texts
    assert limit_rows(train, 2, "src").texts == ("a", "b")
    assert limit_rows(train, None, "src").texts == train.texts
    with pytest.raises(DataError, match=r"src: data\.train_rows=4, but train has 3 rows after splitting and dropping"):
        limit_rows(train, 4, "src")


def test_the_first_rows_of_a_carved_split_are_like_the_split() -> None:
    texts = tuple(f"text number {row}" for row in range(4000))
    train = Split("train", texts, tuple(0 if row % 5 else 1 for row in range(4000)))
    rest, carved = carve_splits(train, {"validation": 400, "test": 800}, seed=0, source="here")
    for split in (*carved.values(), rest):
        # A fifth of 100 rows, give or take four standard deviations.
        assert 4 <= sum(split.head(100).labels) <= 36, split.name


def answered(answers: list[tuple[int | None, ...]], copies: int = 1) -> Split:
    """Rows with answers to several decisions; each text occurs ``copies`` times."""
    labels = tuple(9 if row[0] is None else row[0] for row in answers)
    texts = tuple(f"text {index // copies}" for index in range(len(answers)))
    return Split("train", texts, labels, answers=tuple(answers))


def answer_rows(split: Split, decision: int, label: int) -> int:
    return sum(row[decision] == label for row in split.answers)


def test_rare_answers_to_any_question_reach_every_split() -> None:
    # Every 40th row has the rare answer to the second question, and every 37th that to the third.
    train = answered([(i % 3, int(i % 40 == 0), None if i % 2 else int(i % 37 == 0)) for i in range(400)])
    for seed in range(5):
        rest, parts = carve_splits(train, {"validation": 40, "test": 40}, seed, "src")
        assert [len(part) for part in (rest, *parts.values())] == [320, 40, 40]
        for decision, rare in ((1, 10), (2, 6)):
            counts = [answer_rows(part, decision, 1) for part in (rest, *parts.values())]
            assert counts == [rare - 2, 1, 1]
        for part in parts.values():
            assert all(abs(answer_rows(part, 0, label) - 40 / 3) < 2 for label in range(3))


@settings(max_examples=60, deadline=None)
@given(
    answers=st.lists(
        st.tuples(st.integers(0, 2), st.none() | st.integers(0, 1), st.none() | st.integers(0, 3)),
        min_size=4,
        max_size=80,
    ),
    seed=st.integers(0, 3),
    shares=st.tuples(st.floats(0.01, 0.4), st.floats(0.01, 0.4)),
    copies=st.integers(1, 3),
)
def test_splits_of_questions_keep_every_row_and_answer(
    answers: list[tuple[int | None, ...]], seed: int, shares: tuple[float, float], copies: int
) -> None:
    train = answered(answers, copies)
    sizes = [max(1, int(share * len(answers))) for share in shares]
    wanted = dict(zip(("validation", "test"), sizes, strict=True))
    carved = None
    with suppress(DataError):
        carved = carve_splits(train, wanted, seed, "src")
    if carved is None:
        return
    rest, parts = carved
    together = Counter[Any]()
    for part in (rest, *parts.values()):
        together.update(zip(part.texts, part.answers, strict=True))
    assert together == Counter(zip(train.texts, train.answers, strict=True))
    assert not set(rest.texts) & {text for part in parts.values() for text in part.texts}
    assert all(len(part) <= wanted[name] for name, part in parts.items())
    given_answers = {(index, label) for row in answers for index, label in enumerate(row) if label is not None}
    assert {
        (index, label) for row in rest.answers for index, label in enumerate(row) if label is not None
    } == given_answers
    backwards = train.take(list(range(len(train) - 1, -1, -1)))
    if copies == 1:
        assert carve_splits(backwards, wanted, seed, "src") == carved
