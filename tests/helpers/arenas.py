"""Arenas that tests write, plan and begin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from whinchat.arena.arena_folder import ArenaFolder
from whinchat.arena.run_arena import plan_trials
from whinchat.arena.spec import ArenaSpec, load_arena, resolve_arena
from whinchat.arena.trial_process import run_trial
from whinchat.arena.trials import LabelsResult, Trial, TrialJob

MakeSpec = Callable[..., Path]


def jobs_of(path: Path) -> tuple[ArenaSpec, dict[Trial, TrialJob]]:
    """The arena in ``path``, and the job of each of its trials."""
    spec = load_arena(str(path))
    return spec, plan_trials(resolve_arena(spec))


def run_first(path: Path) -> LabelsResult:
    """Run the first trial of the arena in ``path`` in this process, and check what every trial must state."""
    _, jobs = jobs_of(path)
    record = run_trial(next(iter(jobs.values())))
    folder = ArenaFolder(path.parent)
    folder.write(record)
    assert folder.read([record.trial]) == {record.trial: record}
    assert isinstance(record.result, LabelsResult)
    result = record.result
    assert len(result.expected) == len(result.predicted) == result.metrics.n == 24
    accuracy = np.mean(np.array(result.expected) == np.array(result.predicted))
    assert result.metrics.accuracy == pytest.approx(accuracy)
    assert result.cost.peak_memory_bytes > 1e7
    assert result.cost.answer_seconds > 0
    return result
