"""Records of runs that never happened, for tests of what is published from them."""

from __future__ import annotations

import random
from dataclasses import replace

from whinchat.evaluation.results import (
    Abstention,
    Baseline,
    BaselineName,
    CalibrationMetrics,
    ConfidentError,
    CoveragePoint,
    Evaluation,
    Interval,
    LabelMetrics,
    Metrics,
    Mode,
    PairedTest,
    ReliabilityBin,
    ReliabilityReport,
    SliceMetrics,
    StressResult,
)
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.model_config import AdapterConfig, BackboneConfig
from whinchat.recipe.schema import Recipe, Reference
from whinchat.recipe.task import Task
from whinchat.storage.run_record import Manifest, RunRecord, Sample, SplitFacts
from whinchat.storage.training_result import TrainPoint

THREE = ("negative", "neutral", "positive")
EMOTIONS = (
    "anger",
    "disappointment",
    "joyful anticipation",
    "optimism",
    "sadness",
    "a very long label name that never ends",
)
HOSTILE = "a | b\n<script>alert(1)</script> `code` *bold* [x](http://evil.example/) $1$ \\"


def labels_of(number: int) -> tuple[str, ...]:
    """That many label names, some long."""
    if number <= 3:
        return THREE[:number]
    if number <= len(EMOTIONS):
        return EMOTIONS[:number]
    return tuple(f"{EMOTIONS[index % 5]} {index:02d}" for index in range(number))


def measured(
    labels: tuple[str, ...], right: float, *, mode: Mode = "score", n: int = 600, invalid: float = 0.0, seed: int = 0
) -> Metrics:
    """A measurement with about that share of right answers; its figures follow from its confusion matrix."""
    rng, truth = random.Random(seed), random.Random(7)  # every measurement sees the same rows
    k = len(labels)
    confusion = [[0] * k for _ in labels]
    lost = [0] * k
    for _ in range(n):
        true = min(int(truth.expovariate(1.6) * k / 2), k - 1)
        if rng.random() < invalid:
            lost[true] += 1
        else:
            confusion[true][true if rng.random() < right else rng.randrange(k)] += 1
    figures = [_label_figures(index, label, confusion, lost) for index, label in enumerate(labels)]
    macro_f1 = sum(one.f1 for one in figures) / k
    macro_recall = sum(one.recall for one in figures) / k
    accuracy = sum(confusion[i][i] for i in range(k)) / n
    values = {"macro_f1": macro_f1, "macro_recall": macro_recall, "accuracy": accuracy}
    return Metrics(
        mode=mode,
        n=n,
        labels=labels,
        values=values,
        invalid_rate=sum(lost) / n,
        per_label=tuple(figures),
        confusion=tuple(map(tuple, confusion)),
        invalid=tuple(lost),
        intervals={name: Interval(max(0, value - 0.031), min(1, value + 0.0287)) for name, value in values.items()},
        calibration=_calibration(right, rng) if mode in {"score", "calibrated"} else None,
        seconds=12.3,
    )


def _label_figures(index: int, label: str, confusion: list[list[int]], lost: list[int]) -> LabelMetrics:
    hits, support = confusion[index][index], sum(confusion[index]) + lost[index]
    answered = sum(row[index] for row in confusion)
    precision, recall = hits / max(1, answered), hits / max(1, support)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return LabelMetrics(label, precision, recall, f1, support)


def _calibration(right: float, rng: random.Random) -> CalibrationMetrics:
    bins = [
        ReliabilityBin(
            i / 15,
            (i + 1) / 15,
            0 if i < 4 else int(8 + 2 * i * i * right),
            (i + 0.5) / 15,
            min(1, rng.random() * 0.2 + right * i / 15),
        )
        for i in range(15)
    ]
    return CalibrationMetrics(
        ece=0.3141 * (1 - right), brier=0.6543 - right / 3, log_loss=1.234 - right, label_mass=right, bins=tuple(bins),
        chance_ece=0.0217,
    )  # fmt: skip


def history(points: int = 60, *, evals: bool = True) -> tuple[TrainPoint, ...]:
    """A falling loss, a linear learning rate, and four evaluations."""
    rng = random.Random(1)
    log = []
    for index in range(points):
        step = 10 * (index + 1)
        log.append(
            TrainPoint(
                step, step / 600, 0.55 + 1.2 / (1 + index / 4) + rng.gauss(0, 0.08), 5e-4 * (1 - index / points), 1.0
            )
        )
        if evals and (index + 1) % max(1, points // 4) == 0:
            log.append(
                TrainPoint(
                    step, step / 600, eval_loss=0.6 + 0.5 / (index + 1), eval_macro_f1=0.5 + 0.2 * index / points
                )
            )
    return tuple(log)


def recipe(labels: tuple[str, ...] = THREE, **changes: object) -> Recipe:
    """A small recipe for these labels, which may be ones that only an earlier version took."""
    fields: dict[str, object] = {
        "name": "smollm2-135m-dora",
        "description": "Tweet sentiment with SmolLM2 and DoRA",
        "task": Task(
            name="tweet sentiment",
            labels=THREE,
            instruction="Decide the sentiment of the tweet. Answer with one word.",
        ),
        "data": DataConfig(source="package:vaderSentiment"),
        "backbone": BackboneConfig(model="package:smollm2-135m-instruct"),
        "adapter": AdapterConfig(method="dora"),
        "reference": Reference(
            title="A published card", before_macro_f1=0.0625, after_macro_f1=0.6013, url="https://huggingface.co/x/y"
        ),
    }
    made = Recipe.model_validate(fields | changes)
    return (
        made if "task" in changes else made.model_copy(update={"task": made.task.model_copy(update={"labels": labels})})
    )


def manifest(labels: tuple[str, ...] = THREE) -> Manifest:
    """Where the numbers of the synthetic run would have come from."""
    counts = {label: 100 + 37 * index for index, label in enumerate(labels)}
    facts = {
        name: SplitFacts(sum(counts.values()), letter * 64, counts)
        for name, letter in (("train", "a"), ("validation", "b"), ("test", "c"))
    }
    return Manifest(
        whinchat_version="0.1.0",
        created="2026-05-04T10:20:30+00:00",
        versions={"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.0"},
        platform={"system": "Linux", "python": "3.11.2", "processor": "x86_64, 2 cores"},
        device="cpu",
        load_in="bfloat16",
        compute_dtype="bfloat16",
        seeds={"split": 0, "train": 42, "bootstrap": 0},
        model_source="package:smollm2-135m-instruct",
        model_commit="f" * 64,
        model_license="apache-2.0",
        model_architecture="LlamaForCausalLM",
        parameters=134_515_008,
        trainable_parameters=4_884_480,
        data_source="package:vaderSentiment",
        data_revision="3.3.2",
        splits=facts,
        data_report={
            "duplicates_in_train": 7,
            "conflicting_duplicates": 1,
            "leaked": {"validation": 3, "test": 0},
            "dropped_from_train": 3,
            "examples": [],
        },
        prompt_notes={"texts shortened": 2},
        selected_on=None,
        train_steps=600,
        train_examples_per_second=21.37,
        timings_seconds={"load": 3.21, "before": 41.5, "train": 452.0, "after": 39.9, "publish": 5.5},
        peak_memory_bytes=2_345_678_901,
    )


def run_record(
    labels: tuple[str, ...] = THREE,
    *,
    generate: bool = True,
    points: int = 60,
    text: str = "What a lovely day",
    trusted: bool = True,
) -> RunRecord:
    """A whole run."""
    before = Evaluation(
        "validation",
        "b" * 64,
        measured(labels, 0.2, seed=1),
        measured(labels, 0.3, mode="generate", invalid=0.83, seed=2) if generate else None,
        measured(labels, 0.3, mode="generate_first_word", invalid=0.71, seed=3) if generate else None,
    )
    after = Evaluation(
        "validation",
        "b" * 64,
        measured(labels, 0.72, seed=1),
        measured(labels, 0.7, mode="generate", invalid=0.01, seed=2) if generate else None,
        measured(labels, 0.71, mode="generate_first_word", seed=3) if generate else None,
    )
    paired = [
        PairedTest(
            "score", 600, 211, 34, 1.2e-9, after.score.macro_f1 - before.score.macro_f1, Interval(0.3123, 0.4234)
        )
    ]
    if before.generate and after.generate:
        gain = after.generate.macro_f1 - before.generate.macro_f1
        paired.append(PairedTest("generate", 600, 222, 33, 0.0421, gain, Interval(0.2345, 0.5432)))
    trusted_report = trust(labels, text) if trusted else None
    if trusted_report is not None:
        gain = trusted_report.calibrated.macro_f1 - before.score.macro_f1
        paired.insert(0, PairedTest("calibrated", 600, 214, 32, 1.1e-9, gain, Interval(0.3321, 0.4432)))
    samples = tuple(
        Sample(
            text,
            labels[index % len(labels)],
            "The tweet is about" if generate else None,
            labels[0] if generate else None,
            labels[0],
            labels[1],
            labels[-1] if trusted else None,
        )
        for index in range(4)
    )
    return RunRecord(
        recipe(labels),
        manifest(labels),
        before,
        after,
        tuple(paired),
        history(points) if points else (),
        samples,
        trusted_report,
        baselines=(baseline("majority", "", labels, 0.15), baseline("tfidf", "C = 3", labels, 0.44)) if trusted else (),
    )


def with_sampled_generation(record: RunRecord, rows: int = 200) -> RunRecord:
    """The record of a run that answered only so many rows freely."""
    labels = record.after.score.labels
    before, after = (
        replace(
            side,
            generate=measured(labels, right, mode="generate", n=rows, invalid=0.2, seed=2),
            generate_first_word=measured(labels, right, mode="generate_first_word", n=rows, seed=3),
            score_of_generated=measured(labels, right, n=rows, seed=5),
        )
        for side, right in ((record.before, 0.25), (record.after, 0.69))
    )
    paired = tuple(replace(one, n=rows) if one.mode == "generate" else one for one in record.paired)
    return replace(record, before=before, after=after, paired=paired)


def baseline(name: BaselineName, settings: str, labels: tuple[str, ...], right: float) -> Baseline:
    """A simple method with about that share of right answers."""
    paired = PairedTest("calibrated", 600, 177, 28, 2.1e-8, 0.7654 - right, Interval(0.6543 - right, 0.8765 - right))
    return Baseline(name, settings, replace(measured(labels, right, seed=4), calibration=None), paired)


def trust(labels: tuple[str, ...] = THREE, text: str = "What a lovely day") -> ReliabilityReport:
    """What might have been examined."""
    return ReliabilityReport(
        metric="macro_recall",
        temperature=1.37,
        tau=1.0,
        fitted_on="validation",
        fitted_rows=600,
        cross_fitted=True,
        calibrated=measured(labels, 0.74, mode="calibrated", seed=1),
        coverage=tuple(CoveragePoint(at / 20, 1 - 0.013 * at, 0.99 - 0.03 * at) for at in range(1, 21)),
        abstention=Abstention(0.9, 0.723, 0.513, 0.891),
        slices=(
            SliceMetrics("up to 8 words", 201, 0.335, 0.712, 0.701),
            SliceMetrics("with negation", 88, 0.1467, 0.612, 0.583),
        ),
        stress=(
            StressResult("one typo", 180, 0.0613, 0.731, 0.702),
            StressResult("lower case", 133, 0.0415, 0.733, 0.729),
        ),
        errors=(ConfidentError(text, labels[0], labels[1], 0.987),),
    )


def with_manifest(record: RunRecord, **changes: object) -> RunRecord:
    """The record with some fields of its manifest replaced."""
    return replace(record, manifest=replace(record.manifest, **changes))
