"""The limitations that a reader should know before relying on a metric; each limitation follows from the record."""

from collections.abc import Iterator

from whinchat.data.checks import whitespace_leak_warning
from whinchat.report.answer_modes import metrics_of_mode, mode_title
from whinchat.report.formatting import (
    BASELINE_NAMES,
    MODE_NAMES,
    NOT_MEASURED,
    absent_sentence,
    format_count,
    format_interval,
    format_number,
    format_percent,
    format_signed,
)
from whinchat.storage.run_record import RunRecord, TrainedRecord
from whinchat.wording import counted

WIDE_INTERVAL = 0.1  # of macro-F1
FEW_LABEL_TEXTS = 30  # evaluated texts of a label
FEW_CALIBRATION_TEXTS = 200
LARGE_SHIFT = 0.1  # of a label's share, between train and the evaluated split
# A kind of text, or an edit, is mentioned from FEW_TEXTS texts on.
FEW_TEXTS = 50
WEAK_SLICE = 0.05  # accuracy below that of all texts
FRAGILE = 0.1  # share of predictions that an edit changes


def limitations(record: RunRecord) -> tuple[str, ...]:
    """Return the limitations of this run, the most serious first."""
    return (
        *_selection(record), *_agreement(record), *_precision(record), *_reliability(record), *_data(record),
        *weight_limits(record), *_scope(record),
    )  # fmt: skip


def split_limits(record: TrainedRecord, split: str) -> Iterator[str]:
    """Return why metrics on ``split``, the evaluated one, are better than on new texts."""
    report = record.manifest.data_report
    leaked, learned = report.get("leaked") or {}, report.get("learned") or {}
    if record.manifest.selected_on == split:
        yield (
            f"The checkpoint was selected on {split}, the split that these metrics were measured on, so they are "
            "optimistic. Evaluate on a split that was not used for selection before relying on them."
        )
    if leaked.get(split) and not record.recipe.data.drop_leaked:
        yield (
            f"{counted(leaked[split], 'text')} of {split} also occur in train and were not removed from it, so the "
            "metrics are optimistic."
        )
    if learned.get(split):
        yield (
            f"{record.recipe.backbone.model} had learned {counted(learned[split], 'text')} of {split} before this "
            "training, so the metrics are optimistic."
        )
    if split != "validation" and learned.get("validation"):
        yield (
            f"{record.recipe.backbone.model} had learned {counted(learned['validation'], 'text')} of validation "
            "before, on which the probabilities were calibrated, so these may be too sure."
        )


def _selection(record: RunRecord) -> Iterator[str]:
    yield from split_limits(record, record.after.split)
    if record.before.split_fingerprint != record.after.split_fingerprint:
        yield (
            "The model was evaluated on different texts before and after training, so the difference between both "
            "evaluations does not show the effect of training."
        )


def _precision(record: RunRecord) -> Iterator[str]:
    for mode in MODE_NAMES:
        _, metrics = metrics_of_mode(record, mode)
        interval = None if metrics is None else metrics.intervals.get("macro_f1")
        if metrics is not None and interval is not None and interval.high - interval.low > WIDE_INTERVAL:
            yield (
                f"The 95 % interval of macro-F1 with {MODE_NAMES[mode]} is wide ({format_interval(interval)}), because "
                f"it rests on only {counted(metrics.n, 'text')}. More evaluation texts would narrow it."
            )
    if sentence := absent_sentence(record.after.score, record.after.split):
        yield sentence
    rare = [label for label in record.after.score.per_label if 0 < label.support < FEW_LABEL_TEXTS]
    if rare:
        names = ", ".join(f"{label.label} ({format_count(label.support)})" for label in rare)
        yield (
            f"Some labels have fewer than {FEW_LABEL_TEXTS} texts in {record.after.split}, so their metrics are "
            f"imprecise: {names}."
        )
    for paired in record.paired:
        if paired.interval.low <= 0:
            yield f"A reliable gain in macro-F1 was not shown for {mode_title(record.after, paired.mode)}."
    for baseline in record.baselines:
        if baseline.paired.interval.low <= 0 < baseline.paired.macro_f1_gain:
            yield (
                f"It was not shown that the classifier is better than {BASELINE_NAMES[baseline.name]}: macro-F1 "
                f"{format_signed(baseline.paired.macro_f1_gain)} (95 % interval: "
                f"{format_interval(baseline.paired.interval)})."
            )
    before, after = record.before.score.calibration, record.after.score.calibration
    if before is not None and after is not None and after.ece > before.ece:
        yield (
            "Training worsened the calibration of the uncalibrated scores: the expected calibration error rose from "
            f"{format_number(before.ece)} to {format_number(after.ece)}."
        )


def _agreement(record: RunRecord) -> Iterator[str]:
    if warning := record.after.disagreement_warning:
        yield warning


def _reliability(record: RunRecord) -> Iterator[str]:
    reliability = record.reliability
    if reliability is None:
        return
    if reliability.fitted_rows < FEW_CALIBRATION_TEXTS:
        yield (
            f"The calibration was fitted on only {counted(reliability.fitted_rows, 'text')} of "
            f"{reliability.fitted_on}, so the probabilities are imprecise."
        )
    overall = reliability.calibrated.accuracy
    weak = [
        f"{metrics.name} ({format_number(metrics.accuracy)})"
        for metrics in reliability.slices
        if metrics.n >= FEW_TEXTS and overall - metrics.accuracy > WEAK_SLICE
    ]
    if weak:
        yield f"Accuracy is clearly lower than the overall {format_number(overall)} on these texts: {', '.join(weak)}."
    fragile = [
        f"{result.name} ({format_percent(result.changed)} of predictions changed)"
        for result in reliability.stress
        if result.n >= FEW_TEXTS and result.changed > FRAGILE
    ]
    if fragile:
        yield f"Some edits that keep the meaning of a text change many predictions: {', '.join(fragile)}."


def _data(record: RunRecord) -> Iterator[str]:
    doubled_spaces = record.manifest.data_report.get("doubled_spaces") or {}
    if warning := whitespace_leak_warning(doubled_spaces, record.recipe.task.clean):
        yield warning
    split = record.after.split
    train, evaluated = record.manifest.splits.get("train"), record.manifest.splits.get(split)
    if train is None or evaluated is None or not train.rows or not evaluated.rows:
        return
    shifted = []
    for label in record.recipe.task.labels:
        in_train, in_split = (facts.counts.get(label, 0) / facts.rows for facts in (train, evaluated))
        if abs(in_train - in_split) > LARGE_SHIFT:
            shifted.append(f"{label} ({format_percent(in_train)} in train, {format_percent(in_split)} in {split})")
    if shifted:
        yield f"The label shares of train and {split} differ clearly: {', '.join(shifted)}."


def weight_limits(record: TrainedRecord) -> Iterator[str]:
    """Yield what the weights and the device changed against the recipe or the original model."""
    manifest = record.manifest
    yield from _device_limits(record)
    if manifest.model_source.startswith("package:"):
        yield (
            f"Training and evaluation used the weights of {manifest.model_source}, which may be stored with fewer bits "
            "than the original weights on the hub; the metrics can differ slightly on the original."
        )
    if manifest.load_in == "nf4":
        yield (
            "The evaluation used NF4 (4-bit) weights; the metrics can differ slightly if the base model is loaded in "
            "another precision."
        )


def _device_limits(record: TrainedRecord) -> Iterator[str]:
    """What the device computed in another way than the recipe asks for."""
    if record.manifest.device_notes:
        yield from (f"The device did not follow the recipe: {note}." for note in record.manifest.device_notes)
        return
    # Records of earlier versions hold no notes.
    wanted, used = record.recipe.backbone.compute_dtype, record.manifest.compute_dtype
    if wanted not in {"auto", used}:
        yield f"The device did not follow the recipe: {wanted} was replaced by {used}."


def _scope(record: RunRecord) -> Iterator[str]:
    generate, first_word = record.after.generate, record.after.generate_first_word
    rate = NOT_MEASURED if generate is None else format_percent(generate.invalid_rate)
    lenient = "" if first_word is None else f"; without any label word in it: {format_percent(first_word.invalid_rate)}"
    sample = record.after.score_of_generated
    sampled = "" if sample is None else f", in a sample of {counted(sample.n, 'text')}"
    yield (
        f"Free generation can produce an answer that is not a label (share after training{sampled}: {rate}{lenient}); "
        "such an answer counts as wrong. Label scoring always returns a label."
    )
    yield (
        f"The metrics were measured on {counted(record.after.score.n, 'text')} of {record.after.split} (language: "
        f"{record.recipe.task.language}). Other kinds of text, other languages, and fairness between groups of people "
        "were not measured."
    )
