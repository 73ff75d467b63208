"""Repeated and leaked texts."""

from __future__ import annotations

from typing import Any

import pytest

from whinchat.data.checks import (
    check_corpus,
    doubled_space_shares,
    normalize_text,
    require_every_label,
    whitespace_leak_warning,
)
from whinchat.data.dataset import Split
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig


def split(name: str, *rows: tuple[str, int]) -> Split:
    return Split(name, tuple(text for text, _ in rows), tuple(label for _, label in rows))


def data(**fields: Any) -> DataConfig:
    return DataConfig(source="unused", **fields)


TRAIN = split("train", ("Hello  World", 0), ("hello world ", 1), ("HELLO\nworld", 0), ("other", 1), ("leaky", 1))
HELD_OUT = {"validation": split("validation", ("Leaky", 0), ("new", 1)), "test": split("test", ("newer", 0))}


def test_normalised() -> None:
    assert normalize_text(" A\u2028b\t") == normalize_text("a B")
    assert normalize_text("cafe\u0301") == normalize_text("Café")
    assert normalize_text("a!") != normalize_text("a")


def test_report_and_default_dropping() -> None:
    train, report = check_corpus(TRAIN, HELD_OUT, data(), "src")
    assert train.texts == TRAIN.texts[:4]
    assert (report.duplicates_in_train, report.conflicting_duplicates, report.dropped_from_train) == (2, 1, 1)
    assert report.leaked == {"validation": 1, "test": 0}
    assert report.examples == (
        "also in validation: Leaky",
        "repeated with another label: hello world",
        "repeated: HELLO world",
    )


def test_switches() -> None:
    train, report = check_corpus(TRAIN, HELD_OUT, data(drop_leaked=False), "src")
    assert train is TRAIN
    assert (report.leaked["validation"], report.dropped_from_train) == (1, 0)
    train, report = check_corpus(TRAIN, HELD_OUT, data(drop_duplicates=True), "src")
    assert train.texts == ("Hello  World", "other")
    assert report.dropped_from_train == 3


def test_long_examples_are_shortened() -> None:
    _, report = check_corpus(split("train", ("w" * 99, 0), ("w" * 99, 0)), {}, data(), "src")
    assert report.examples == ("repeated: " + "w" * 59 + "…",)


def test_nothing_left() -> None:
    with pytest.raises(DataError, match="src: every training text also occurs in test, so nothing is left"):
        check_corpus(split("train", ("a", 0)), {"test": split("test", ("A", 0))}, data(), "src")


def test_every_label_needs_a_row() -> None:
    require_every_label(TRAIN, ("no", "yes"), "src")
    with pytest.raises(DataError, match=r"src: no training row is labelled maybe \(rows used: no 2, yes 3, maybe 0\)"):
        require_every_label(TRAIN, ("no", "yes", "maybe"), "src")


def test_fingerprint_sees_order_labels_and_borders() -> None:
    base = split("train", ("ab", 0), ("c", 1))
    others = [
        split("train", ("c", 1), ("ab", 0)),
        split("train", ("ab", 1), ("c", 0)),
        split("train", ("a", 0), ("bc", 1)),
    ]
    assert len({one.fingerprint() for one in (base, *others)}) == 4
    assert base.fingerprint() == Split("test", base.texts, base.labels).fingerprint()


def test_doubled_spaces_that_give_a_label_away() -> None:
    rows = [("a  b ", 1), ("a b ", 1), (" a\t\nb", 1), ("a  ", 1), ("a b ", 0), ("c", 0), ("d", 0), ("e  f", 0)]
    shares = doubled_space_shares(split("train", *rows), ("plain", "odd", "none"))
    assert shares == {"plain": 0.25, "odd": 0.75, "none": 0.0}
    warning = whitespace_leak_warning(shares, ("html_entities",))
    assert warning is not None
    assert "75% of the training texts of odd and in 0% of the training texts of none" in warning
    assert warning.endswith("Set task.clean to [html_entities, spaces].")
    assert whitespace_leak_warning(shares, ("spaces",)) is None
    assert whitespace_leak_warning({"plain": 0.25, "odd": 0.4}, ()) is None
    # Runs of earlier versions did not look.
    assert whitespace_leak_warning({}, ()) is None


def test_texts_are_compared_as_the_model_reads_them() -> None:
    train = split("train", ("Tom &amp; Jerry", 0), ("tom & jerry", 1), ("alone", 1))
    held_out = {"test": split("test", ("Tom &amp;  JERRY", 0))}
    _, plain = check_corpus(train, held_out, data(), "src")
    assert (plain.duplicates_in_train, plain.dropped_from_train) == (0, 1)
    kept, cleaned = check_corpus(train, held_out, data(), "src", ("html_entities",))
    assert kept.texts == ("alone",)
    assert (cleaned.duplicates_in_train, cleaned.conflicting_duplicates, cleaned.leaked) == (1, 1, {"test": 1})
