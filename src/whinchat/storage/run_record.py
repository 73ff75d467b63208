"""The record of a whole run: everything that figures, report and card may show.

Figures, report and card are pure functions of this record. A field that is None was not measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from whinchat.evaluation.cascade_results import CascadeFacts
from whinchat.evaluation.results import Baseline, Evaluation, Metrics, PairedTest, ReliabilityReport
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_comparison import StoredComparison
from whinchat.storage.training_result import TrainPoint


@dataclass(frozen=True)
class SplitFacts:
    """One split as the run used it: its rows, their fingerprint, and the rows of each label."""

    rows: int
    fingerprint: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Manifest:
    """Where a run's numbers come from. It is written once, after the card, and never changes.

    Attributes:
        whinchat_version: version of whinchat that made the run.
        created: end of the run, UTC, ISO 8601.
        versions: distribution -> version, of the libraries that can change a result.
        platform: operating system, processor and cores.
        device, load_in, compute_dtype: the values that ``auto`` in the recipe stood for.
        seeds: purpose -> seed.
        model_source: hub id, folder or package of the base model.
        model_commit: commit on the hub, or SHA-256 of the file or folder that holds the model.
        model_license: license of the base model; None when unknown.
        model_architecture: class of the base model in transformers.
        parameters, trainable_parameters: of the model with its adapter.
        data_source, data_revision: source of the data, and its commit or version.
        splits: split -> rows as used.
        data_report: what the checks of the data found (see ``data.checks``).
        prompt_notes: event -> number of texts, such as texts that were truncated.
        selected_on: split on which the checkpoint was chosen; None when the last one was kept.
        train_steps: optimizer steps taken.
        train_examples_per_second: training speed; None where a resumed run measured only a part.
        timings_seconds: stage -> wall-clock seconds, for load, before, train, after and trust; a stage that an earlier
            try began is missing.
        peak_memory_bytes: largest resident size of the process.
        resumed_from_step: step at which training was resumed; 0 for a run in one piece.
        device_notes: sentences that say where the device made the run depart from the recipe, and why.
        accelerator, accelerator_memory_bytes: name and memory of the GPU; None for a run on a CPU.
        peak_accelerator_bytes: most memory that the run held on the GPU.
        adapted_share: share of the model's weights that lie in layers with an adapter.
        prompt_date: the day that prompts call today, ISO 8601; None where they state no date.
    """

    whinchat_version: str
    created: str
    versions: Mapping[str, str]
    platform: Mapping[str, str]
    device: str
    load_in: str
    compute_dtype: str
    seeds: Mapping[str, int]
    model_source: str
    model_commit: str | None
    model_license: str | None
    model_architecture: str
    parameters: int
    trainable_parameters: int
    data_source: str
    data_revision: str | None
    splits: Mapping[str, SplitFacts]
    data_report: Mapping[str, Any]
    prompt_notes: Mapping[str, int]
    selected_on: str | None
    train_steps: int
    train_examples_per_second: float | None
    timings_seconds: Mapping[str, float]
    peak_memory_bytes: int
    resumed_from_step: int = 0
    device_notes: tuple[str, ...] = ()
    accelerator: str | None = None
    accelerator_memory_bytes: int | None = None
    peak_accelerator_bytes: int | None = None
    adapted_share: float | None = None
    prompt_date: str | None = None


@dataclass(frozen=True)
class Sample:
    """A text with its true label and the answers before and after training.

    ``before`` and ``after`` were freely generated (None where generation left the row out); ``before_scored`` and
    ``after_scored`` are the labels with the highest score. ``answer`` is the label that ``whinchat predict`` gives;
    None in records of version 0.1.0.
    """

    text: str
    expected: str
    before: str | None
    after: str | None
    before_scored: str
    after_scored: str
    answer: str | None = None


class TrainedRecord(Protocol):
    """What the record of every run has, whether its task has labels or questions."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""

    @property
    def manifest(self) -> Manifest:
        """Where the numbers come from."""

    @property
    def history(self) -> tuple[TrainPoint, ...]:
        """The training log."""


@dataclass(frozen=True)
class RunRecord:
    """Everything that a run folder holds.

    ``reliability`` is None for a run without a validation split, ``comparison`` for a run that was not compared with
    another one. ``baselines`` are the simple methods on the same rows; empty in records of version 0.1.0. ``cascade``
    describes the student of the run; None for a run without a student.
    """

    recipe: Recipe
    manifest: Manifest
    before: Evaluation
    after: Evaluation
    paired: tuple[PairedTest, ...]
    history: tuple[TrainPoint, ...]
    samples: tuple[Sample, ...]
    reliability: ReliabilityReport | None = None
    comparison: StoredComparison | None = None
    baselines: tuple[Baseline, ...] = ()
    cascade: CascadeFacts | None = None

    @property
    def shipped(self) -> Metrics:
        """Metrics of the answers that ``whinchat predict`` gives: calibrated, or label scoring without a calibrator."""
        return self.after.score if self.reliability is None else self.reliability.calibrated
