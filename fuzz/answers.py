"""Answers to questions: any cell of a table is read as an answer that exists, or refused; no row is lost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fuzz.areas import Check, FuzzArea
from fuzz.odd_values import odd_text, odd_value
from whinchat.data.sources import load_split
from whinchat.recipe.schema import Recipe

_QUESTIONS = {
    "team": {"type": "choice", "instructions": "Which team?", "options": ["returns", "billing", "1", "Billing2"]},
    "angry": {"type": "yes_no", "instructions": "Angry?"},
    "urgency": {"type": "score", "instructions": "How urgent?", "levels": ["1", "2", "3"]},
    "tags": {"type": "multi", "instructions": "Which apply?", "options": ["refund", "bug", "a;b"]},
    "shares": {"type": "choice", "instructions": "Which?", "options": ["x", "y"]},
    "labels": {"type": "multi", "instructions": "Which?", "options": ["p", "q"]},
}
_ANSWERS = {"shares": {"x": "x", "y": "y"}, "labels": {"p": "p", "q": "q"}}
_SHARES = (0, 1, 0.25, 7, "0.5", "true", None, "")
_CELLS: dict[str, tuple[Any, ...]] = {
    "team": ("returns", "BILLING", " billing2 ", 1, "1.0", None, ""),
    "angry": ("yes", "No", True, 0, "1", 1.0, None),
    "urgency": (1, "2", 3.0, "2.00", None),
    "tags": ("bug; refund", '["bug"]', "[]", ["bug", "a;b"], [], "REFUND;", None),
    "x": _SHARES,
    "y": _SHARES,
    "p": (0, 1, False, 0.5, "0.25", None),
    "q": (0, 1, True, 1e-300, None),
}


def _cell(name: str) -> st.SearchStrategy[Any]:
    """A cell that can be read or, one time in twenty, any value."""
    readable = st.sampled_from(_CELLS[name])
    return st.integers(0, 19).flatmap(lambda number: readable if number else odd_value)


_text = st.integers(0, 9).flatmap(lambda number: st.just("a text") if number else odd_text)
_row = st.fixed_dictionaries({"text": _text}, optional={name: _cell(name) for name in _CELLS})


@contextmanager
def _open(folder: Path) -> Iterator[Check]:
    path = folder / "table.jsonl"
    recipe = Recipe.model_validate(
        {
            "name": "fuzz",
            "task": {"name": "fuzz", "questions": _QUESTIONS},
            "data": {"source": str(path), "answers": _ANSWERS, "delimiter": ";"},
            "backbone": {"model": "none"},
        }
    )
    decisions = recipe.task.decisions

    def check(rows: list[dict[str, Any]]) -> None:
        # A first row with every column, so that none is missing from the table.
        whole = {"text": "first", **dict.fromkeys(_CELLS), "team": "returns"}
        path.write_text("".join(f"{json.dumps(row)}\n" for row in [whole, *rows]), encoding="utf-8")
        split = load_split(recipe)
        assert len(split) == len(split.answers) == len(rows) + 1, "a row was lost"
        for answers in split.answers:
            assert len(answers) == len(decisions), "a decision has no answer and is not missing"
            assert any(answer is not None for answer in answers), "a row without an answer was kept"
            for decision, answer in zip(decisions, answers, strict=True):
                if isinstance(answer, tuple):
                    assert len(answer) == len(decision.labels), "a label has no share"
                    assert min(answer) >= 0, "a share is below zero"
                    assert math.isclose(sum(answer), 1), "shares do not sum up to one"
                elif answer is not None:
                    assert 0 <= answer < len(decision.labels), "an answer is no label"
        for index in range(len(decisions)):
            own = split.of_decision(index)
            assert len(own.shares) in (0, len(own)), "a row has no shares"

    yield check


ANSWER_AREA = FuzzArea("answers", st.lists(_row, min_size=1, max_size=3), _open, share=0.1)
