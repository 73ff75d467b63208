"""The record of a whole run: all that figures, report and card may say.

The publish stage is pure: it reads this record and nothing else, and says "not measured" where a field is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whinchat.evaluation.results import Evaluation, PairedTest, ReliabilityReport
from whinchat.recipe.schema import Recipe
from whinchat.storage.training_result import TrainPoint


@dataclass(frozen=True)
class SplitFacts:
    """One split as the run used it."""

    rows: int
    fingerprint: str
    counts: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """Where a run's numbers come from.

    ``timings_seconds`` holds load, before, train, after, trust, publish; ``peak_memory_bytes`` is the process's largest
    resident size. ``model_source`` is the hub id, folder or package; ``model_commit`` the commit or checksum that was
    resolved. ``resumed_from_step`` is above 0 where a killed run was taken up; stages that an earlier try began have
    no time then. ``prompt_notes`` says what the template stage did beyond the ordinary (a text shortened, say).
    """

    whinchat_version: str
    created: str
    versions: dict[str, str]
    platform: dict[str, str]
    device: str
    load_in: str
    compute_dtype: str
    seeds: dict[str, int]
    model_source: str
    model_commit: str | None
    model_license: str | None
    model_architecture: str
    parameters: int
    trainable_parameters: int
    data_source: str
    data_revision: str | None
    splits: dict[str, SplitFacts]
    data_report: dict[str, Any]
    prompt_notes: dict[str, int]
    selected_on: str | None
    train_steps: int
    train_examples_per_second: float | None
    timings_seconds: dict[str, float]
    peak_memory_bytes: int
    resumed_from_step: int = 0


@dataclass(frozen=True)
class Sample:
    """A text, its true label, and what the model answered before and after; None where not generated."""

    text: str
    expected: str
    before: str | None
    after: str | None
    before_scored: str
    after_scored: str


@dataclass(frozen=True)
class RunRecord:
    """Everything a run folder holds, as one value; ``reliability`` is None for a run without a validation split."""

    recipe: Recipe
    manifest: Manifest
    before: Evaluation
    after: Evaluation
    paired: tuple[PairedTest, ...]
    history: tuple[TrainPoint, ...]
    samples: tuple[Sample, ...]
    reliability: ReliabilityReport | None = None
