"""Compare several runs, and note differences that make the comparison unfair."""

from collections.abc import Collection, Mapping
from itertools import combinations

import numpy as np

from whinchat.errors import RunError
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.metrics import paired_test
from whinchat.evaluation.results import Mode
from whinchat.recipe.loader import conflicting_keys, setting_values
from whinchat.recipe.method_names import method_name
from whinchat.report.comparison_tables import other_metrics
from whinchat.report.formatting import format_count
from whinchat.report.published_figures import shown_value
from whinchat.storage.predictions import StoredPredictions
from whinchat.storage.run_comparison import ComparisonRow, DifferingSetting, RunComparison, RunPair, SeedGroup
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
    without = _without_answers(records, predictions or {})
    pairs = tuple(
        _pair(
            first,
            second,
            records[first],
            (predictions[first], predictions[second]),
            by_scores=not without.isdisjoint({first, second}),
        )
        for first, second in combinations(predictions or {}, 2)
        if predictions and groups[first] == groups[second] and predictions[first].labels == predictions[second].labels
    )
    notes = _notes(records, rows, pairs, without)
    return RunComparison(rows, pairs, notes, _settings(records), _seed_groups(records, groups))


def row_groups(records: Mapping[str, RunRecord]) -> dict[str, int]:
    """Return a number for each run, from 1; runs have the same number if they were evaluated on the same rows."""
    fingerprints = list(dict.fromkeys(record.after.split_fingerprint for record in records.values()))
    return {name: fingerprints.index(record.after.split_fingerprint) + 1 for name, record in records.items()}


def _without_answers(records: Mapping[str, RunRecord], predictions: Mapping[str, StoredPredictions]) -> set[str]:
    """The calibrated runs whose predictions hold no calibrated answers, as those of version 0.1.0."""
    return {
        name
        for name, stored in predictions.items()
        if records[name].reliability is not None and any(row.probabilities is None for row in stored.after)
    }


def _pair(
    first: str,
    second: str,
    record: RunRecord,
    sides: tuple[StoredPredictions, StoredPredictions],
    *,
    by_scores: bool,
) -> RunPair:
    """The paired test of two runs whose fingerprints say that they were evaluated on the same rows.

    ``by_scores`` compares label scoring, for runs of which one stores no answers.
    """
    answers = [
        np.array([prediction.best if by_scores else prediction.answer for prediction in side.after]) for side in sides
    ]
    expected, size = np.array(sides[0].expected), len(sides[0].labels)
    mode: Mode = "score" if by_scores else record.shipped.mode
    paired = paired_test(mode, expected, *answers, size=size, settings=record.recipe.evaluate)
    return RunPair(first, second, paired)


def _settings(records: Mapping[str, RunRecord]) -> tuple[DifferingSetting, ...]:
    """The keys of the recipes that differ between the runs, but for those that change neither training nor answers."""
    first, *others = (record.recipe for record in records.values())
    keys = sorted({key for other in others for key in conflicting_keys(first, other)} - {"name"})
    values = [setting_values(record.recipe) for record in records.values()]
    return tuple(DifferingSetting(key, tuple(shown_value(key, known.get(key)) for known in values)) for key in keys)


def _seed_groups(records: Mapping[str, RunRecord], groups: Mapping[str, int]) -> tuple[SeedGroup, ...]:
    """The runs that differ in their seed alone, where there are two or more."""
    left, found = list(records), []
    while left:
        first = left[0]
        same = [name for name in left if groups[name] == groups[first] and _same_but_seed(records, first, name)]
        left = [name for name in left if name not in same]
        seeds = tuple(records[name].recipe.train.seed for name in same)
        if len(set(seeds)) > 1:
            values = {
                metric: [records[name].shipped.values[metric] for name in same]
                for metric in METRICS
                if all(metric in records[name].shipped.values for name in same)
            }
            means = {metric: float(np.mean(of_runs)) for metric, of_runs in values.items()}
            deviations = {metric: float(np.std(of_runs, ddof=1)) for metric, of_runs in values.items()}
            found.append(SeedGroup(tuple(same), seeds, means, deviations))
    return tuple(found)


def _same_but_seed(records: Mapping[str, RunRecord], first: str, second: str) -> bool:
    keys = conflicting_keys(records[first].recipe, records[second].recipe)
    return set(keys) <= {"name", "train.seed"}


def _row(name: str, record: RunRecord, group: int) -> ComparisonRow:
    before, after, generate, manifest = record.before.score, record.shipped, record.after.generate, record.manifest
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
        seed=record.recipe.train.seed,
        score_macro_f1=record.after.score.macro_f1,
        generate_rows=None if generate is None else generate.n,
    )


def _notes(
    records: Mapping[str, RunRecord],
    rows: tuple[ComparisonRow, ...],
    pairs: tuple[RunPair, ...],
    without_answers: Collection[str],
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
    learned = [
        name
        for name, record in records.items()
        if (record.manifest.data_report.get("learned") or {}).get(record.after.split)
    ]
    if learned:
        notes.append(
            "These runs start from a model that had learned some of the evaluated texts, so their metrics are "
            f"optimistic: {', '.join(learned)}."
        )
    devices = {record.manifest.device for record in records.values()}
    if len(devices) > 1:
        notes.append(f"Times and memory were measured on different devices: {', '.join(sorted(devices))}.")
    if len(pairs) > 1:
        notes.append(
            f"The p-values of the {format_count(len(pairs))} paired tests are not corrected for multiple comparisons."
        )
    if pairs and without_answers:
        notes.append(
            "These runs store no calibrated answers, because version 0.1.0 calibrated them, so their paired tests "
            f"compare label scoring: {', '.join(sorted(without_answers))}. `whinchat calibrate RUN` adds the answers."
        )
    if pairs:
        notes.append(
            "A difference between two runs does not show which method is better. `whinchat arena` compares methods: it "
            "trains each with several seeds on the same rows."
        )
    return tuple(notes)
