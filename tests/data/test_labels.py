"""Labels: how they are matched, and how strangers are reported."""

from __future__ import annotations

import pytest

from whinchat.data.labels import label_splits
from whinchat.data.rows import Row
from whinchat.errors import DataError
from whinchat.recipe.task import Task


def rows(*labels: str, texts: tuple[str, ...] | None = None) -> tuple[Row, ...]:
    texts = texts or tuple(f"text {i}" for i in range(len(labels)))
    return tuple(Row(text, label, "my.csv:", 2 + i) for i, (text, label) in enumerate(zip(texts, labels, strict=True)))


def task(*labels: str) -> Task:
    return Task(name="t", labels=labels, instruction="Say which.", answers={"us": "them"} if "us" in labels else {})


def indices(
    found: tuple[Row, ...], labels: tuple[str, ...], label_map: dict[str, str] | None = None
) -> tuple[int, ...]:
    return label_splits({"train": found}, task(*labels), label_map or {}, "my.csv")["train"].labels


def test_exact_then_without_case() -> None:
    assert indices(rows(" no", "NO", "Yes "), ("yes", "no")) == (1, 1, 0)
    assert indices(rows("us", "US"), ("US", "us")) == (1, 0)


def test_case_that_would_be_ambiguous_is_no_match() -> None:
    with pytest.raises(DataError, match="'Us' "):
        indices(rows("Us"), ("US", "us"))


def test_label_map_comes_first() -> None:
    assert indices(rows("0", "non_irony", "irony"), ("plain", "irony"), {"0": "irony", "NON_irony": "plain"}) == (
        1,
        0,
        1,
    )
    assert indices(rows("a", "b"), ("a", "b"), {"a": "b", "b": "a"}) == (1, 0)


def test_strangers_are_all_named() -> None:
    with pytest.raises(DataError) as hit:
        label_splits({"train": rows("yes", "noo", "x", "noo"), "test": rows("noo")}, task("yes", "no"), {}, "my.csv")
    message = str(hit.value)
    assert message.startswith("my.csv: labels that are not in task.labels (yes, no): ")
    assert "'noo' (3 rows, first my.csv:3; did you mean no?)" in message
    assert "'x' (1 row, first my.csv:4)" in message
    assert '--set \'data.label_map={"noo": LABEL, "x": LABEL}\'' in message


def test_integers_are_not_guessed() -> None:
    with pytest.raises(
        DataError, match=r"whinchat does not guess which number is which label: map each with data\.label"
    ):
        indices(rows("0", "1"), ("no", "yes"))
    assert indices(rows("0", "1"), ("no", "yes"), {"0": "yes", "1": "no"}) == (1, 0)


def test_incomplete_map_is_quoted() -> None:
    with pytest.raises(DataError, match=r"map each with data\.label_map \(which has 0\)"):
        indices(rows("0", "1"), ("no", "yes"), {"0": "yes"})


def test_wrong_column_is_suspected() -> None:
    with pytest.raises(DataError, match=r"and 90 more: is data\.label_column the right column"):
        indices(rows(*(f"some text {i}" for i in range(100))), ("no", "yes"))


def test_rows_without_text_or_label() -> None:
    texts = ("a", *[" \u2003"] * 6, "b", "", "c")
    found = rows(*["no"] * 8, " ", "", texts=texts)
    with pytest.raises(DataError) as hit:
        indices(found, ("nothing", "no", "yes"))
    assert str(hit.value) == (
        "my.csv: 6 rows have no text: my.csv:3, my.csv:4, my.csv:5, my.csv:6, my.csv:7 and 1 more; 1 row is empty: "
        "my.csv:10; 1 row has no label: my.csv:11; complete or remove such rows, or leave them out with "
        "data.drop_empty: true"
    )


def test_an_empty_label_that_is_mapped_on_purpose() -> None:
    assert indices(rows("no", ""), ("yes", "no"), {"": "yes"}) == (1, 0)
