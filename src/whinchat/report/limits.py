"""What a reader must know before believing a figure; each note follows from the record."""

from __future__ import annotations

from collections.abc import Iterator

from whinchat.data.checks import whitespace_leak_warning
from whinchat.report.formatting import MODES, NOT_MEASURED, format_count, format_number, format_percent
from whinchat.storage.run_record import RunRecord

WIDE_INTERVAL = 0.1
FEW_ROWS = 30
LARGE_SHIFT = 0.1
# An accuracy that lies so far below that of all rows is worth a word, from FEW_TEXTS rows on; so is an edit that
# changes so large a share of the answers.
WEAK_SPOT, FRAIL, FEW_TEXTS = 0.05, 0.1, 50
FEW_FITTED = 200


def limits(record: RunRecord) -> tuple[str, ...]:
    """The notes of this run, the gravest first."""
    return (
        *_selection(record), *_precision(record), *_trust(record), *_data(record), *_weights(record), *_scope(record),
    )  # fmt: skip


def _selection(record: RunRecord) -> Iterator[str]:
    split, chosen = record.after.split, record.manifest.selected_on
    if chosen == split:
        yield (
            f"The checkpoint was chosen on {chosen}, the split these figures were measured on, so they are optimistic. "
            "Measure on a split that nothing was chosen on before relying on them."
        )
    if record.before.split_fingerprint != record.after.split_fingerprint:
        yield "Before and after were measured on different rows, so their difference says nothing about training."
    leaked = record.manifest.data_report.get("leaked") or {}
    if leaked.get(split) and not record.recipe.data.drop_leaked:
        yield (
            f"{format_count(leaked[split])} texts of {split} also stand in train and were not dropped; the figures "
            "flatter."
        )


def _precision(record: RunRecord) -> Iterator[str]:
    for mode, words in MODES.items():
        after = getattr(record.after, mode)
        interval = None if after is None else after.intervals.get("macro_f1")
        if interval is not None and interval.high - interval.low > WIDE_INTERVAL:
            yield (
                f"The interval of macro-F1 in {words} is wide ({format_number(interval.low)} to "
                f"{format_number(interval.high)}): "
                f"{format_count(after.n)} rows are few. More evaluation rows would narrow it."
            )
    rare = [one for one in record.after.score.per_label if one.support < FEW_ROWS]
    if rare:
        named = ", ".join(f"{one.label} ({format_count(one.support)})" for one in rare)
        yield f"Labels with fewer than {FEW_ROWS} rows in {record.after.split}, whose figures are rough: {named}."
    for paired in record.paired:
        if paired.interval.low <= 0:
            yield f"In {MODES[paired.mode]}, no reliable gain in macro-F1 was shown."
    old, new = record.before.score.calibration, record.after.score.calibration
    if old is not None and new is not None and new.ece > old.ece:
        yield (
            f"Calibration got worse: the expected calibration error rose from {format_number(old.ece)} to "
            f"{format_number(new.ece)}."
        )


def _trust(record: RunRecord) -> Iterator[str]:
    trust = record.reliability
    if trust is None:
        return
    if trust.fitted_rows < FEW_FITTED:
        yield (
            f"Probabilities were calibrated on {format_count(trust.fitted_rows)} rows of {trust.fitted_on}, which "
            "is few."
        )
    weak = [
        f"{one.name} ({format_number(one.accuracy)})"
        for one in trust.slices
        if one.n >= FEW_TEXTS and trust.calibrated.accuracy - one.accuracy > WEAK_SPOT
    ]
    if weak:
        yield (
            f"Texts with clearly lower accuracy than all ({format_number(trust.calibrated.accuracy)}): "
            f"{', '.join(weak)}."
        )
    frail = [
        f"{one.name} ({format_percent(one.changed)} of answers changed)"
        for one in trust.stress
        if one.n >= FEW_TEXTS and one.changed > FRAIL
    ]
    if frail:
        yield f"Edits that should change no answer, and did: {', '.join(frail)}."


def _data(record: RunRecord) -> Iterator[str]:
    if told := whitespace_leak_warning(
        record.manifest.data_report.get("doubled_spaces") or {}, record.recipe.task.clean
    ):
        yield told
    train, split = record.manifest.splits.get("train"), record.manifest.splits.get(record.after.split)
    if train is None or split is None or not train.rows or not split.rows:
        return
    shifted = []
    for label in record.recipe.task.labels:
        here, there = (facts.counts.get(label, 0) / facts.rows for facts in (train, split))
        if abs(here - there) > LARGE_SHIFT:
            shifted.append(
                f"{label} ({format_percent(here)} in train, {format_percent(there)} in {record.after.split})"
            )
    if shifted:
        yield f"Labels are not spread alike in train and {record.after.split}: {', '.join(shifted)}."


def _weights(record: RunRecord) -> Iterator[str]:
    manifest = record.manifest
    if manifest.model_source.startswith("package:"):
        yield (
            f"Trained and measured on the weights of {manifest.model_source}, which a package may hold in fewer bits "
            "than the original on the hub; on the original the figures can differ a little."
        )
    if manifest.load_in == "nf4":
        yield "Measured on NF4 (4-bit) weights; with the base model held otherwise the figures can differ a little."


def _scope(record: RunRecord) -> Iterator[str]:
    after = record.after.generate
    rate = NOT_MEASURED if after is None else format_percent(after.invalid_rate)
    yield (
        f"A free answer may be no label at all (after training: {rate}); it counts as wrong. Label scoring "
        "always gives one."
    )
    yield (
        f"Measured on {format_count(record.after.score.n)} rows of {record.after.split} "
        f"({record.recipe.task.language}). "
        "Other kinds of text, other languages and fairness between groups of people were not measured."
    )
