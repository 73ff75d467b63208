"""Every table of card and report, as plain text cells; each template only sets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whinchat.evaluation.records import Mode, Reliability
from whinchat.evaluation.trust import Trust
from whinchat.publish.records import Manifest, RunRecord, Sample
from whinchat.publish.wording import (
    METRICS,
    MODES,
    NOT_MEASURED,
    between,
    count,
    duration,
    memory,
    number,
    percent,
    signed,
    with_interval,
)
from whinchat.recipe.recipe import Adapter, Recipe

LONGEST_SAMPLE = 220  # characters
STAGES = {
    "load": "load",
    "before": "measure before",
    "train": "train",
    "after": "measure after",
    "trust": "calibrate and examine",
    "publish": "publish",
}
METHODS = {"lora": "LoRA", "dora": "DoRA", "rslora": "rsLoRA"}


@dataclass(frozen=True)
class Table:
    """Cells of text under named columns; the first ``heads`` cells of a row name it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: bool = True
    heads: int = 1


def method_name(adapter: Adapter, load_in: str) -> str:
    """The method as the literature names it: QLoRA for LoRA on 4-bit weights, and so on."""
    name = METHODS[adapter.method]
    if load_in == "nf4":
        name = f"Q{name}" if adapter.method in {"lora", "dora"} else f"{name} on NF4"
    return f"{name} from PiSSA" if adapter.init == "pissa" else name


def headline(record: RunRecord) -> Table:
    """Before and after in both ways of answering, and the published figures under them."""
    rows: list[tuple[str, ...]] = []
    for mode, words in MODES.items():
        before, after = getattr(record.before, mode), getattr(record.after, mode)
        for field, figure in METRICS.items():
            rows.append((words, figure, with_interval(before, field), with_interval(after, field)))
        if mode == "generate":
            rates = (percent(None if one is None else one.invalid_rate) for one in (before, after))
            rows.append((words, "invalid answers", *rates))
    if (trust := record.trust) is not None:
        words = f"calibrated, for {METRICS[trust.metric]}"
        rows += [
            (words, figure, NOT_MEASURED, with_interval(trust.decided, field)) for field, figure in METRICS.items()
        ]
    if (published := record.recipe.reference) is not None:
        figures = (published.before_macro_f1, published.after_macro_f1)
        shown = (NOT_MEASURED if value is None else f"{value:g}" for value in figures)
        rows.append((f"published: {published.title}", "macro-F1", *shown))
    return Table("Before and after", ("answered by", "figure", "before", "after"), tuple(rows), heads=2)


def per_label(record: RunRecord, mode: Mode = "score") -> Table:
    """Precision, recall and F1 of each label, before and after."""
    before, after = getattr(record.before, mode), getattr(record.after, mode)
    columns = ["label", "rows"]
    columns += [f"{figure} {when}" for figure in ("precision", "recall", "F1") for when in ("before", "after")]
    rows = []
    for old, new in zip(before.per_label, after.per_label, strict=True):
        figures = (getattr(one, figure) for figure in ("precision", "recall", "f1") for one in (old, new))
        rows.append((new.label, count(new.support), *map(number, figures)))
    return Table(f"Each label, {MODES[mode]}", tuple(columns), tuple(rows))


def calibration(record: RunRecord) -> Table:
    """How far the probabilities of label scoring can be believed."""
    names = {
        "ece": "expected calibration error (15 bins)",
        "brier": "Brier score (0 to 2)",
        "log_loss": "log loss (nats)",
        "label_mass": "probability on the labels' answers",
    }

    def cell(found: Reliability | None, field: str) -> str:
        return number(None if found is None else getattr(found, field))

    columns = {"before": record.before.score.calibration, "after": record.after.score.calibration}
    if record.trust is not None:
        columns["after, calibrated"] = record.trust.decided.calibration
    rows = tuple((name, *(cell(found, field) for found in columns.values())) for field, name in names.items())
    return Table("Calibration", ("figure", *columns), rows)


def coverage(trust: Trust) -> Table:
    """Accuracy where only the surest answers count."""
    wanted = (1.0, 0.9, 0.75, 0.5, 0.25)
    chosen = {min(trust.coverage, key=lambda one: abs(one.coverage - share)): None for share in wanted}
    rows = tuple((percent(one.coverage), number(one.accuracy), number(one.threshold)) for one in chosen)
    return Table("Answering only where the confidence is high", ("share answered", "accuracy", "confidence from"), rows)


def slices(trust: Trust) -> Table:
    """Where the classifier is weaker."""
    whole = trust.decided
    rows = [("all", count(whole.n), percent(1.0), number(whole.accuracy), number(whole.macro_f1))]
    rows += [
        (one.name, count(one.n), percent(one.share), number(one.accuracy), number(one.macro_f1)) for one in trust.slices
    ]
    return Table("Kinds of text", ("texts", "rows", "share", "accuracy", "macro-F1"), tuple(rows))


def stress(trust: Trust) -> Table:
    """Edits that change no meaning."""
    rows = tuple(
        (one.name, count(one.n), percent(one.changed), number(one.accuracy_before), number(one.accuracy_after))
        for one in trust.stress
    )
    return Table(
        "Harmless edits",
        ("edit", "texts it changes", "answers changed", "accuracy before it", "accuracy after it"),
        rows,
    )


def errors(trust: Trust) -> Table:
    """The wrong answers given with the most confidence: some are the model's mistakes, some the data's."""
    rows = tuple((one_line(one.text), one.expected, one.answered, number(one.confidence, 2)) for one in trust.errors)
    return Table("The surest errors", ("text", "true label", "answered", "confidence"), rows, numeric=False)


def settings(record: RunRecord) -> Table:
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
            f"{count(manifest.trainable_parameters)} of {count(manifest.parameters)} ({percent(share)})",
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
        ("optimizer steps taken", count(manifest.train_steps)),
        ("checkpoint kept", train.keep + (f", chosen on {manifest.selected_on}" if manifest.selected_on else "")),
    )
    return Table("Training settings", ("setting", "value"), rows, numeric=False)


def cost(manifest: Manifest) -> Table:
    """Where it ran, for how long, and in how much memory."""
    speed = manifest.train_examples_per_second
    rows = [
        ("device", manifest.device),
        ("weights held in, multiplied in", f"{manifest.load_in}, {manifest.compute_dtype}"),
        *((f"time to {STAGES[stage]}", duration(seconds)) for stage, seconds in manifest.timings_seconds.items()),
        ("training speed", f"{number(speed, 1)} examples per second" if speed is not None else NOT_MEASURED),
        ("peak memory of the process", memory(manifest.peak_memory_bytes)),
    ]
    return Table("Cost", ("what", "measured"), tuple(rows), numeric=False)


def origin(manifest: Manifest) -> Table:
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
    return Table("Origin", ("what", "value"), rows, numeric=False)


def label_counts(record: RunRecord) -> Table:
    """Rows of each label in each split."""
    splits = record.manifest.splits
    rows = [
        (label, *(count(facts.counts.get(label)) for facts in splits.values())) for label in record.recipe.task.labels
    ]
    rows.append(("all", *(count(facts.rows) for facts in splits.values())))
    return Table("Rows of each split", ("label", *splits), tuple(rows))


def data_checks(manifest: Manifest) -> Table:
    """What the checks of the data found."""
    report = manifest.data_report
    leaked = report.get("leaked")
    rows = (
        ("equal texts within train", count(report.get("duplicates_in_train"))),
        ("of these, with different labels", count(report.get("conflicting_duplicates"))),
        ("evaluation texts also in train", NOT_MEASURED if leaked is None else _pairs(leaked) or "none"),
        ("rows dropped from train", count(report.get("dropped_from_train"))),
        *((name, count(rows)) for name, rows in manifest.prompt_notes.items()),
    )
    return Table("Checks of the data", ("check", "rows"), rows)


def samples(rows: tuple[Sample, ...]) -> Table:
    """Texts with what the model answered; a tick or cross tells whether label scoring found the true label."""
    columns = ("text", "true label", "free answer before", "free answer after", "scored before", "scored after")
    return Table("Sample answers", columns, tuple(map(_sample_row, rows)), numeric=False)


def _sample_row(sample: Sample) -> tuple[str, ...]:
    answers = (NOT_MEASURED if one is None else one_line(one) or "(nothing)" for one in (sample.before, sample.after))
    scored = (f"{one} {'✓' if one == sample.expected else '✗'}" for one in (sample.before_scored, sample.after_scored))
    return one_line(sample.text), sample.expected, *answers, *scored


def one_line(text: str, longest: int = LONGEST_SAMPLE) -> str:
    """The text on one line, without control characters, cut with an ellipsis where it is long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def changes(record: RunRecord) -> tuple[dict[str, Any], ...]:
    """The headline of each way of answering: macro-F1 before and after, and the gain where it was tested."""
    gains = {paired.mode: paired for paired in record.paired}
    found = []
    for mode, words in MODES.items():
        measured = (getattr(record.before, mode), getattr(record.after, mode))
        gain = gains.get(mode)
        found.append(
            {
                "mode": words,
                "values": [number(None if one is None else one.macro_f1) for one in measured],
                "gain": NOT_MEASURED if gain is None else signed(gain.macro_f1_gain),
                "interval": None if gain is None else between(gain.interval),
            }
        )
    return tuple(found)


def label_list(recipe: Recipe) -> str:
    """The labels in their order, in one sentence part."""
    *most, last = recipe.task.labels
    return f"{', '.join(most)} and {last}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
