"""Harmless edits: what they do to a text, and what is counted."""

from __future__ import annotations

import random
from typing import get_args

import numpy as np

from whinchat.evaluation.stress import STRESS_EDITS, apply_edit, run_stress_test, swap_two_letters
from whinchat.recipe.schema import StressEditName

TEXTS = ["Wonderful weather today", "ok", "BAD bad"]


def test_a_typo_swaps_two_letters_of_one_word() -> None:
    found = swap_two_letters(TEXTS[0], random.Random(0))
    assert found != TEXTS[0]
    assert sorted(found) == sorted(TEXTS[0])
    assert sum(one != other for one, other in zip(found, TEXTS[0], strict=True)) == 2
    assert swap_two_letters("ok", random.Random(0)) == "ok"


def test_a_rows_edit_does_not_depend_on_the_other_rows() -> None:
    for edit in STRESS_EDITS.values():
        assert apply_edit(TEXTS, edit, 3)[::-1] == apply_edit(TEXTS[::-1], edit, 3)


def test_every_name_of_the_schema_is_there() -> None:
    assert set(STRESS_EDITS) == set(get_args(StressEditName))


def test_changed_answers_are_counted() -> None:
    asked: list[int] = []

    def answer(texts: list[str]) -> np.ndarray:
        asked.append(len(texts))
        return np.array([int(text == text.lower()) for text in texts])

    names: tuple[StressEditName, ...] = ("mention", "typo", "lower_case")
    results = run_stress_test(TEXTS, np.array([0, 1, 0]), answer(TEXTS), answer, names)
    found = {result.name: result for result in results}
    assert asked == [3, 3 + 1 + 2], "one call answers all edits"
    assert list(found) == ["a mention in front", "one typo", "lower case"], "in the order named"
    lower = found["lower case"]
    assert (lower.n, lower.changed) == (2, 1.0)
    assert (lower.accuracy_before, lower.accuracy_after) == (1.0, 0.0)
    assert found["a mention in front"].changed == 0.0
    assert found["one typo"].n == 1
