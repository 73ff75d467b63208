"""Several runs side by side, and a warning where they cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from whinchat.errors import RunError
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.metrics import paired_test
from whinchat.evaluation.results import Interval, PairedTest
from whinchat.recipe.schema import method_name
from whinchat.report.formatting import (
    format_bytes,
    format_count,
    format_duration,
    format_interval,
    format_number,
    format_p_value,
    format_percent,
    format_signed,
)
from whinchat.report.text_table import TextTable
from whinchat.storage.predictions import StoredPredictions
from whinchat.storage.run_record import RunRecord


@dataclass(frozen=True)
class CompareRow:
    """One run. Figures are those of label scoring unless their name says ``generate``; None: not measured.

    ``measured_on`` numbers the rows it was measured on, from 1: only runs with equal numbers compare fairly.
    ``other_metrics`` holds every registered metric but macro-F1 after training; in JSON its keys stand one level up.
    """

    name: str
    measured_on: int
    split: str
    rows: int
    model: str
    method: str
    load_in: str
    trainable_parameters: int
    before_macro_f1: float
    before_interval: Interval | None
    after_macro_f1: float
    after_interval: Interval | None
    other_metrics: dict[str, float]
    generate_macro_f1: float | None
    invalid_rate: float | None
    train_seconds: float | None
    peak_memory_bytes: int


@dataclass(frozen=True)
class RunPair:
    """Two runs on the same rows; ``paired`` is ``second`` against ``first`` in label scoring."""

    first: str
    second: str
    paired: PairedTest


@dataclass(frozen=True)
class RunComparison:
    """Rows in the order given; ``notes`` says what keeps them from being compared fairly."""

    rows: tuple[CompareRow, ...]
    pairs: tuple[RunPair, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        record = asdict(self)
        record["rows"] = [_flat(row) for row in record["rows"]]
        return record

    def table(self) -> TextTable:
        """The rows as text cells, for a terminal or a page."""
        columns = (
            "run", "model", "method", "trainable", "macro-F1 before", "macro-F1 after",
            *(METRICS[name].heading for name in _other_metrics()), "generate macro-F1",
            "invalid", "training", "peak memory",
        )  # fmt: skip
        marked = any(row.measured_on > 1 for row in self.rows)
        return TextTable("Runs compared", columns, tuple(_cells(row, marked) for row in self.rows))

    def pair_table(self) -> TextTable:
        """The paired tests as text cells."""
        columns = ("against", "run", "macro-F1 gain", "95 % interval", "newly right", "newly wrong", "McNemar")
        rows = tuple(
            (
                pair.first,
                pair.second,
                format_signed(pair.paired.macro_f1_gain),
                format_interval(pair.paired.interval),
                format_count(pair.paired.fixed),
                format_count(pair.paired.broken),
                format_p_value(pair.paired.mcnemar_p),
            )
            for pair in self.pairs
        )
        return TextTable("Two by two, on the same rows", columns, rows, heads=2)


def compare_records(
    records: Mapping[str, RunRecord], predictions: Mapping[str, StoredPredictions] | None = None
) -> RunComparison:
    """Compare runs by name.

    Args:
        records: the runs.
        predictions: what their rows were given, for the paired tests; those without are left out of them.

    Raises:
        RunError: there is no run to compare.
    """
    if not records:
        raise RunError("compare: no runs given; name at least one run folder")
    groups = row_groups(records)
    rows = tuple(_row(name, record, groups[name]) for name, record in records.items())
    pairs = tuple(
        _pair(one, other, records[one], (predictions[one], predictions[other]))
        for one, other in combinations(predictions or {}, 2)
        if predictions and groups[one] == groups[other] and predictions[one].labels == predictions[other].labels
    )
    return RunComparison(rows, pairs, _notes(records, rows, pairs))


def row_groups(records: Mapping[str, RunRecord]) -> dict[str, int]:
    """A number for each run, from 1, that is equal exactly where runs were measured on the same rows."""
    order = list(dict.fromkeys(record.after.split_fingerprint for record in records.values()))
    return {name: order.index(record.after.split_fingerprint) + 1 for name, record in records.items()}


def _pair(first: str, second: str, record: RunRecord, sides: tuple[StoredPredictions, StoredPredictions]) -> RunPair:
    """Both on the same rows, as their fingerprints say."""
    answers = [np.array([one.best for one in side.after]) for side in sides]
    settings = record.recipe.evaluate
    expected, size = np.array(sides[0].expected), len(sides[0].labels)
    found = paired_test(
        "score", expected, *answers, size=size, resamples=settings.bootstrap_resamples, seed=settings.seed
    )
    return RunPair(first, second, found)


def _row(name: str, record: RunRecord, group: int) -> CompareRow:
    before, after, generate, manifest = record.before.score, record.after.score, record.after.generate, record.manifest
    return CompareRow(
        name=name,
        measured_on=group,
        split=record.after.split,
        rows=after.n,
        model=manifest.model_source,
        method=method_name(record.recipe.adapter, manifest.load_in),
        load_in=manifest.load_in,
        trainable_parameters=manifest.trainable_parameters,
        before_macro_f1=before.macro_f1,
        before_interval=before.intervals.get("macro_f1"),
        after_macro_f1=after.macro_f1,
        after_interval=after.intervals.get("macro_f1"),
        other_metrics={name: after.values[name] for name in _other_metrics() if name in after.values},
        generate_macro_f1=None if generate is None else generate.macro_f1,
        invalid_rate=None if generate is None else generate.invalid_rate,
        train_seconds=manifest.timings_seconds.get("train"),
        peak_memory_bytes=manifest.peak_memory_bytes,
    )


def _notes(
    records: Mapping[str, RunRecord], rows: tuple[CompareRow, ...], pairs: tuple[RunPair, ...]
) -> tuple[str, ...]:
    notes = []
    groups: dict[int, list[str]] = {}
    for row in rows:
        groups.setdefault(row.measured_on, []).append(row.name)
    if len(groups) > 1:
        listed = "; ".join(f"[{group}] {', '.join(names)}" for group, names in groups.items())
        notes.append(f"Not measured on the same rows, so compare only within a group: {listed}.")
    if len({record.recipe.task.labels for record in records.values()}) > 1:
        notes.append("The runs do not have the same labels, so their macro-F1 do not mean the same.")
    chosen = [name for name, record in records.items() if record.manifest.selected_on == record.after.split]
    if chosen:
        notes.append(f"Checkpoint chosen on the rows measured on, so optimistic: {', '.join(chosen)}.")
    devices = {record.manifest.device for record in records.values()}
    if len(devices) > 1:
        notes.append(f"Times and memory come from different devices: {', '.join(sorted(devices))}.")
    if len(pairs) > 1:
        notes.append(f"{format_count(len(pairs))} pairs were tested and their p-values are not corrected for that.")
    if pairs:
        notes.append("A pair of runs says nothing about their methods: that takes several seeds of each.")
    return tuple(notes)


def _cells(row: CompareRow, marked: bool) -> tuple[str, ...]:
    return (
        f"{row.name} [{row.measured_on}]" if marked else row.name,
        row.model,
        row.method,
        format_count(row.trainable_parameters),
        _figure(row.before_macro_f1, row.before_interval),
        _figure(row.after_macro_f1, row.after_interval),
        *(format_number(row.other_metrics.get(name)) for name in _other_metrics()),
        format_number(row.generate_macro_f1),
        format_percent(row.invalid_rate),
        format_duration(row.train_seconds),
        format_bytes(row.peak_memory_bytes),
    )


def _other_metrics() -> list[str]:
    return [name for name in METRICS if name != "macro_f1"]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its ``other_metrics`` in place of their key."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= value if key == "other_metrics" else {key: value}
    return flat


def _figure(value: float, interval: Interval | None) -> str:
    return (
        format_number(value)
        if interval is None
        else f"{format_number(value)} ({format_number(interval.low)}–{format_number(interval.high)})"
    )
