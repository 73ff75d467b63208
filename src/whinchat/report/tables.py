"""Every table of card and report, as plain text cells; each template only sets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import CalibrationMetrics, Mode, ReliabilityReport
from whinchat.recipe.schema import Recipe, method_name
from whinchat.report.formatting import (
    MODES,
    NOT_MEASURED,
    format_bytes,
    format_count,
    format_duration,
    format_interval,
    format_metric,
    format_number,
    format_percent,
    format_signed,
)
from whinchat.report.text_table import TextTable
from whinchat.storage.run_record import Manifest, RunRecord, Sample

LONGEST_SAMPLE = 220  # characters
STAGES = {
    "load": "load",
    "before": "measure before",
    "train": "train",
    "after": "measure after",
    "trust": "calibrate and examine",
    "publish": "publish",
}


def headline_table(record: RunRecord) -> TextTable:
    """Before and after in both ways of answering, and the published figures under them."""
    rows: list[tuple[str, ...]] = []
    for mode, words in MODES.items():
        before, after = getattr(record.before, mode), getattr(record.after, mode)
        for name, metric in METRICS.items():
            rows.append((words, metric.heading, format_metric(before, name), format_metric(after, name)))
        if mode == "generate":
            rates = (format_percent(None if one is None else one.invalid_rate) for one in (before, after))
            rows.append((words, "invalid answers", *rates))
    if (trust := record.reliability) is not None:
        words = f"calibrated, for {METRICS[trust.metric].title}"
        rows += [
            (words, metric.heading, NOT_MEASURED, format_metric(trust.calibrated, name))
            for name, metric in METRICS.items()
        ]
    if (published := record.recipe.reference) is not None:
        figures = (published.before_macro_f1, published.after_macro_f1)
        shown = (NOT_MEASURED if value is None else f"{value:g}" for value in figures)
        rows.append((f"published: {published.title}", "macro-F1", *shown))
    return TextTable("Before and after", ("answered by", "figure", "before", "after"), tuple(rows), heads=2)


def per_label_table(record: RunRecord, mode: Mode = "score") -> TextTable:
    """Precision, recall and F1 of each label, before and after."""
    before, after = getattr(record.before, mode), getattr(record.after, mode)
    columns = ["label", "rows"]
    columns += [f"{figure} {when}" for figure in ("precision", "recall", "F1") for when in ("before", "after")]
    rows = []
    for old, new in zip(before.per_label, after.per_label, strict=True):
        figures = (getattr(one, figure) for figure in ("precision", "recall", "f1") for one in (old, new))
        rows.append((new.label, format_count(new.support), *map(format_number, figures)))
    return TextTable(f"Each label, {MODES[mode]}", tuple(columns), tuple(rows))


def calibration_table(record: RunRecord) -> TextTable:
    """How far the probabilities of label scoring can be believed."""
    names = {
        "ece": "expected calibration error (15 bins)",
        "brier": "Brier score (0 to 2)",
        "log_loss": "log loss (nats)",
        "label_mass": "probability on the labels' answers",
    }

    def cell(found: CalibrationMetrics | None, field: str) -> str:
        return format_number(None if found is None else getattr(found, field))

    columns = {"before": record.before.score.calibration, "after": record.after.score.calibration}
    if record.reliability is not None:
        columns["after, calibrated"] = record.reliability.calibrated.calibration
    rows = tuple((name, *(cell(found, field) for found in columns.values())) for field, name in names.items())
    return TextTable("Calibration", ("figure", *columns), rows)


def coverage_table(trust: ReliabilityReport) -> TextTable:
    """Accuracy where only the surest answers count."""
    wanted = (1.0, 0.9, 0.75, 0.5, 0.25)
    chosen = {min(trust.coverage, key=lambda one: abs(one.coverage - share)): None for share in wanted}
    rows = tuple(
        (format_percent(one.coverage), format_number(one.accuracy), format_number(one.threshold)) for one in chosen
    )
    return TextTable(
        "Answering only where the confidence is high", ("share answered", "accuracy", "confidence from"), rows
    )


def slices_table(trust: ReliabilityReport) -> TextTable:
    """Where the classifier is weaker."""
    whole = trust.calibrated
    rows = [
        (
            "all",
            format_count(whole.n),
            format_percent(1.0),
            format_number(whole.accuracy),
            format_number(whole.macro_f1),
        )
    ]
    rows += [
        (
            one.name,
            format_count(one.n),
            format_percent(one.share),
            format_number(one.accuracy),
            format_number(one.macro_f1),
        )
        for one in trust.slices
    ]
    return TextTable("Kinds of text", ("texts", "rows", "share", "accuracy", "macro-F1"), tuple(rows))


def stress_table(trust: ReliabilityReport) -> TextTable:
    """Edits that change no meaning."""
    rows = tuple(
        (
            one.name,
            format_count(one.n),
            format_percent(one.changed),
            format_number(one.accuracy_before),
            format_number(one.accuracy_after),
        )
        for one in trust.stress
    )
    return TextTable(
        "Harmless edits",
        ("edit", "texts it changes", "answers changed", "accuracy before it", "accuracy after it"),
        rows,
    )


def errors_table(trust: ReliabilityReport) -> TextTable:
    """The wrong answers given with the most confidence: some are the model's mistakes, some the data's."""
    rows = tuple(
        (one_line(one.text), one.expected, one.answered, format_number(one.confidence, 2)) for one in trust.errors
    )
    return TextTable("The surest errors", ("text", "true label", "answered", "confidence"), rows, numeric=False)


def settings_table(record: RunRecord) -> TextTable:
    """What was trained, and how."""
    adapter, train, manifest = record.recipe.adapter, record.recipe.train, record.manifest
    targets = adapter.target_modules if isinstance(adapter.target_modules, str) else ", ".join(adapter.target_modules)
    share = manifest.trainable_parameters / manifest.parameters if manifest.parameters else None
    weights = train.class_weights
    rows = (
        ("method", method_name(adapter, manifest.load_in)),
        ("rank r, lora_alpha, lora_dropout", f"{adapter.r}, {adapter.lora_alpha:g}, {adapter.lora_dropout:g}"),
        ("target modules", targets),
        (
            "trainable parameters",
            f"{format_count(manifest.trainable_parameters)} of {format_count(manifest.parameters)} "
            f"({format_percent(share)})",
        ),
        ("loss", train.loss),
        ("class weights", weights if isinstance(weights, str) else _pairs(weights)),
        ("learning rate", f"{train.learning_rate:g}, {train.lr_scheduler_type}, warm-up {train.warmup_steps:g}"),
        (
            "epochs",
            f"{train.num_train_epochs:g}" + (f", at most {train.max_steps} steps" if train.max_steps > 0 else ""),
        ),
        ("batch", f"{train.per_device_train_batch_size} × {train.gradient_accumulation_steps} accumulated"),
        (
            "optimizer",
            f"{train.optim}, weight decay {train.weight_decay:g}, gradient norm at most {train.max_grad_norm:g}",
        ),
        ("optimizer steps taken", format_count(manifest.train_steps)),
        ("checkpoint kept", train.keep + (f", chosen on {manifest.selected_on}" if manifest.selected_on else "")),
    )
    return TextTable("Training settings", ("setting", "value"), rows, numeric=False)


def cost_table(manifest: Manifest) -> TextTable:
    """Where it ran, for how long, and in how much memory."""
    speed = manifest.train_examples_per_second
    rows = [
        ("device", manifest.device),
        ("weights held in, multiplied in", f"{manifest.load_in}, {manifest.compute_dtype}"),
        *(
            (f"time to {STAGES[stage]}", format_duration(seconds))
            for stage, seconds in manifest.timings_seconds.items()
        ),
        ("training speed", f"{format_number(speed, 1)} examples per second" if speed is not None else NOT_MEASURED),
        ("peak memory of the process", format_bytes(manifest.peak_memory_bytes)),
    ]
    return TextTable("Cost", ("what", "measured"), tuple(rows), numeric=False)


def origin_table(manifest: Manifest) -> TextTable:
    """What is needed to find the same model, data and software again."""
    rows = (
        ("created", manifest.created),
        ("model", f"{manifest.model_source} ({manifest.model_architecture})"),
        ("model commit or checksum", manifest.model_commit or NOT_MEASURED),
        ("data", manifest.data_source),
        ("data revision", manifest.data_revision or NOT_MEASURED),
        ("seeds", _pairs(manifest.seeds)),
        ("whinchat", manifest.whinchat_version),
        ("other versions", _pairs(manifest.versions)),
        ("platform", _pairs(manifest.platform)),
        *((f"split {name}", facts.fingerprint) for name, facts in manifest.splits.items()),
    )
    return TextTable("Origin", ("what", "value"), rows, numeric=False)


def label_counts_table(record: RunRecord) -> TextTable:
    """Rows of each label in each split."""
    splits = record.manifest.splits
    rows = [
        (label, *(format_count(facts.counts.get(label)) for facts in splits.values()))
        for label in record.recipe.task.labels
    ]
    rows.append(("all", *(format_count(facts.rows) for facts in splits.values())))
    return TextTable("Rows of each split", ("label", *splits), tuple(rows))


def data_checks_table(manifest: Manifest) -> TextTable:
    """What the checks of the data found."""
    report = manifest.data_report
    leaked = report.get("leaked")
    rows = (
        ("equal texts within train", format_count(report.get("duplicates_in_train"))),
        ("of these, with different labels", format_count(report.get("conflicting_duplicates"))),
        ("evaluation texts also in train", NOT_MEASURED if leaked is None else _pairs(leaked) or "none"),
        ("rows dropped from train", format_count(report.get("dropped_from_train"))),
        *((name, format_count(rows)) for name, rows in manifest.prompt_notes.items()),
    )
    return TextTable("Checks of the data", ("check", "rows"), rows)


def samples_table(rows: tuple[Sample, ...]) -> TextTable:
    """Texts with what the model answered; a tick or cross tells whether label scoring found the true label."""
    columns = ("text", "true label", "free answer before", "free answer after", "scored before", "scored after")
    return TextTable("Sample answers", columns, tuple(map(_sample_row, rows)), numeric=False)


def _sample_row(sample: Sample) -> tuple[str, ...]:
    answers = (NOT_MEASURED if one is None else one_line(one) or "(nothing)" for one in (sample.before, sample.after))
    scored = (f"{one} {'✓' if one == sample.expected else '✗'}" for one in (sample.before_scored, sample.after_scored))
    return one_line(sample.text), sample.expected, *answers, *scored


def one_line(text: str, longest: int = LONGEST_SAMPLE) -> str:
    """The text on one line, without control characters, cut with an ellipsis where it is long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def headline_changes(record: RunRecord) -> tuple[dict[str, Any], ...]:
    """The headline of each way of answering: macro-F1 before and after, and the gain where it was tested."""
    gains = {paired.mode: paired for paired in record.paired}
    found = []
    for mode, words in MODES.items():
        measured = (getattr(record.before, mode), getattr(record.after, mode))
        gain = gains.get(mode)
        found.append(
            {
                "mode": words,
                "values": [format_number(None if one is None else one.macro_f1) for one in measured],
                "gain": NOT_MEASURED if gain is None else format_signed(gain.macro_f1_gain),
                "interval": None if gain is None else format_interval(gain.interval),
            }
        )
    return tuple(found)


def label_list(recipe: Recipe) -> str:
    """The labels in their order, in one sentence part."""
    *most, last = recipe.task.labels
    return f"{', '.join(most)} and {last}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
