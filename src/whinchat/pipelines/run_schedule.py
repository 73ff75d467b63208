"""Log the stages of a run and their estimated times at its start, and correct the estimate after each stage.

The estimate comes from a short measured sample: the untrained model scores, and answers freely, a few texts of the run,
and a fresh adapter computes losses and gradients of a few training batches.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from whinchat.data.dataset import Corpus, Split
from whinchat.evaluation.generation import generate
from whinchat.evaluation.joint_scoring import decision_engines, score_questions
from whinchat.models.forward import Engine
from whinchat.models.memory import give_back_memory
from whinchat.progress import logger, stage, whole_duration
from whinchat.recipe.method_names import method_name
from whinchat.recipe.schema import Recipe
from whinchat.training.checkpoints import checkpoint_step, last_checkpoint
from whinchat.training.training_cost import TrainingCost, measure_training_cost

# Texts in the sample: enough to fill a batch on each core, few enough to take seconds.
SAMPLE_TEXTS = 32


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a run.

    Attributes:
        name: the stage's key in ``Manifest.timings_seconds``.
        title: what the stage does, in words.
        seconds: estimated wall-clock time; None where nothing was measured.
    """

    name: str
    title: str
    seconds: float | None = None


@dataclass(frozen=True)
class EstimateBasis:
    """What the estimates of a run were measured on.

    Attributes:
        texts: texts that were scored; 0 where nothing was measured.
        training: the cost of training; None where nothing is left to train, or nothing was measured.
    """

    texts: int = 0
    training: TrainingCost | None = None

    def describe(self) -> str:
        """Return the words that name the memory and the sample in the log."""
        if self.training is None:
            return f"estimated from {self.texts} texts"
        memory = f"{self.training.memory_bytes / 1e9:.1f} GB"
        return (
            f"with {memory} of memory, estimated from {self.texts} texts and {self.training.batches} training batches"
        )


class RunSchedule:
    """Measures the stages of a run, and logs how long they take and how much is left.

    Attributes:
        seconds: wall-clock seconds of each stage that this process has finished, by name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._left: list[PlannedStage] = []

    def plan(self, stages: Sequence[PlannedStage], basis: EstimateBasis) -> None:
        """Log the stages that will follow, with the times and the memory estimated from ``basis``."""
        self._left = list(stages)
        logger.info("This run will")
        for number, planned in enumerate(stages, 1):
            estimate = "" if planned.seconds is None else f" (about {whole_duration(planned.seconds)})"
            logger.info("  %d. %s%s", number, planned.title, estimate)
        if basis.texts:
            total = whole_duration(self._seconds_left())
            logger.info("About %s in all on this machine, %s", total, basis.describe())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens inside; log its start, its end, and a new estimate of what is left."""
        planned = self._left.pop(0) if self._left else PlannedStage(name, f"{name} data and model")
        assert planned.name == name
        started = time.perf_counter()
        with stage(planned.title[0].upper() + planned.title[1:]):
            yield
        # The next stage needs blocks of other sizes, between which those of this one would stay as gaps.
        give_back_memory()
        seconds = self.seconds[name] = time.perf_counter() - started
        if name == "before":
            # The trained model will be evaluated on the same texts.
            self._left = [replace(one, seconds=seconds) if one.name == "after" else one for one in self._left]
        if left := self._seconds_left():
            logger.info("About %s left", whole_duration(left))

    def _seconds_left(self) -> float:
        return sum(planned.seconds or 0.0 for planned in self._left)


def plan_stages(
    recipe: Recipe, corpus: Corpus, split: Split, engine: Engine, checkpoints: Path, *, has_before: bool
) -> tuple[list[PlannedStage], EstimateBasis]:
    """Return the stages of a run after loading, with times measured on a few texts if anybody sees them.

    Args:
        recipe: the settings.
        corpus: the data.
        split: the rows that are evaluated.
        engine: the untrained model with its prompts.
        checkpoints: folder of the checkpoints that an earlier process may have left.
        has_before: the evaluation before training is stored already.

    Returns:
        The stages, and the sample behind the estimates.
    """
    generated = _generated_rows(recipe, split)
    sample = "" if generated == len(split) else f" of {generated:,} of them"
    answers = f" and by free generation{sample}" if generated else ""
    rows = f"{len(split):,} {split.name} texts by label scores{answers}"
    checkpoint = last_checkpoint(checkpoints)
    steps_done = checkpoint_step(checkpoint) if checkpoint else 0
    steps_left = max(0, training_steps(recipe, len(corpus.trained)) - steps_done)
    method = method_name(recipe.adapter, engine.plan.load_in)
    titles = {
        "before": f"evaluate the untrained model on {rows}",
        "train": f"train a {method} adapter on {len(corpus.trained):,} texts, {steps_left:,} steps",
        "after": f"evaluate the trained model on {rows}",
        "trust": "calibrate the probabilities and analyze the answers",
        "publish": "write predictions, figures, report and model card",
    }
    if has_before:
        del titles["before"]
    if not logger.isEnabledFor(logging.INFO):
        return [PlannedStage(name, title) for name, title in titles.items()], EstimateBasis()
    texts = corpus.trained.texts[:SAMPLE_TEXTS]
    cost = measure_training_cost(engine, recipe, corpus.trained) if steps_left else None
    seconds = _estimate_seconds(recipe, corpus, split, seconds_per_text(engine, texts, recipe), cost, steps_left)
    return [PlannedStage(name, title, seconds.get(name)) for name, title in titles.items()], EstimateBasis(
        len(texts), cost
    )


def _estimate_seconds(
    recipe: Recipe,
    corpus: Corpus,
    split: Split,
    per_text: tuple[float, float],
    cost: TrainingCost | None,
    steps_left: int,
) -> dict[str, float]:
    """Return the estimated time of each stage that computes with the model.

    Args:
        recipe: the settings.
        corpus: the data.
        split: the rows that are evaluated.
        per_text: measured seconds of scoring a text, and of letting the model answer it.
        cost: measured cost of training; None where no steps are left.
        steps_left: optimizer steps to take.
    """
    settings, train, (scoring, generating) = recipe.evaluate, recipe.train, per_text
    evaluating = len(split) * scoring + _generated_rows(recipe, split) * generating
    training = 0.0 if cost is None else steps_left * train.gradient_accumulation_steps * cost.seconds_per_batch
    analyzing = 0.0
    if corpus.validation is not None:
        if (every := train.eval_steps) is not None:
            evaluations = training_steps(recipe, len(corpus.trained)) / every if every >= 1 else 1 / every
            training += evaluations * len(corpus.validation.head(train.eval_rows)) * scoring
        calibrating = 0 if corpus.validation.fingerprint() == split.fingerprint() else len(corpus.validation)
        edited = len(settings.stress_edits) * min(settings.stress_rows, len(split))
        analyzing = (calibrating + edited) * scoring
    return {"before": evaluating, "train": training, "after": evaluating, "trust": analyzing}


def _generated_rows(recipe: Recipe, split: Split) -> int:
    """Return how many rows of ``split`` are answered by free generation."""
    settings = recipe.evaluate
    return min(settings.generation_rows or len(split), len(split)) if settings.generate else 0


def training_steps(recipe: Recipe, rows: int) -> int:
    """Return the number of optimizer steps of a training on ``rows`` rows."""
    train = recipe.train
    if train.max_steps > 0:
        return train.max_steps
    batches = math.ceil(rows / train.per_device_train_batch_size)
    return math.ceil(math.ceil(batches / train.gradient_accumulation_steps) * train.num_train_epochs)


def seconds_per_text(engine: Engine, texts: Sequence[str], recipe: Recipe) -> tuple[float, float]:
    """Return the measured seconds of scoring a text, and of letting the model answer it freely."""
    settings, title = recipe.evaluate, "Measuring a sample"
    engines = decision_engines(engine, recipe.task) if recipe.task.questions else [engine]
    prompts = [own.template.encode(texts) for own in engines]
    # The first pass pays for everything that is loaded or compiled once.
    score_questions(engines, [own[:1] for own in prompts], settings.per_device_eval_batch_size, title)
    started = time.perf_counter()
    score_questions(engines, prompts, settings.per_device_eval_batch_size, title)
    scored = time.perf_counter()
    if settings.generate:
        generate(engine, prompts[0], settings.max_new_tokens, settings.per_device_eval_batch_size, title)
    return (scored - started) / len(texts), (time.perf_counter() - scored) / len(texts)
