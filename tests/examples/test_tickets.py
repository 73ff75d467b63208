"""The generated tickets: always the same table, with the noise that the page states, read by the recipe beside it."""

from __future__ import annotations

import csv
import random
import sys
from contextlib import chdir
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.programs import load_program
from whinchat.arena.spec import load_arena, resolve_arena
from whinchat.arena.subsets import check_rows
from whinchat.data.checks import MISSING, answer_counts
from whinchat.data.sources import load_corpus
from whinchat.recipe.loader import load_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "tickets"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load_program(EXAMPLE / "make_tickets.py")


def test_the_recipe_reads_the_table(program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tickets.csv", "again.csv"):
        monkeypatch.setattr(sys, "argv", ["make_tickets.py", "--out", str(tmp_path / name)])
        program.main()
    assert (tmp_path / "tickets.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    recipe = load_recipe(str(EXAMPLE / "recipe.yaml"), [f"data.source={tmp_path / 'tickets.csv'}"])
    corpus = load_corpus(recipe)
    splits = (corpus.train, corpus.split("validation"), corpus.split("test"))
    assert sum(map(len, splits)) == 4000
    assert [tuple(question.names) for question in recipe.task.questions.values()] == [
        program.TEAMS, ("no", "yes"), program.LEVELS, program.TAGS,
    ]  # fmt: skip
    for counts in answer_counts(corpus.train, recipe.task).values():
        assert counts[MISSING] / len(corpus.train) == pytest.approx(program.MISSING, abs=0.015)
        assert min(rows for label, rows in counts.items() if label != MISSING) > 300
    # The arena names its recipe by the path from the root of the repository.
    arena = load_arena(str(EXAMPLE / "arena.yaml"))
    with chdir(EXAMPLE.parents[1]):
        resolve_arena(arena)
    check_rows(corpus, recipe, arena.rows, arena.seeds)
    with (tmp_path / "tickets.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(corpus.train.texts) <= {f"{row['title']}\n\n{row['body']}" for row in rows}


def test_the_stated_share_of_answers_is_wrong(program: ModuleType) -> None:
    draw = random.Random(1)
    pairs = [(ticket := program.make_ticket(draw), program.with_noise(draw, ticket)) for _ in range(4000)]
    for column in ("queue", "is_angry", "priority"):
        answered = [(true[column], noisy[column]) for true, noisy in pairs if noisy[column]]
        assert sum(true != noisy for true, noisy in answered) / len(answered) == pytest.approx(program.WRONG, abs=0.012)
    assert all(any(noisy[column] for column in list(noisy)[2:]) for _, noisy in pairs)
