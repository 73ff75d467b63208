"""The whole story: from a recipe to a proven classifier in a run folder.

Each stage leaves its record in the folder before the next one starts, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whinchat.data.records import Corpus, Split
from whinchat.data.sources import load_corpus, load_split
from whinchat.errors import DataError, RecipeError, RunError
from whinchat.model.device import processor_name
from whinchat.publish.folder import RunFolder, write_json
from whinchat.publish.records import Manifest, RunRecord, Sample, SplitFacts, TrainPoint
from whinchat.recipe.files import load_recipe
from whinchat.recipe.recipe import Data, Recipe

if TYPE_CHECKING:
    from whinchat.evaluation.evaluate import Outcome
    from whinchat.evaluation.records import Evaluation
    from whinchat.model.backbone import Backbone
    from whinchat.model.engine import Engine
    from whinchat.prompt.template import PromptTemplate

# Distributions whose versions can change a result.
_VERSIONED = (
    "whinchat",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "tokenizers",
    "datasets",
    "numpy",
)
_SAMPLES = 12

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
    from whinchat.evaluation.evaluate import compare, evaluate
    from whinchat.publish.predictions import write_predictions
    from whinchat.publish.publish import write_all

    clock, folder = Clock(), check_folder(recipe, path, existing)
    if existing != "overwrite" and (finished := _finished(folder)) is not None:
        return finished
    with clock.stage("load"):
        corpus, backbone, template = prepare(recipe)
        split = corpus.split(recipe.evaluate.split).head(recipe.evaluate.rows)
    open_folder(folder, recipe, existing)
    with clock.stage("before"):
        before = _stored_before(folder, split) or evaluate(
            _engine(backbone, template), split, recipe.evaluate, "before"
        )
        _store_before(folder, recipe, split, before)
    with clock.stage("train"):
        engine, training = train(recipe, corpus, backbone, template, folder)
    with clock.stage("after"):
        after = evaluate(engine, split, recipe.evaluate, "after")
    record = RunRecord(
        recipe=recipe,
        manifest=_manifest(recipe, corpus, backbone, training, clock, _notes(training, before, after)),
        before=before.evaluation,
        after=after.evaluation,
        paired=compare(split, before, after, recipe.evaluate),
        history=training.history,
        samples=_samples(split, recipe, before, after),
    )
    with clock.stage("publish"):
        write_predictions(
            folder.predictions, recipe.task.labels, split.texts, split.labels, before.predictions, after.predictions
        )
        write_all(record, folder)
    record.manifest.timings_seconds.update(clock.seconds)
    folder.write(record)
    folder.sweep()
    return record


def train_only(recipe: Recipe, path: Path, existing: Existing = "refuse") -> tuple[RunFolder, Training]:
    """Train and save the adapter, measuring nothing; ``run`` with ``existing="resume"`` does the rest later."""
    folder = check_folder(recipe, path, existing)
    corpus, backbone, template = prepare(recipe)
    open_folder(folder, recipe, existing)
    _, training = train(recipe, corpus, backbone, template, folder)
    return folder, training


def evaluate_run(path: Path, source: str | None = None, overrides: Sequence[str] = ()) -> Evaluation:
    """Measure a trained run again: on its own split, or on every row of ``source``.

    Args:
        path: the run folder.
        source: a file, folder, hub data set or package; its own splits, limits and columns are then the defaults of
            ``data``, not those of the run's recipe.
        overrides: ``data.KEY=VALUE`` and ``evaluate.KEY=VALUE``.

    Raises:
        RecipeError: an override of anything else, which the trained adapter could not follow.
        WhinchatError: the run or the data cannot be read.
    """
    from whinchat.evaluation.evaluate import evaluate

    for override in overrides:
        if not override.startswith(("data.", "evaluate.")):
            raise RecipeError(
                f"--set {override}: an evaluation takes data.* and evaluate.* only; the rest is trained in"
            )
    RunFolder(path).read_recipe()  # says what a run folder is, where this is none
    recipe = load_recipe(str(RunFolder(path).recipe), overrides)
    if source is not None:
        asked = [override.partition("=")[0].strip().split(".")[:2] for override in overrides]
        fresh = {key: getattr(recipe.data, key) for section, key in asked if section == "data"}
        limits = {} if ["evaluate", "rows"] in asked else {"rows": None}
        recipe = recipe.model_copy(
            update={
                "data": Data.model_validate(fresh | {"source": source}),
                "evaluate": recipe.evaluate.model_copy(update=limits),
            }
        )
        split = load_split(recipe)
    else:
        split = load_corpus(recipe).split(recipe.evaluate.split)
    _, engine = load_engine(path)
    return evaluate(engine, split, recipe.evaluate, "after").evaluation


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
        if existing == "resume" and (changed := _differences(folder.read_recipe(), recipe)):
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
        _clear(folder)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise RunError(f"{folder.path}: cannot be made ({fault.strerror}); choose another with --out") from None
    folder.write_recipe(recipe)


def _clear(folder: RunFolder) -> None:
    """Delete what a run leaves and nothing else, for --out may name a folder in which people keep more."""
    # The manifest goes first: what a kill leaves half deleted must not look finished.
    own = ("manifest", "before", "after", "paired", "history", "samples", "samples_markdown", "predictions",
           "before_predictions", "adapter", "checkpoints", "figures", "card", "report", "recipe")  # fmt: skip
    for path in (getattr(folder, name) for name in own):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def prepare(recipe: Recipe) -> tuple[Corpus, Backbone, PromptTemplate]:
    """Data, model and prompt, in the order in which a mistake is cheapest to find."""
    from whinchat.model.backbone import find_model, load_backbone
    from whinchat.training.trainer import training_arguments

    corpus = load_corpus(recipe)
    corpus.split(recipe.evaluate.split)
    if recipe.train.eval_steps is not None and corpus.validation is None:
        raise DataError(
            f"{recipe.data.source}: has no validation split to watch while training; set data.validation_rows to take "
            "one from train, or train.eval_steps=null"
        )
    backbone = load_backbone(recipe.backbone, find_model(recipe.backbone))
    try:
        training_arguments(recipe, backbone.plan, Path("checkpoints"))
    except ValueError as fault:
        # Found now and not after the first evaluation.
        raise RecipeError(f"train: transformers refuses it: {' '.join(str(fault).split())}; change that key") from None
    return corpus, backbone, backbone.tokenizer.template(recipe)


@dataclass(frozen=True)
class Training:
    """What training left behind, besides the adapter."""

    steps: int
    examples_per_second: float | None
    parameters: int
    trainable_parameters: int
    resumed_from_step: int
    shortened: int
    defused: int
    history: tuple[TrainPoint, ...]


def train(
    recipe: Recipe, corpus: Corpus, backbone: Backbone, template: PromptTemplate, folder: RunFolder
) -> tuple[Engine, Training]:
    """Train an adapter, from the last checkpoint if there is one, and save it."""
    from peft import load_peft_weights, set_peft_model_state_dict

    from whinchat.model.adapter import attach, count_parameters, save_adapter
    from whinchat.training.checkpoints import last_checkpoint
    from whinchat.training.trainer import AnswerTrainer, callbacks, training_arguments

    model = attach(backbone.model, recipe.adapter, recipe.train.seed)
    parameters, trainable = count_parameters(model)
    engine = _engine(backbone, template, model)
    # Checkpoints name the best one by its path, which must hold when the run is resumed from another folder.
    checkpoints = folder.checkpoints.resolve()
    trainer = AnswerTrainer(
        engine,
        recipe,
        corpus.train,
        corpus.validation,
        args=training_arguments(recipe, backbone.plan, checkpoints),
        callbacks=callbacks(recipe.train),
    )
    checkpoint = last_checkpoint(checkpoints)
    started = _step_of(checkpoint) if checkpoint else 0
    if checkpoint is not None and (state := _ended(checkpoint)) is not None:
        seconds = 0.0
        best = state.best_model_checkpoint if recipe.train.keep == "best" else None
        # By name, so that it is found wherever the folder has gone since.
        set_peft_model_state_dict(model, load_peft_weights(str(checkpoints / Path(best or checkpoint).name)))
    else:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds, state = result.metrics.get("train_runtime", 0.0), trainer.state
    save_adapter(model, folder.adapter, backbone.source.hub_id or backbone.source.path)
    backbone.tokenizer.tokenizer.save_pretrained(folder.adapter)
    per_step = recipe.train.per_device_train_batch_size * recipe.train.gradient_accumulation_steps
    seen = min((state.global_step - started) * per_step, round(len(corpus.train) * recipe.train.num_train_epochs))
    prompts = [example.prompt for example in trainer.train_dataset]
    return engine, Training(
        steps=state.global_step,
        examples_per_second=seen / seconds if seconds and seen else None,
        parameters=parameters,
        trainable_parameters=trainable,
        resumed_from_step=started,
        shortened=sum(prompt.shortened > 0 for prompt in prompts),
        defused=sum(prompt.defused > 0 for prompt in prompts),
        history=_history(state.log_history),
    )


def load_engine(path: Path) -> tuple[Recipe, Engine]:
    """The classifier that a run left in ``path``, ready for use.

    Raises:
        RunError: no run there. ModelError: no adapter in it, or its backbone cannot be had.
    """
    from whinchat.model.adapter import load_adapter
    from whinchat.model.backbone import load_backbone

    folder = RunFolder(path)
    recipe = folder.read_recipe()
    if not folder.adapter.is_dir():
        raise RunError(f"{path}: has no adapter/, so this run is not finished; go on with --resume")
    backbone = load_backbone(recipe.backbone)
    template = backbone.tokenizer.template(recipe)
    return recipe, _engine(backbone, template, load_adapter(backbone.model, folder.adapter))


def _engine(backbone: Backbone, template: PromptTemplate, model: Any = None) -> Engine:
    from whinchat.model.engine import Engine

    return Engine.build(model if model is not None else backbone.model, backbone.plan, template)


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


def _differences(old: Recipe, new: Recipe) -> list[str]:
    """Dotted keys whose values differ."""
    was, now = _flat(old.model_dump()), _flat(new.model_dump())
    return sorted(key for key in was | now if was.get(key) != now.get(key))


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _ended(checkpoint: Path) -> Any:
    """The state in ``checkpoint`` if training was over with it, by its last step or by early stopping; else None.

    Trainer itself would go on: it looks whether to stop only after one more step.
    """
    from transformers import TrainerState

    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    return state if state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"] else None


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[-1])


def _history(log: list[dict[str, Any]]) -> tuple[TrainPoint, ...]:
    names = ("loss", "learning_rate", "grad_norm", "eval_loss", "eval_macro_f1")
    points = (
        TrainPoint(
            step=entry["step"],
            epoch=entry["epoch"],
            # JSON has no NaN: a value that is none was not measured.
            **{name: entry[name] for name in names if name in entry and math.isfinite(entry[name])},
        )
        for entry in log
        if "loss" in entry or "eval_loss" in entry
    )
    return tuple(points)


def _notes(training: Training, *outcomes: Outcome) -> dict[str, int]:
    return {
        "training texts shortened": training.shortened,
        "evaluated texts shortened": outcomes[-1].shortened,
        "training texts with control tokens broken up": training.defused,
        "evaluated texts with control tokens broken up": outcomes[-1].defused,
    }


def _samples(split: Split, recipe: Recipe, before: Outcome, after: Outcome) -> tuple[Sample, ...]:
    """The first few rows of each label in turn, so that every label is seen."""
    labels = recipe.task.labels
    by_label = [[row for row, label in enumerate(split.labels) if label == index] for index in range(len(labels))]
    in_turn = [rows[at] for at in range(_SAMPLES) for rows in by_label if at < len(rows)]
    return tuple(
        Sample(
            text=split.texts[row],
            expected=labels[split.labels[row]],
            before=before.predictions[row].generated,
            after=after.predictions[row].generated,
            before_scored=labels[before.predictions[row].best],
            after_scored=labels[after.predictions[row].best],
        )
        for row in in_turn[:_SAMPLES]
    )


def _manifest(
    recipe: Recipe, corpus: Corpus, backbone: Backbone, training: Training, clock: Clock, notes: dict[str, int]
) -> Manifest:
    labels, splits = recipe.task.labels, (corpus.train, corpus.validation, corpus.test)
    return Manifest(
        whinchat_version=version("whinchat"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"python": platform.python_version()} | {name: version(name) for name in _VERSIONED},
        platform={
            "system": platform.platform(),
            "processor": processor_name(),
            "cores": str(os.cpu_count()),
        },
        device=backbone.plan.device,
        load_in=backbone.plan.load_in,
        compute_dtype=backbone.plan.compute_dtype,
        seeds={"train": recipe.train.seed, "split": recipe.data.split_seed, "bootstrap": recipe.evaluate.seed},
        model_source=recipe.backbone.model,
        model_commit=backbone.source.commit,
        model_license=backbone.source.license,
        model_architecture=backbone.model.__class__.__name__,
        parameters=training.parameters,
        trainable_parameters=training.trainable_parameters,
        data_source=recipe.data.source,
        data_revision=corpus.revision,
        splits={
            split.name: SplitFacts(len(split), split.fingerprint(), split.counts(labels)) for split in splits if split
        },
        data_report=asdict(corpus.report),
        prompt_notes=notes,
        selected_on="validation" if recipe.train.keep == "best" else None,
        train_steps=training.steps,
        train_examples_per_second=training.examples_per_second,
        timings_seconds=dict(clock.seconds),
        peak_memory_bytes=peak_memory_bytes(),
        resumed_from_step=training.resumed_from_step,
    )


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    import psutil

    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return int(info.peak_wset)
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return int(largest if platform.system() == "Darwin" else largest * 1024)
