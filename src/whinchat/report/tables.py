"""Build the tables of card and report as cells of text, which the templates lay out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Metrics, Mode, PairedTest, ReliabilityReport, SliceMetrics, StressResult
from whinchat.recipe.method_names import method_name
from whinchat.recipe.schema import Recipe
from whinchat.report.answer_modes import (
    comparable_mode,
    generation_mode,
    metrics_of_mode,
    mode_title,
    modes_to_report,
    reported_modes,
)
from whinchat.report.formatting import (
    BASELINE_NAMES,
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
from whinchat.report.published_figures import published_row
from whinchat.report.text_table import Columns, TextTable
from whinchat.report.visible_text import one_line
from whinchat.storage.run_record import Manifest, RunRecord, Sample, TrainedRecord

LONGEST_SAMPLE = 220  # characters
MOST_LABELS = 20  # listed in a sentence
MOST_PAIRS = 10  # of labels that are confused
COVERAGES = (1.0, 0.9, 0.75, 0.5, 0.25)
STAGES = {
    "load": "loading data and model",
    "before": "evaluation before training",
    "train": "training",
    "after": "evaluation after training",
    "trust": "calibration and reliability checks",
    "publish": "figures, card and report",
}


def headline_table(record: RunRecord) -> TextTable:
    """Return the metrics of every mode before and after training, and published figures where the recipe has them."""
    reference = record.recipe.reference
    rows: list[tuple[str, ...]] = []
    for shown in modes_to_report(record):
        sides = shown.before, shown.after
        for name, metric in METRICS.items():
            rows.append((shown.title, metric.heading, *(format_metric(side, name) for side in sides)))
            of_all = shown.title == mode_title(record.after, shown.mode)
            if name == "macro_f1" and reference is not None and comparable_mode(reference) == shown.mode and of_all:
                rows.append(published_row(reference))
        if shown.mode.startswith("generate"):
            rates = (format_percent(None if side is None else side.invalid_rate) for side in sides)
            rows.append((shown.title, "invalid answers", *rates))
    if reference is not None and comparable_mode(reference) not in reported_modes(record):
        rows.append(published_row(reference))
    columns = ("mode", "metric", "before training", "after training")
    return TextTable("Metrics before and after training", columns, tuple(rows), heads=2)


def baselines_table(record: RunRecord) -> TextTable:
    """Return the classifier beside simple methods that were fitted on the same training texts."""
    columns = ("method", *(metric.heading for metric in METRICS.values()), "gain in macro-F1 over the method")
    rows = [("this classifier", *_metric_cells(record.shipped), "")]
    for baseline in sorted(record.baselines, key=lambda one: -one.metrics.macro_f1):
        name = BASELINE_NAMES[baseline.name] + (f" ({baseline.settings})" if baseline.settings else "")
        paired = baseline.paired
        gain = f"{format_signed(paired.macro_f1_gain)} ({format_interval(paired.interval)})"
        rows.append((name, *_metric_cells(baseline.metrics), gain))
    return TextTable("The classifier beside simple methods", columns, tuple(rows))


def _metric_cells(metrics: Metrics) -> list[str]:
    """One cell for each registered metric, the first with its interval."""
    first, *others = METRICS
    return [format_metric(metrics, first), *(format_number(metrics.values.get(name)) for name in others)]


def per_label_table(record: RunRecord, mode: Mode | None = None) -> TextTable:
    """Return precision, recall and F1 of each label before and after training.

    Args:
        record: the run.
        mode: a way of answering that was measured; by default that of ``whinchat predict``.
    """
    mode = mode or record.shipped.mode
    before, after = metrics_of_mode(record, mode)
    columns = ["label", "texts"]
    columns += [f"{metric} {when}" for metric in ("precision", "recall", "F1") for when in ("before", "after")]
    rows = []
    assert before is not None
    assert after is not None
    for old, new in zip(before.per_label, after.per_label, strict=True):
        values = (getattr(label, metric) for metric in ("precision", "recall", "f1") for label in (old, new))
        rows.append((new.label, format_count(new.support), *map(format_number, values)))
    caption = f"Metrics of each label before and after training, with {mode_title(record.after, mode)}"
    return TextTable(caption, tuple(columns), tuple(rows))


def calibration_table(record: RunRecord) -> TextTable:
    """Return how well the probabilities of label scoring fit the outcomes."""
    columns = {"before training": record.before.score.calibration, "after training": record.after.score.calibration}
    if record.reliability is not None:
        columns["after training, calibrated"] = record.reliability.calibrated.calibration
    has_chance = any(one is not None and one.chance_ece is not None for one in columns.values())
    names = {
        "ece": "expected calibration error (15 bins; lower is better)",
        # Runs of earlier versions do not hold it.
        **({"chance_ece": "the same by chance, if each probability is right"} if has_chance else {}),
        "brier": "Brier score (0 to 2; lower is better)",
        "log_loss": "log loss (nats; lower is better)",
        "label_mass": "total probability of the label answers",
    }
    rows = tuple(
        (name, *(format_number(None if metrics is None else getattr(metrics, field)) for metrics in columns.values()))
        for field, name in names.items()
    )
    return TextTable("Calibration of the predicted probabilities", ("metric", *columns), rows)


def coverage_table(reliability: ReliabilityReport) -> TextTable:
    """Return the accuracy that remains if only the most confident predictions are kept."""
    points = [min(reliability.coverage, key=lambda point: abs(point.coverage - share)) for share in COVERAGES]
    rows = tuple(
        (format_percent(point.coverage), format_number(point.accuracy), format_number(point.threshold))
        for point in dict.fromkeys(points)
    )
    columns = ("share of texts answered", "accuracy", "confidence threshold")
    return TextTable("Accuracy if only the most confident predictions are kept", columns, rows)


def slices_table(reliability: ReliabilityReport) -> TextTable:
    """Return the metrics on each kind of text, under those on all texts."""
    overall = reliability.calibrated
    all_texts = SliceMetrics("all texts", overall.n, 1.0, overall.accuracy, overall.macro_f1)
    columns: Columns[SliceMetrics] = {
        "kind of text": lambda part: part.name,
        "texts": lambda part: format_count(part.n),
        "share of texts": lambda part: format_percent(part.share),
        "accuracy": lambda part: format_number(part.accuracy),
        "macro-F1": lambda part: format_number(part.macro_f1),
    }
    return TextTable.of("Metrics on kinds of text", (all_texts, *reliability.slices), columns)


def stress_table(reliability: ReliabilityReport) -> TextTable:
    """Return how edits that keep the meaning of a text change the predictions."""
    columns: Columns[StressResult] = {
        "edit": lambda result: result.name,
        "texts edited": lambda result: format_count(result.n),
        "predictions changed": lambda result: format_percent(result.changed),
        "accuracy without edit": lambda result: format_number(result.accuracy_before),
        "accuracy with edit": lambda result: format_number(result.accuracy_after),
    }
    return TextTable.of("Robustness to edits that keep the meaning", reliability.stress, columns)


def errors_table(reliability: ReliabilityReport) -> TextTable:
    """Return the wrong predictions with the highest confidence; some of them may be label errors in the data."""
    rows = tuple(
        (_sample_text(error.text), error.expected, error.answered, format_number(error.confidence, 2))
        for error in reliability.errors
    )
    columns = ("text", "true label", "predicted label", "confidence")
    return TextTable("Wrong predictions with the highest confidence", columns, rows, numeric=False)


def settings_table(record: TrainedRecord) -> TextTable:
    """Return the hyperparameters of the training."""
    adapter, train, manifest = record.recipe.adapter, record.recipe.train, record.manifest
    targets = adapter.target_modules if isinstance(adapter.target_modules, str) else ", ".join(adapter.target_modules)
    layers = adapter.layers_to_transform
    share = manifest.trainable_parameters / manifest.parameters if manifest.parameters else None
    trainable, total = format_count(manifest.trainable_parameters), format_count(manifest.parameters)
    weights = train.class_weights
    limit = f", at most {train.max_steps} steps" if train.max_steps > 0 else ""
    selected = f", selected on {manifest.selected_on}" if manifest.selected_on else ""
    rows = (
        ("method", method_name(adapter, manifest.load_in)),
        ("rank r", f"{adapter.r}"),
        ("lora_alpha", f"{adapter.lora_alpha:g}"),
        ("lora_dropout", f"{adapter.lora_dropout:g}"),
        ("target modules", targets),
        *([("layers with an adapter, counted from 0", ", ".join(map(str, layers)))] if layers is not None else []),
        *([("target parameters", ", ".join(adapter.target_parameters))] if adapter.target_parameters else []),
        ("trainable parameters", f"{trainable} of {total} ({format_percent(share)})"),
        ("share of weights in layers with an adapter", format_percent(manifest.adapted_share)),
        ("loss", train.loss),
        ("class weights", weights if isinstance(weights, str) else _joined(weights)),
        ("learning rate", f"{train.learning_rate:g}"),
        ("LoRA+ learning rate ratio", f"{train.loraplus_lr_ratio:g}"),
        ("learning rate schedule", f"{train.lr_scheduler_type}, warm-up {_warmup(train.warmup_steps)}"),
        ("epochs", f"{train.num_train_epochs:g}{limit}"),
        ("batch size per device", f"{train.per_device_train_batch_size}"),
        ("gradient accumulation steps", f"{train.gradient_accumulation_steps}"),
        ("optimizer", train.optim),
        ("weight decay", f"{train.weight_decay:g}"),
        ("maximum gradient norm", f"{train.max_grad_norm:g}"),
        ("optimizer steps", format_count(manifest.train_steps)),
        ("checkpoint kept", f"{train.keep}{selected}"),
    )
    return TextTable("Training hyperparameters", ("hyperparameter", "value"), rows, numeric=False)


def _warmup(steps: float) -> str:
    """``train.warmup_steps``: a share of all steps below 1, else a number of steps."""
    return f"of {100 * steps:g} % of the steps" if steps < 1 else f"of {steps:g} steps"


def cost_table(manifest: Manifest) -> TextTable:
    """Return the device, the time of each stage and the memory of the run."""
    speed = manifest.train_examples_per_second
    rows = [
        ("device", manifest.device),
        ("dtype of the stored weights", manifest.load_in),
        ("dtype of the computation", manifest.compute_dtype),
        *(
            (f"time for {STAGES.get(stage, stage)}", format_duration(seconds))
            for stage, seconds in manifest.timings_seconds.items()
        ),
        ("training speed", NOT_MEASURED if speed is None else f"{format_number(speed, 1)} examples per second"),
        ("peak memory of the process", format_bytes(manifest.peak_memory_bytes)),
    ]
    return TextTable("Time and memory", ("quantity", "value"), tuple(rows), numeric=False)


def origin_table(manifest: Manifest) -> TextTable:
    """Return the exact model, data and software versions of the run."""
    rows = (
        ("finished", manifest.created),
        ("date that prompts state", manifest.prompt_date or "none"),
        ("base model", f"{manifest.model_source} ({manifest.model_architecture})"),
        ("commit or checksum of the base model", manifest.model_commit or NOT_MEASURED),
        ("data source", manifest.data_source),
        ("data revision", manifest.data_revision or NOT_MEASURED),
        ("seeds", _joined(manifest.seeds)),
        ("whinchat version", manifest.whinchat_version),
        ("versions of other packages", _joined(manifest.versions)),
        ("platform", _joined(manifest.platform)),
        *((f"fingerprint of the {name} split", facts.fingerprint) for name, facts in manifest.splits.items()),
    )
    return TextTable("Versions and sources", ("item", "value"), rows, numeric=False)


def label_counts_table(record: RunRecord) -> TextTable:
    """Return the number of texts of each label in each split."""
    splits = record.manifest.splits
    rows = [
        (label, *(format_count(facts.counts.get(label)) for facts in splits.values()))
        for label in record.recipe.task.labels
    ]
    rows.append(("all labels", *(format_count(facts.rows) for facts in splits.values())))
    return TextTable("Number of texts in each split", ("label", *splits), tuple(rows))


def data_checks_table(manifest: Manifest) -> TextTable:
    """Return what the checks of the data found."""
    report = manifest.data_report
    leaked, learned = report.get("leaked"), report.get("learned") or {}
    rows = (
        ("texts that repeat an earlier text of train", format_count(report.get("duplicates_in_train"))),
        ("repeated texts with conflicting labels", format_count(report.get("conflicting_duplicates"))),
        ("evaluation texts that also occur in train", NOT_MEASURED if leaked is None else _joined(leaked) or "none"),
        ("texts removed from train", format_count(report.get("dropped_from_train"))),
        *([("evaluation texts that the model had learned before", _joined(learned))] if any(learned.values()) else ()),
        *([("rows without a text or a label, left out", format_count(report["empty"]))] if report.get("empty") else ()),
        *((name, format_count(count)) for name, count in manifest.prompt_notes.items()),
    )
    return TextTable("Data checks", ("check", "texts"), rows)


def samples_table(samples: tuple[Sample, ...]) -> TextTable:
    """Return sample texts with their predictions; a tick or a cross marks each label as correct or wrong."""
    columns = (
        "text", "true label", "generated before", "generated after", "label before", "label after",
    )  # fmt: skip
    return TextTable("Sample predictions", columns, tuple(map(_sample_row, samples)), numeric=False)


def _sample_row(sample: Sample) -> tuple[str, ...]:
    generated = (
        NOT_MEASURED if answer is None else _sample_text(answer) or "(empty)"
        for answer in (sample.before, sample.after)
    )
    labels = (sample.before_scored, sample.answer or sample.after_scored)
    scored = (f"{label} {'✓' if label == sample.expected else '✗'}" for label in labels)
    return _sample_text(sample.text), sample.expected, *generated, *scored


def _sample_text(text: str) -> str:
    """Return a text on one line, cut with an ellipsis after LONGEST_SAMPLE characters."""
    text = one_line(text)
    return text if len(text) <= LONGEST_SAMPLE else text[: LONGEST_SAMPLE - 1].rstrip() + "…"


def confused_pairs_table(record: RunRecord) -> TextTable:
    """Return the pairs of true and predicted label with the most texts, by the answers of ``whinchat predict``."""
    shipped = record.shipped
    pairs = [
        (count, true, predicted)
        for true, row in enumerate(shipped.confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    columns: Columns[tuple[int, int, int]] = {
        "true label → predicted label": lambda pair: f"{shipped.labels[pair[1]]} → {shipped.labels[pair[2]]}",
        "texts": lambda pair: format_count(pair[0]),
        "share of the true label": lambda pair: format_percent(pair[0] / shipped.per_label[pair[1]].support),
    }
    most = sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:MOST_PAIRS]
    return TextTable.of("Labels that are confused most often, after training", most, columns)


def confusion_table(record: RunRecord, mode: Mode) -> TextTable:
    """Return the confusion matrix of a mode after training as whole percentages; a cell without texts is empty."""
    _, after = metrics_of_mode(record, mode)
    assert after is not None
    has_invalid = any(after.invalid)
    rows = []
    for label, counts, invalid in zip(after.labels, after.confusion, after.invalid, strict=True):
        cells = (*counts, invalid) if has_invalid else counts
        rows.append((label, *(f"{100 * count / (sum(counts) + invalid):.0f}" if count else "" for count in cells)))
    columns = ("true label", *after.labels, *(["invalid"] if has_invalid else []))
    title = mode_title(record.after, mode)
    caption = f"Predicted labels after training, in percent of the texts of each true label, with {title}"
    return TextTable(caption, columns, tuple(rows))


@dataclass(frozen=True)
class Headline:
    """A change of macro-F1 at the top of the report, as text.

    Attributes:
        title: what changes.
        before, after: macro-F1, of the classifier before training or of another method, and of the trained classifier.
        change: the difference and its interval.
    """

    title: str
    before: str
    after: str
    change: str


def headlines(record: RunRecord) -> tuple[Headline, ...]:
    """Return macro-F1 before and after training, of the best simple method, and of the measured free generation."""
    tests = {paired.mode: paired for paired in record.paired}
    shipped = record.shipped
    rows = [_headline(record, shipped.mode, tests.get(shipped.mode))]
    if record.baselines:
        best = max(record.baselines, key=lambda baseline: baseline.metrics.macro_f1)
        before, after = format_number(best.metrics.macro_f1), format_number(shipped.macro_f1)
        change = f"Gain over this simple method: {_gain(best.paired)}"
        rows.append(Headline(f"Macro-F1 beside {BASELINE_NAMES[best.name]}", before, after, change))
    generation = generation_mode(record)
    if any(metrics_of_mode(record, generation)):
        rows.append(_headline(record, generation, tests.get(generation)))
    return tuple(rows)


def _headline(record: RunRecord, mode: Mode, paired: PairedTest | None) -> Headline:
    before, after = (
        format_number(None if metrics is None else metrics.macro_f1) for metrics in metrics_of_mode(record, mode)
    )
    change = f"Change by training: {NOT_MEASURED if paired is None else _gain(paired)}"
    return Headline(f"Macro-F1 with {mode_title(record.after, mode)}", before, after, change)


def _gain(paired: PairedTest) -> str:
    return f"{format_signed(paired.macro_f1_gain)} (95 % interval: {format_interval(paired.interval)})"


def label_list(recipe: Recipe) -> str:
    """Return the labels in their order as part of a sentence; of a long list, the first ones and how many follow."""
    labels = recipe.task.labels
    if len(labels) > MOST_LABELS:
        return f"{', '.join(labels[:MOST_LABELS])} and {len(labels) - MOST_LABELS} more"
    return f"{', '.join(labels[:-1])} and {labels[-1]}"


def _joined(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
