"""Kinds of text are told apart, and their figures are those of their rows alone."""

from __future__ import annotations

import numpy as np
import pytest

from whinchat.evaluation.slices import KINDS, compute_slices


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        ("with negation", ["I do not like it", "won't", "Don’t ask", "never again"], ["a note", "knot", "want it"]),
        ("with an emoji or emoticon", ["so good 😀", "ok :)", "I <3 it", "meh :-/", "☺"], ["at 10:30", "fox8", "a/b"]),
        ("with a word in capitals", ["this is SO BAD", "NASA"], ["I am OK", "So Bad"]),
        ("with a hashtag", ["#fun"], ["we are # 1", "fun"]),
    ],
)
def test_kinds(kind: str, inside: list[str], outside: list[str]) -> None:
    assert all(KINDS[kind](text) for text in inside)
    assert not any(KINDS[kind](text) for text in outside)


def test_figures_of_a_slice_are_its_rows() -> None:
    texts = ["not this", "this"] * 50
    expected = np.array([0, 1] * 50)
    predicted = np.array([1, 1] * 50)
    found = {one.name: one for one in compute_slices(texts, expected, predicted, 2)}
    assert (found["with negation"].n, found["with negation"].share) == (50, 0.5)
    assert found["with negation"].accuracy == 0.0
    assert "with a hashtag" not in found
    lengths = [one for name, one in found.items() if "words" in name]
    assert sum(one.n for one in lengths) == 100
