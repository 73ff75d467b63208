"""Arenas that tests write and plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from whinchat.arena.run_arena import plan_trials
from whinchat.arena.spec import ArenaSpec, load_arena, resolve_arena
from whinchat.arena.trials import Trial, TrialJob

MakeSpec = Callable[..., Path]


def jobs_of(path: Path) -> tuple[ArenaSpec, dict[Trial, TrialJob]]:
    """The arena in ``path``, and the job of each of its trials."""
    spec = load_arena(str(path))
    return spec, plan_trials(resolve_arena(spec))
