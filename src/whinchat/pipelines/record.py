"""From what happened to the record of a run: manifest, samples, counts."""

from __future__ import annotations

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from whinchat.data.dataset import Corpus, Split
from whinchat.evaluation.evaluate import EvaluationOutcome, paired_tests
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import ReliabilityReport
from whinchat.models.backbone import Backbone
from whinchat.models.device import processor_name, usable_cores
from whinchat.models.memory import peak_memory_bytes
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_record import Manifest, RunRecord, Sample, SplitFacts
from whinchat.storage.training_result import TrainingResult

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


def make_record(
    recipe: Recipe,
    corpus: Corpus,
    backbone: Backbone,
    training: TrainingResult,
    split: Split,
    outcomes: tuple[EvaluationOutcome, EvaluationOutcome],
    trust: ReliabilityReport | None,
    seconds: dict[str, float],
) -> RunRecord:
    """The record of a run.

    Args:
        recipe: what was asked.
        corpus: the data it was done with.
        backbone: the model it was done to.
        training: what training left.
        split: the rows that were evaluated.
        outcomes: before and after, on ``split``.
        trust: what was examined beyond them.
        seconds: wall-clock seconds of each stage so far.
    """
    before, after = outcomes
    return RunRecord(
        recipe=recipe,
        manifest=_manifest(recipe, corpus, backbone, training, seconds, _notes(training, after)),
        before=before.evaluation,
        after=after.evaluation,
        paired=paired_tests(split, before, after, recipe.evaluate),
        history=training.history,
        samples=_samples(split, recipe, before, after),
        reliability=trust,
    )


def tracker_metrics(record: RunRecord) -> dict[str, float]:
    """What trackers are told of a finished run: ``eval_after_macro_f1``, or ``test_...`` where test was evaluated."""
    before, after, trust = record.before, record.after, record.reliability
    kind = "test" if after.split == "test" else "eval"
    measured = {
        "before": before.score,
        "after": after.score,
        "before_generated": before.generate,
        "after_generated": after.generate,
        "calibrated": None if trust is None else trust.calibrated,
    }
    return {
        f"{kind}_{when}_{name}": metrics.values[name]
        for when, metrics in measured.items()
        if metrics is not None
        for name in METRICS
        if name in metrics.values
    }


def _notes(training: TrainingResult, after: EvaluationOutcome) -> dict[str, int]:
    return {
        "training texts shortened": training.truncated_texts,
        "evaluated texts shortened": after.truncated_texts,
        "training texts with control tokens broken up": training.escaped_texts,
        "evaluated texts with control tokens broken up": after.escaped_texts,
    }


def _samples(split: Split, recipe: Recipe, before: EvaluationOutcome, after: EvaluationOutcome) -> tuple[Sample, ...]:
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
    recipe: Recipe,
    corpus: Corpus,
    backbone: Backbone,
    training: TrainingResult,
    seconds: dict[str, float],
    notes: dict[str, int],
) -> Manifest:
    labels, splits = recipe.task.labels, (corpus.train, corpus.validation, corpus.test)
    return Manifest(
        whinchat_version=version("whinchat"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"python": platform.python_version()} | {name: version(name) for name in _VERSIONED},
        platform={
            "system": platform.platform(),
            "processor": processor_name(),
            "cores": str(usable_cores()),
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
        timings_seconds=dict(seconds),
        peak_memory_bytes=peak_memory_bytes(),
        resumed_from_step=training.resumed_from_step,
    )
