"""Build the record of a run from the results of its stages."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from whinchat.data.dataset import Corpus, Split
from whinchat.evaluation.evaluate import EvaluationOutcome, paired_tests
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import ReliabilityReport
from whinchat.evaluation.simple_methods import SimpleAnswers, answer_simply, measure_simple_answers
from whinchat.models.accelerator import accelerator_facts
from whinchat.models.backbone import Backbone
from whinchat.models.device import installed_versions, processor_name, usable_cores
from whinchat.models.memory import peak_memory_bytes
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_record import Manifest, RunRecord, Sample, SplitFacts
from whinchat.storage.training_result import TrainingResult, TrainPoint

# Packages whose version can change a result.
_RECORDED_PACKAGES = (
    "whinchat", "torch", "transformers", "peft", "bitsandbytes", "accelerate", "tokenizers", "datasets", "numpy",
)  # fmt: skip
_SAMPLES = 12


def make_record(
    recipe: Recipe,
    manifest: Manifest,
    corpus: Corpus,
    history: tuple[TrainPoint, ...],
    split: Split,
    outcomes: tuple[EvaluationOutcome, EvaluationOutcome],
    reliability: ReliabilityReport | None,
    simple: Sequence[SimpleAnswers] | None = None,
) -> RunRecord:
    """Build the record of a run, or of one decision of a run with questions.

    Args:
        recipe: the recipe that was run.
        manifest: where the numbers come from; see ``make_manifest``.
        corpus: the data set.
        history: the training log.
        split: the evaluated rows.
        outcomes: the evaluations of ``split`` before and after training.
        reliability: the reliability report; None for a data set without a validation split.
        simple: what ``answer_simply`` answers to the texts of ``split``; None to ask it.
    """
    before, after = outcomes
    record = RunRecord(
        recipe=recipe,
        manifest=manifest,
        before=before.evaluation,
        after=after.evaluation,
        paired=(),
        history=history,
        samples=(),
        reliability=reliability,
    )
    return with_answers(record, corpus, split, outcomes, simple)


def with_answers(
    record: RunRecord,
    corpus: Corpus,
    split: Split,
    outcomes: tuple[EvaluationOutcome, EvaluationOutcome],
    simple: Sequence[SimpleAnswers] | None = None,
) -> RunRecord:
    """Return ``record`` with the parts that depend on the answers to single rows: tests, baselines and samples.

    Args:
        record: a run; its recipe and its reliability report are those of the answers.
        corpus, split, outcomes, simple: as in ``make_record``.
    """
    if simple is None:
        simple = answer_simply(record.recipe, corpus.train, split.texts)
    answers = np.array([prediction.answer for prediction in outcomes[1].predictions])
    return replace(
        record,
        paired=paired_tests(split, *outcomes, record.recipe.evaluate),
        baselines=measure_simple_answers(simple, record.recipe, split, answers, record.shipped.mode),
        samples=_samples(split, record.recipe, *outcomes),
    )


def tracker_metrics(record: RunRecord) -> dict[str, float]:
    """Return the metrics of a finished run that experiment trackers log, such as ``eval_after_macro_f1``.

    Names of metrics on the test split start with ``test_``, those on any other split with ``eval_``.
    """
    before, after, reliability = record.before, record.after, record.reliability
    prefix = "test" if after.split == "test" else "eval"
    metrics_of = {
        "before": before.score,
        "after": after.score,
        "before_generated": before.generate,
        "after_generated": after.generate,
        "before_first_word": before.generate_first_word,
        "after_first_word": after.generate_first_word,
        "calibrated": None if reliability is None else reliability.calibrated,
    }
    return {
        f"{prefix}_{when}_{name}": metrics.values[name]
        for when, metrics in metrics_of.items()
        if metrics is not None
        for name in METRICS
        if name in metrics.values
    }


def _samples(split: Split, recipe: Recipe, before: EvaluationOutcome, after: EvaluationOutcome) -> tuple[Sample, ...]:
    """Return the first rows of each label, the labels taking turns, so that the samples show every label.

    Rows with a generated answer come before the others.
    """
    labels = recipe.task.labels
    order = sorted(range(len(split)), key=lambda row: after.predictions[row].generated is None)
    rows_of = [[row for row in order if split.labels[row] == index] for index in range(len(labels))]
    rows_in_turn = [rows[turn] for turn in range(_SAMPLES) for rows in rows_of if turn < len(rows)]
    return tuple(
        Sample(
            text=split.texts[row],
            expected=labels[split.labels[row]],
            before=before.predictions[row].generated,
            after=after.predictions[row].generated,
            before_scored=labels[before.predictions[row].best],
            after_scored=labels[after.predictions[row].best],
            answer=labels[after.predictions[row].answer],
        )
        for row in rows_in_turn[:_SAMPLES]
    )


def make_manifest(
    recipe: Recipe,
    corpus: Corpus,
    backbone: Backbone,
    training: TrainingResult,
    outcomes: tuple[EvaluationOutcome, EvaluationOutcome],
    seconds: dict[str, float],
) -> Manifest:
    """Build the manifest of a run.

    Args:
        recipe: the recipe that was run.
        corpus: the data set.
        backbone: the model that was fine-tuned, with its device plan and source.
        training: the training log with step and parameter counts.
        outcomes: the evaluations before and after training.
        seconds: wall-clock seconds of each stage so far.
    """
    before, after = outcomes
    notes = {
        "training texts shortened": training.truncated_texts,
        "evaluated texts shortened": after.truncated_texts,
        "training texts with control tokens broken up": training.escaped_texts,
        "evaluated texts with control tokens broken up": after.escaped_texts,
    }
    memory_notes = filter(None, (before.note, *training.notes, after.note))
    device_notes = tuple(dict.fromkeys((*backbone.plan.notes, *memory_notes)))
    labels, splits = recipe.task.labels, corpus.stored_splits.values()
    accelerator = accelerator_facts(backbone.plan.device)
    return Manifest(
        whinchat_version=version("whinchat"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=installed_versions(_RECORDED_PACKAGES),
        platform={"system": platform.platform(), "processor": processor_name(), "cores": str(usable_cores())},
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
        splits={split.name: SplitFacts(len(split), split.fingerprint(), split.counts(labels)) for split in splits},
        data_report=asdict(corpus.report),
        prompt_notes=notes,
        prompt_date=None if recipe.task.date is None else recipe.task.date.isoformat(),
        selected_on="validation" if recipe.train.keep == "best" else None,
        train_steps=training.steps,
        train_examples_per_second=training.examples_per_second,
        timings_seconds=dict(seconds),
        peak_memory_bytes=peak_memory_bytes(),
        resumed_from_step=training.resumed_from_step,
        device_notes=device_notes,
        accelerator=None if accelerator is None else accelerator.name,
        accelerator_memory_bytes=None if accelerator is None else accelerator.memory_bytes,
        peak_accelerator_bytes=None if accelerator is None else accelerator.peak_bytes,
        adapted_share=training.adapted_share,
    )
