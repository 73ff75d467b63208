"""The whole story: from a recipe to a proven classifier in a run folder.

Each stage leaves its record in the folder before the next one starts, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whinchat.data.checks import spaces_tell
from whinchat.data.records import Corpus, Split
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, RecipeError, RunError
from whinchat.publish.folder import RunFolder, find_classifier, write_json
from whinchat.publish.records import RunRecord
from whinchat.recipe.files import differences
from whinchat.recipe.recipe import Recipe

if TYPE_CHECKING:
    from whinchat.evaluation.calibration import Calibrator
    from whinchat.evaluation.evaluate import Outcome
    from whinchat.evaluation.trust import Trust
    from whinchat.model.backbone import Backbone
    from whinchat.model.engine import Engine
    from whinchat.prompt.template import PromptTemplate
    from whinchat.training.records import Training


Existing = Literal["refuse", "resume", "overwrite"]


@dataclass
class Clock:
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
    from whinchat.evaluation.evaluate import evaluate
    from whinchat.publish.predictions import write_predictions
    from whinchat.publish.publish import write_all
    from whinchat.record import make_record, tracked
    from whinchat.training.trackers import Trackers
    from whinchat.training.train import train

    clock, folder = Clock(), check_folder(recipe, path, existing)
    if existing != "overwrite" and (finished := _finished(folder)) is not None:
        return finished
    with clock.stage("load"):
        corpus, backbone, template = prepare(recipe)
        split = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    open_folder(folder, recipe, existing)
    before = _stored_before(folder, split)
    if before is None:
        with clock.stage("before"):
            before = evaluate(_engine(backbone, template), split, recipe.evaluate, "before")
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
        trust = examine_run(recipe, corpus, engine, split, after, folder)
    record = make_record(recipe, corpus, backbone, training, split, (before, after), trust, clock.seconds)
    told.log(tracked(record))
    told.finish()
    with clock.stage("publish"):
        write_predictions(
            folder.predictions, recipe.task.labels, split.texts, split.labels, before.predictions, after.predictions
        )
        write_all(record, folder)
    record.manifest.timings_seconds["publish"] = clock.seconds["publish"]
    folder.write(record)
    folder.sweep()
    return record


def train_only(recipe: Recipe, path: Path, existing: Existing = "refuse") -> tuple[RunFolder, Training]:
    """Train and save the adapter, measuring nothing; ``run`` with ``existing="resume"`` does the rest later.

    ``accelerate launch`` may run this in several processes, which then train together; the first one writes.
    """
    from whinchat.training import processes
    from whinchat.training.trackers import Trackers
    from whinchat.training.train import train

    first = processes.index() == 0
    folder = check_folder(recipe, path, existing) if first else RunFolder(path)
    processes.join(recipe.backbone.device)
    corpus, backbone, template = prepare(recipe)
    if first:
        open_folder(folder, recipe, existing)
    told = Trackers(recipe.train.report_to, folder.trackers)
    _, training = train(recipe, corpus, backbone, template, folder.checkpoints, folder.adapter, told)
    told.finish()
    return folder, training


def check_folder(recipe: Recipe, path: Path, existing: Existing) -> RunFolder:
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
        changed = differences(folder.read_recipe(), recipe) if existing == "resume" else []
        # Who is told of a run does not change it.
        if changed := [key for key in changed if key != "train.report_to"]:
            raise RunError(
                f"{path}: holds a run of another recipe, so it cannot be resumed with this one; "
                f"different: {', '.join(changed)}; use --overwrite or another --out"
            )
    return folder


def open_folder(folder: RunFolder, recipe: Recipe, existing: Existing) -> None:
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


def prepare(recipe: Recipe) -> tuple[Corpus, Backbone, PromptTemplate]:
    """Data, model and prompt, in the order in which a mistake is cheapest to find."""
    corpus = load_corpus(recipe)
    corpus.split(recipe.evaluate.split)
    if told := spaces_tell(corpus.report.doubled_spaces, recipe.task.clean):
        # Said before hours are spent, too.
        logging.getLogger("whinchat").warning(told)
    return corpus, *prepare_training(recipe, corpus)


def prepare_training(recipe: Recipe, corpus: Corpus) -> tuple[Backbone, PromptTemplate]:
    """Model and prompt to train on ``corpus``, once everything that could stop training has been looked at."""
    from whinchat.model.adapter import check_targets
    from whinchat.model.backbone import find_model, load_backbone
    from whinchat.training import processes
    from whinchat.training.trackers import check_trackers
    from whinchat.training.trainer import training_arguments

    if recipe.train.eval_steps is not None and corpus.validation is None:
        raise DataError(
            f"{recipe.data.source}: has no validation split to watch while training; set data.validation_rows to take "
            "one from train, or train.eval_steps=null"
        )
    if (together := processes.count()) > len(corpus.train):
        raise DataError(
            f"{recipe.data.source}: has fewer rows to train on ({len(corpus.train)}) than processes that train them "
            f"({together}); start fewer (accelerate launch --num_processes)"
        )
    check_trackers(recipe.train.report_to)
    backbone = load_backbone(recipe.backbone, find_model(recipe.backbone))
    check_targets(backbone.model, recipe.adapter)
    try:
        training_arguments(recipe, backbone.plan, Path("checkpoints"))
    except ValueError as fault:
        # Found now and not after the first evaluation.
        raise RecipeError(f"train: transformers refuses it: {' '.join(str(fault).split())}; change that key") from None
    return backbone, backbone.tokenizer.template(recipe)


def load_engine(path: Path) -> tuple[Recipe, Engine]:
    """The classifier in ``path``, ready for use; see ``find_classifier`` for what it may be.

    Raises:
        RunError: no finished run there. ModelError: its backbone cannot be had, or the adapter does not fit it.
    """
    from whinchat.model.adapter import load_adapter
    from whinchat.model.backbone import load_backbone

    found = find_classifier(path)
    backbone = load_backbone(found.recipe.backbone)
    template = backbone.tokenizer.template(found.recipe)
    model = load_adapter(backbone.model, found.folder) if found.has_adapter else backbone.model
    return found.recipe, _engine(backbone, template, model)


def load_calibrator(path: Path, recipe: Recipe) -> Calibrator:
    """How the run in ``path`` turns scores into probabilities and answers; a run without validation leaves them be.

    Raises:
        ModelError: its file is damaged or one of other labels.
    """
    from whinchat.evaluation.calibration import Calibrator

    return Calibrator.load(find_classifier(path).folder, recipe.task.labels)


def _engine(backbone: Backbone, template: PromptTemplate, model: Any = None) -> Engine:
    from whinchat.model.engine import Engine

    return Engine.build(model if model is not None else backbone.model, backbone.plan, template)


def examine_run(
    recipe: Recipe, corpus: Corpus, engine: Engine, split: Split, after: Outcome, folder: RunFolder
) -> Trust | None:
    """Fit the calibrator on validation, save it with the adapter, and examine the answers on ``split``."""
    import numpy as np

    from whinchat.evaluation.scoring import score
    from whinchat.evaluation.trust import Scored, calibrate, examine

    if corpus.validation is None:
        return None

    def answer(texts: Sequence[str]) -> Any:
        prompts = engine.template.encode(texts)
        return score(engine, prompts, recipe.evaluate.per_device_eval_batch_size, "Examining", among_labels=True)

    evaluated = Scored(split, np.array([one.log_probs for one in after.predictions]))
    validation = evaluated
    if corpus.validation.fingerprint() != split.fingerprint():
        validation = Scored(corpus.validation, answer(corpus.validation.texts).astype(np.float64))
    calibrator = calibrate(validation, recipe.task.labels, recipe.evaluate)
    calibrator.save(folder.adapter)
    return examine(calibrator, validation, evaluated, recipe.evaluate, answer)


def _finished(folder: RunFolder) -> RunRecord | None:
    return folder.read() if folder.manifest.is_file() else None


def _stored_before(folder: RunFolder, split: Split) -> Outcome | None:
    """The evaluation before training that an earlier try left, if it is of the same rows."""
    from whinchat.evaluation.evaluate import Outcome
    from whinchat.publish.predictions import read_predictions

    if not (folder.before.is_file() and folder.before_predictions.is_file()):
        return None
    evaluation = folder.read_evaluation(folder.before)
    if evaluation.split_fingerprint != split.fingerprint():
        return None
    return Outcome(evaluation, read_predictions(folder.before_predictions).after)


def _store_before(folder: RunFolder, recipe: Recipe, split: Split, before: Outcome) -> None:
    from whinchat.publish.predictions import write_predictions

    write_predictions(
        folder.before_predictions, recipe.task.labels, split.texts, split.labels, None, before.predictions
    )
    write_json(folder.before, before.evaluation.to_dict())
