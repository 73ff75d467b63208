"""Print the results of runs, evaluations, comparisons, reviews and arenas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.text import Text

import whinchat
from whinchat.cli.output import emit_json, out, print_grid, print_line, print_table
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Evaluation, Metrics
from whinchat.report.answer_modes import mode_title, modes_to_report, sample_title
from whinchat.report.comparison_tables import comparison_table, differing_settings_table, pair_table, seeds_table
from whinchat.report.formatting import (
    BASELINE_NAMES,
    IN_SAMPLE_SENTENCE,
    MODE_NAMES,
    absent_sentence,
    format_bytes,
    format_count,
    format_duration,
    format_metric,
    format_number,
    format_percent,
)
from whinchat.report.published_figures import presented, published_figures
from whinchat.storage.run_folder import RunFolder
from whinchat.wording import counted


def print_run(record: whinchat.RunRecord, path: Path) -> None:
    """Print the metrics before and after training, the cost, and where report and model card are."""
    folder, manifest = RunFolder(path), record.manifest
    before, after = record.before, record.after
    measured = [
        (shown.title, when, metrics)
        for shown in modes_to_report(record)
        for when, metrics in (("before", shown.before), ("after", shown.after))
        # Before training, there are no calibrated answers to print.
        if (shown.mode, when) != ("calibrated", "before")
    ]
    measured += [(BASELINE_NAMES[baseline.name], "", baseline.metrics) for baseline in record.baselines]
    rows = [(name, when, *_metric_cells(metrics)) for name, when, metrics in measured if metrics is not None]
    title = Text(f"{presented(record).recipe.name}: {before.split}, {before.score.n:,} texts")
    warnings = whinchat.bad_result_warnings(record)
    for warning in warnings:
        out.print(f"[bold red]warning:[/] {escape(warning)}", soft_wrap=True)
    print_grid(("measured by", "", *_metric_columns()), rows, title)
    _print_absent(after)
    if (published := published_figures(record)) is not None:
        print_line(f"{published.title} {published.figures} {published.caveats}")
    if (train_seconds := manifest.timings_seconds.get("train")) is not None:
        print_line(
            f"Trained {format_count(manifest.trainable_parameters)} of {format_count(manifest.parameters)} parameters "
            f"in {format_duration(train_seconds)}; the whole run took "
            f"{format_duration(sum(manifest.timings_seconds.values()))}, with a peak memory of "
            f"{format_bytes(manifest.peak_memory_bytes)}"
        )
    print_line(f"Report: {folder.report}\nModel card: {folder.card}")
    if not warnings:
        print_line(f'Try it: whinchat predict {path} "a text"')


def print_evaluation(evaluation: whinchat.RunEvaluation) -> None:
    """Print the metrics of an evaluation, and those of each label."""
    scored, calibrated = evaluation.evaluation.score, evaluation.calibrated
    metrics_of = {mode_title(evaluation.evaluation, mode): evaluation.evaluation.of_mode(mode) for mode in MODE_NAMES}
    metrics_of[MODE_NAMES["calibrated"]] = calibrated
    if (sample := evaluation.evaluation.score_of_generated) is not None:
        metrics_of[sample_title(MODE_NAMES["score"], sample)] = sample
    rows = [(name, *_metric_cells(metrics)) for name, metrics in metrics_of.items() if metrics is not None]
    print_grid(("measured by", *_metric_columns()), rows, Text(f"{evaluation.evaluation.split}, {scored.n:,} texts"))
    label_rows: list[Sequence[str | Text]] = [
        (Text(label.label), *map(format_number, (label.precision, label.recall, label.f1)), format_count(label.support))
        for label in (calibrated or scored).per_label
    ]
    best = MODE_NAMES[(calibrated or scored).mode]
    print_grid(("label", "precision", "recall", "F1", "rows"), label_rows, f"Each label, {best}")
    _print_absent(evaluation.evaluation)
    if evaluation.in_sample and calibrated is not None:
        print_line(IN_SAMPLE_SENTENCE)
    print_learned(evaluation)


def print_learned(evaluation: whinchat.RunEvaluation | whinchat.QuestionsEvaluation) -> None:
    """Print how many of the evaluated texts the classifier was trained on, where it was on any."""
    if evaluation.learned_texts:
        print_line(
            f"The classifier was trained on {counted(evaluation.learned_texts, 'text')} of these, so all metrics are "
            "optimistic."
        )


def print_comparison(comparison: whinchat.RunComparison, figure: Path) -> None:
    """Print the runs side by side, the settings that differ, the paired tests, and where the figure is."""
    for build in (comparison_table, differing_settings_table, seeds_table, pair_table):
        table = build(comparison)
        print_table(table, title=table.caption)
    for note in comparison.notes:
        print_line(note)
    print_line(f"Figure: {figure}")


def print_arena(results: whinchat.ArenaResults, folder: Path, as_json: bool) -> None:
    """Print the results of every method, the comparisons and the conclusions, or one JSON document."""
    # Imported here because it loads scipy, which other commands do not need.
    from whinchat.arena.arena_tables import brief_results_table, comparisons_table, conclusions

    if as_json:
        emit_json({"arena": str(folder), **results.to_dict(), "sentences": list(conclusions(results))})
        return
    for standings in results.standings:
        results_of = brief_results_table(standings, with_costs=standings is results.standings[0])
        for table in (results_of, comparisons_table(standings)):
            print_table(table, title=table.caption)
    for sentence in conclusions(results):
        print_line(sentence)
    print_line(f"All results: {folder / 'results.md'}")


def _print_absent(evaluation: Evaluation) -> None:
    if sentence := absent_sentence(evaluation.score, evaluation.split):
        print_line(sentence)


def _metric_columns() -> list[str]:
    """Return the headings of the cells that ``_metric_cells`` returns; the first metric has an interval."""
    first, *others = (metric.heading for metric in METRICS.values())
    return [f"{first} (95 % interval)", *others, "invalid"]


def _metric_cells(metrics: Metrics) -> list[str]:
    first, *others = METRICS
    numbers = (format_number(metrics.values.get(name)) for name in others)
    return [f"[bold]{format_metric(metrics, first)}[/]", *numbers, format_percent(metrics.invalid_rate)]
