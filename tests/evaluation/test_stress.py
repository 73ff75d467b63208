"""Harmless edits: what they do to a text, and what is counted."""

from __future__ import annotations

import random

import numpy as np

from whinchat.evaluation.stress import EDITS, apply_edit, run_stress_test, typo

TEXTS = ["Wonderful weather today", "ok", "BAD bad"]


def test_a_typo_swaps_two_letters_of_one_word() -> None:
    found = typo(TEXTS[0], random.Random(0))
    assert found != TEXTS[0]
    assert sorted(found) == sorted(TEXTS[0])
    assert sum(one != other for one, other in zip(found, TEXTS[0], strict=True)) == 2
    assert typo("ok", random.Random(0)) == "ok"


def test_a_rows_edit_does_not_depend_on_the_other_rows() -> None:
    for name in EDITS:
        assert apply_edit(TEXTS, name, 3)[::-1] == apply_edit(TEXTS[::-1], name, 3)


def test_changed_answers_are_counted() -> None:
    def answer(texts: list[str]) -> np.ndarray:
        return np.array([int(text == text.lower()) for text in texts])

    found = {one.name: one for one in run_stress_test(TEXTS, np.array([0, 1, 0]), answer(TEXTS), answer)}
    lower = found["lower case"]
    assert (lower.n, lower.changed) == (2, 1.0)
    assert (lower.accuracy_before, lower.accuracy_after) == (1.0, 0.0)
    assert found["a mention in front"].changed == 0.0
    assert found["one typo"].n == 1
