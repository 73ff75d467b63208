"""The whole story: from a recipe to a proven classifier in a run folder.

Each stage leaves its record in the folder before the next one starts, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from whinchat.data.dataset import Corpus, Split
from whinchat.errors import RunError
from whinchat.evaluation.evaluate import EvaluationOutcome, evaluate
from whinchat.evaluation.reliability import ScoredSplit, analyze, fit_with_threshold
from whinchat.evaluation.results import ReliabilityReport
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.forward import Engine
from whinchat.pipelines.record import make_record, tracker_metrics
from whinchat.recipe.loader import conflicting_keys
from whinchat.recipe.schema import Recipe
from whinchat.report.write import write_report_files
from whinchat.storage.json_records import write_json_record
from whinchat.storage.predictions import read_predictions, write_predictions
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord
from whinchat.storage.training_result import TrainingResult
from whinchat.training import distributed
from whinchat.training.launch import process_rank
from whinchat.training.prepare import prepare_run
from whinchat.training.trackers import Trackers
from whinchat.training.train import train

Existing = Literal["refuse", "resume", "overwrite"]


@dataclass
class StageTimer:
    """Wall-clock seconds of each stage of this process."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def run(recipe: Recipe, path: Path, existing: Existing = "refuse") -> RunRecord:
    """Evaluate, train, evaluate again, and write everything a reader needs into the folder ``path``.

    Args:
        recipe: what to do.
        path: the run folder.
        existing: what to do where ``path`` already holds a run: refuse, resume it, or overwrite it.

    Raises:
        WhinchatError: see its children; nothing that was already written is lost.
    """
    clock, folder = StageTimer(), check_run_folder(recipe, path, existing)
    if existing != "overwrite" and (finished := _finished(folder)) is not None:
        return finished
    with clock.stage("load"):
        corpus, backbone, template = prepare_run(recipe)
        split = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    open_run_folder(folder, recipe, existing)
    before = _stored_before(folder, split)
    if before is None:
        with clock.stage("before"):
            before = evaluate(Engine.build(backbone.model, backbone.plan, template), split, recipe.evaluate, "before")
        _store_before(folder, recipe, split, before)
    with clock.stage("train"):
        told = Trackers(recipe.train.report_to, folder.trackers)
        engine, training = train(recipe, corpus, backbone, template, folder.checkpoints, folder.adapter, told)
    if training.resumed_from_step:
        # Part of the time is not the time: it counts as not measured.
        del clock.seconds["train"]
    with clock.stage("after"):
        after = evaluate(engine, split, recipe.evaluate, "after")
    with clock.stage("trust"):
        trust = analyze_run(recipe, corpus, engine, split, after, folder)
    record = make_record(recipe, corpus, backbone, training, split, (before, after), trust, clock.seconds)
    told.log(tracker_metrics(record))
    told.finish()
    write_predictions(
        folder.predictions, recipe.task.labels, split.texts, split.labels, before.predictions, after.predictions
    )
    write_report_files(record, folder)
    folder.write(record)
    folder.sweep()
    return record


def train_run(recipe: Recipe, path: Path, existing: Existing = "refuse") -> tuple[RunFolder, TrainingResult]:
    """Train and save the adapter, measuring nothing; ``run`` with ``existing="resume"`` does the rest later.

    ``accelerate launch`` may run this in several processes, which then train together; the first one writes.
    """
    first = process_rank() == 0
    folder = check_run_folder(recipe, path, existing) if first else RunFolder(path)
    distributed.init_processes(recipe.backbone.device)
    corpus, backbone, template = prepare_run(recipe)
    if first:
        open_run_folder(folder, recipe, existing)
    told = Trackers(recipe.train.report_to, folder.trackers)
    _, training = train(recipe, corpus, backbone, template, folder.checkpoints, folder.adapter, told)
    told.finish()
    return folder, training


def check_run_folder(recipe: Recipe, path: Path, existing: Existing) -> RunFolder:
    """The run folder, if this recipe may have it; nothing is made or deleted yet.

    Raises:
        RunError: the folder holds something else, or a run and ``existing`` is "refuse", or a run of another recipe.
    """
    folder = RunFolder(path)
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not folder.recipe.is_file())):
        raise RunError(f"{path}: is there and is no run folder; choose another with --out")
    if folder.recipe.is_file():
        if existing == "refuse":
            raise RunError(
                f"{path}: already holds a run; --resume goes on with it, --overwrite starts again, --out names another"
            )
        if existing == "resume" and (changed := conflicting_keys(folder.read_recipe(), recipe)):
            raise RunError(
                f"{path}: holds a run of another recipe, so it cannot be resumed with this one; "
                f"different: {', '.join(changed)}; use --overwrite or another --out"
            )
    return folder


def open_run_folder(folder: RunFolder, recipe: Recipe, existing: Existing) -> None:
    """Make the run folder, or take up the one that is there; only now does an overwritten run go.

    Raises:
        RunError: the folder cannot be made.
    """
    if existing == "overwrite":
        folder.clear()
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise RunError(f"{folder.path}: cannot be made ({fault.strerror}); choose another with --out") from None
    folder.write_recipe(recipe)


def analyze_run(
    recipe: Recipe, corpus: Corpus, engine: Engine, split: Split, after: EvaluationOutcome, folder: RunFolder
) -> ReliabilityReport | None:
    """Fit the calibrator on validation, save it with the adapter, and examine the answers on ``split``."""
    if corpus.validation is None:
        return None

    def answer(texts: Sequence[str]) -> Any:
        prompts = engine.template.encode(texts)
        return score_prompts(engine, prompts, recipe.evaluate.per_device_eval_batch_size, "Examining", labels_only=True)

    evaluated = ScoredSplit(split, np.array([one.log_probs for one in after.predictions]))
    validation = evaluated
    if corpus.validation.fingerprint() != split.fingerprint():
        validation = ScoredSplit(corpus.validation, answer(corpus.validation.texts).astype(np.float64))
    calibrator = fit_with_threshold(validation, recipe.task.labels, recipe.evaluate)
    calibrator.save(folder.adapter)
    return analyze(calibrator, validation, evaluated, recipe.evaluate, answer)


def _finished(folder: RunFolder) -> RunRecord | None:
    return folder.read() if folder.manifest.is_file() else None


def _stored_before(folder: RunFolder, split: Split) -> EvaluationOutcome | None:
    """The evaluation before training that an earlier try left, if it is of the same rows."""
    if not (folder.before.is_file() and folder.before_predictions.is_file()):
        return None
    evaluation = folder.read_evaluation(folder.before)
    if evaluation.split_fingerprint != split.fingerprint():
        return None
    return EvaluationOutcome(evaluation, read_predictions(folder.before_predictions).after)


def _store_before(folder: RunFolder, recipe: Recipe, split: Split, before: EvaluationOutcome) -> None:

    write_predictions(
        folder.before_predictions, recipe.task.labels, split.texts, split.labels, None, before.predictions
    )
    write_json_record(folder.before, before.evaluation)
