"""Kinds of text are told apart, and their figures are those of their rows alone."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from whinchat.evaluation.slices import TEXT_SLICES, compute_slices
from whinchat.recipe.schema import SliceName


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        ("negation", ["I do not like it", "won't", "Don’t ask", "never again"], ["a note", "knot", "want it"]),
        ("emoji", ["so good 😀", "ok :)", "I <3 it", "meh :-/", "☺"], ["at 10:30", "fox8", "a/b"]),
        ("capitals", ["this is SO BAD", "NASA"], ["I am OK", "So Bad"]),
        ("hashtag", ["#fun"], ["we are # 1", "fun"]),
    ],
)
def test_kinds(kind: SliceName, inside: list[str], outside: list[str]) -> None:
    assert all(TEXT_SLICES[kind].contains(text) for text in inside)
    assert not any(TEXT_SLICES[kind].contains(text) for text in outside)


def test_every_name_of_the_schema_is_there() -> None:
    assert {*TEXT_SLICES, "length"} == set(get_args(SliceName))


def test_figures_of_a_slice_are_its_rows() -> None:
    texts = ["not this", "this"] * 50
    expected = np.array([0, 1] * 50)
    predicted = np.array([1, 1] * 50)
    names: tuple[SliceName, ...] = ("hashtag", "negation", "length")
    found = {slice_.name: slice_ for slice_ in compute_slices(texts, expected, predicted, 2, names)}
    assert next(iter(found)) == "with negation", "in the order named"
    assert (found["with negation"].n, found["with negation"].share) == (50, 0.5)
    assert found["with negation"].accuracy == 0.0
    assert "with a hashtag" not in found
    lengths = [one for name, one in found.items() if "words" in name]
    assert sum(one.n for one in lengths) == 100
