"""Compare several runs, and note differences that make the comparison unfair."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
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
    format_estimate,
    format_interval,
    format_number,
    format_p_value,
    format_percent,
    format_signed,
)
from whinchat.report.text_table import Columns, TextTable
from whinchat.storage.predictions import StoredPredictions
from whinchat.storage.run_record import RunRecord


@dataclass(frozen=True)
class ComparisonRow:
    """The metrics of one run, with label scoring unless the name says otherwise; None if not measured.

    Attributes:
        measured_on: number of the set of evaluated rows, from 1; only runs with equal numbers compare fairly.
        rows: number of evaluated rows.
        other_metrics: every registered metric but macro-F1, after training; in JSON its keys stand one level up.
        generate_macro_f1: macro-F1 with free generation.
        invalid_rate: share of generated answers that are not a label.
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
    """A paired test of two runs on the same rows, ``second`` against ``first``, with label scoring."""

    first: str
    second: str
    paired: PairedTest


@dataclass(frozen=True)
class RunComparison:
    """A comparison of runs.

    Attributes:
        rows: one row for each run, in the order of the arguments.
        pairs: the paired tests of all runs that were evaluated on the same rows.
        notes: what a reader must know to compare the runs fairly.
    """

    rows: tuple[ComparisonRow, ...]
    pairs: tuple[RunPair, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        record = asdict(self)
        record["rows"] = [_flat(row) for row in record["rows"]]
        return record

    def table(self) -> TextTable:
        """Return the metrics of the runs as a table of text cells."""
        numbered = any(row.measured_on > 1 for row in self.rows)
        columns: Columns[ComparisonRow] = {
            "run": lambda row: f"{row.name} [{row.measured_on}]" if numbered else row.name,
            "base model": lambda row: row.model,
            "method": lambda row: row.method,
            "trainable parameters": lambda row: format_count(row.trainable_parameters),
            "macro-F1 before": lambda row: format_estimate(row.before_macro_f1, row.before_interval),
            "macro-F1 after": lambda row: format_estimate(row.after_macro_f1, row.after_interval),
            **{METRICS[name].heading: partial(_format_other_metric, name) for name in _other_metrics()},
            "macro-F1, free generation": lambda row: format_number(row.generate_macro_f1),
            "invalid answers": lambda row: format_percent(row.invalid_rate),
            "training time": lambda row: format_duration(row.train_seconds),
            "peak memory": lambda row: format_bytes(row.peak_memory_bytes),
        }
        return TextTable.of("Comparison of runs", self.rows, columns)

    def pair_table(self) -> TextTable:
        """Return the paired tests as a table of text cells."""
        columns: Columns[RunPair] = {
            "first run": lambda pair: pair.first,
            "second run": lambda pair: pair.second,
            "macro-F1, second minus first": lambda pair: format_signed(pair.paired.macro_f1_gain),
            "95 % interval": lambda pair: format_interval(pair.paired.interval),
            "only second correct": lambda pair: format_count(pair.paired.fixed),
            "only first correct": lambda pair: format_count(pair.paired.broken),
            "McNemar test": lambda pair: format_p_value(pair.paired.mcnemar_p),
        }
        return TextTable.of("Paired tests of two runs on the same rows", self.pairs, columns, heads=2)


def compare_records(
    records: Mapping[str, RunRecord], predictions: Mapping[str, StoredPredictions] | None = None
) -> RunComparison:
    """Compare runs.

    Args:
        records: the runs by name.
        predictions: the stored predictions by name of the run; a run without them is in no paired test.

    Raises:
        RunError: there is no run to compare.
    """
    if not records:
        raise RunError("compare: no runs given; name at least one run folder")
    groups = row_groups(records)
    rows = tuple(_row(name, record, groups[name]) for name, record in records.items())
    pairs = tuple(
        _pair(first, second, records[first], (predictions[first], predictions[second]))
        for first, second in combinations(predictions or {}, 2)
        if predictions and groups[first] == groups[second] and predictions[first].labels == predictions[second].labels
    )
    return RunComparison(rows, pairs, _notes(records, rows, pairs))


def row_groups(records: Mapping[str, RunRecord]) -> dict[str, int]:
    """Return a number for each run, from 1; runs have the same number if they were evaluated on the same rows."""
    fingerprints = list(dict.fromkeys(record.after.split_fingerprint for record in records.values()))
    return {name: fingerprints.index(record.after.split_fingerprint) + 1 for name, record in records.items()}


def _pair(first: str, second: str, record: RunRecord, sides: tuple[StoredPredictions, StoredPredictions]) -> RunPair:
    """The paired test of two runs whose fingerprints say that they were evaluated on the same rows."""
    answers = [np.array([prediction.best for prediction in side.after]) for side in sides]
    expected, size = np.array(sides[0].expected), len(sides[0].labels)
    paired = paired_test("score", expected, *answers, size=size, settings=record.recipe.evaluate)
    return RunPair(first, second, paired)


def _row(name: str, record: RunRecord, group: int) -> ComparisonRow:
    before, after, generate, manifest = record.before.score, record.after.score, record.after.generate, record.manifest
    return ComparisonRow(
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
    records: Mapping[str, RunRecord], rows: tuple[ComparisonRow, ...], pairs: tuple[RunPair, ...]
) -> tuple[str, ...]:
    notes = []
    groups: dict[int, list[str]] = {}
    for row in rows:
        groups.setdefault(row.measured_on, []).append(row.name)
    if len(groups) > 1:
        listed = "; ".join(f"[{group}] {', '.join(names)}" for group, names in groups.items())
        notes.append(f"The runs were evaluated on different rows; compare only runs within a group: {listed}.")
    if len({record.recipe.task.labels for record in records.values()}) > 1:
        notes.append("The runs have different labels, so their macro-F1 cannot be compared.")
    selected = [name for name, record in records.items() if record.manifest.selected_on == record.after.split]
    if selected:
        notes.append(
            "These runs selected their checkpoint on the evaluated rows, so their metrics are optimistic: "
            f"{', '.join(selected)}."
        )
    devices = {record.manifest.device for record in records.values()}
    if len(devices) > 1:
        notes.append(f"Times and memory were measured on different devices: {', '.join(sorted(devices))}.")
    if len(pairs) > 1:
        notes.append(
            f"The p-values of the {format_count(len(pairs))} paired tests are not corrected for multiple comparisons."
        )
    if pairs:
        notes.append(
            "A difference between two runs does not show which method is better; compare several seeds of each method."
        )
    return tuple(notes)


def _format_other_metric(name: str, row: ComparisonRow) -> str:
    return format_number(row.other_metrics.get(name))


def _other_metrics() -> list[str]:
    return [name for name in METRICS if name != "macro_f1"]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the entries of ``other_metrics`` in place of that key."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= value if key == "other_metrics" else {key: value}
    return flat
