"""The start from a similar task."""

from __future__ import annotations

from pathlib import Path

from whinchat.arena.spec import load_arena
from whinchat.recipe.loader import load_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "similar-task"


def test_both_starts_of_the_arena_ask_alike() -> None:
    arena = load_arena(str(EXAMPLE / "arena.yaml"), [])
    started = load_recipe(str(EXAMPLE / "recipe.yaml"), []).task
    task = load_recipe(arena.recipe, list(arena.set)).task
    assert (started.instruction, started.labels, started.clean) == (task.instruction, task.labels, task.clean)
