"""Compare several runs, and note differences that make the comparison unfair."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from whinchat.errors import RunError
from whinchat.evaluation.metrics import paired_test
from whinchat.recipe.method_names import method_name
from whinchat.report.comparison_tables import other_metrics
from whinchat.report.formatting import format_count
from whinchat.storage.predictions import StoredPredictions
from whinchat.storage.run_comparison import ComparisonRow, RunComparison, RunPair
from whinchat.storage.run_record import RunRecord


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
        train_rows=train.rows if (train := manifest.splits.get("train")) is not None else None,
        learning_rate=record.recipe.train.learning_rate,
        trainable_parameters=manifest.trainable_parameters,
        before_macro_f1=before.macro_f1,
        before_interval=before.intervals.get("macro_f1"),
        after_macro_f1=after.macro_f1,
        after_interval=after.intervals.get("macro_f1"),
        other_metrics={name: after.values[name] for name in other_metrics() if name in after.values},
        generate_macro_f1=None if generate is None else generate.macro_f1,
        invalid_rate=None if generate is None else generate.invalid_rate,
        first_word_macro_f1=None if (first := record.after.generate_first_word) is None else first.macro_f1,
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
