"""Print what was measured: runs, evaluations, comparisons, reviews and arenas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

import whinchat
from whinchat.cli.output import out, print_line, print_table
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Metrics
from whinchat.report.formatting import (
    CALIBRATED_NAME,
    MODE_NAMES,
    format_bytes,
    format_count,
    format_duration,
    format_metric,
    format_number,
    format_percent,
)
from whinchat.storage.run_folder import RunFolder

# Pairs of labels that a review shows.
_LABEL_PAIRS = 6


def print_run(record: whinchat.RunRecord, path: Path) -> None:
    """Print the metrics before and after training, the cost, and where report and model card are."""
    folder, manifest = RunFolder(path), record.manifest
    table = Table(title=Text(f"{record.recipe.name}: {record.before.split}, {record.before.score.n:,} texts"))
    for column in ("measured by", "", *_metric_columns(), "invalid"):
        table.add_column(column)
    for mode in ("score", "generate"):
        for when, evaluation in (("before", record.before), ("after", record.after)):
            if (metrics := getattr(evaluation, mode)) is not None:
                table.add_row(MODE_NAMES[mode], when, *_metric_cells(metrics))
    if record.reliability is not None:
        table.add_row(CALIBRATED_NAME, "after", *_metric_cells(record.reliability.calibrated))
    out.print(table)
    if (reference := record.recipe.reference) and reference.after_macro_f1 is not None:
        out.print(f"{reference.title}: macro-F1 {format_number(reference.after_macro_f1)} after training", markup=False)
    if (train_seconds := manifest.timings_seconds.get("train")) is not None:
        out.print(
            f"Trained {format_count(manifest.trainable_parameters)} of {format_count(manifest.parameters)} parameters "
            f"in {format_duration(train_seconds)}; the whole run took "
            f"{format_duration(sum(manifest.timings_seconds.values()))}, with a peak memory of "
            f"{format_bytes(manifest.peak_memory_bytes)}"
        )
    print_line(f"Report: {folder.report}\nModel card: {folder.card}")
    print_line(f'Try it: whinchat predict {path} "a text"')


def print_evaluation(evaluation: whinchat.RunEvaluation) -> None:
    """Print the metrics of an evaluation, and those of each label."""
    scored, calibrated = evaluation.evaluation.score, evaluation.calibrated
    table = Table(title=f"{evaluation.evaluation.split}, {scored.n:,} texts")
    for column in ("measured by", *_metric_columns(), "invalid"):
        table.add_column(column)
    metrics_of = {
        MODE_NAMES["score"]: scored,
        MODE_NAMES["generate"]: evaluation.evaluation.generate,
        CALIBRATED_NAME: calibrated,
    }
    for name, metrics in metrics_of.items():
        if metrics is not None:
            table.add_row(name, *_metric_cells(metrics))
    out.print(table)
    best = MODE_NAMES["score"] if calibrated is None else CALIBRATED_NAME
    labels = Table("label", "precision", "recall", "F1", "rows", title=f"Each label, {best}")
    for label in (calibrated or scored).per_label:
        labels.add_row(
            Text(label.label),
            format_number(label.precision),
            format_number(label.recall),
            format_number(label.f1),
            format_count(label.support),
        )
    out.print(labels)
    if evaluation.in_sample and calibrated is not None:
        out.print(
            "The calibrator was fitted on these rows, so the calibrated answers look slightly too good here. The "
            "report of the run has a fair estimate.",
            soft_wrap=True,
        )


def print_comparison(comparison: whinchat.RunComparison, figure: Path) -> None:
    """Print the runs side by side, the paired tests, and where the figure is."""
    for table in (comparison.table(), comparison.pair_table()):
        print_table(table)
    for note in comparison.notes:
        print_line(note)
    print_line(f"Figure: {figure}")


def print_review(review: whinchat.Review, rows: Sequence[whinchat.ReviewedRow], table: Path) -> None:
    """Print the ``rows`` to look at first, and how many labels are probably wrong.

    Args:
        review: the summary.
        rows: the training rows to show.
        table: the file that holds all of them.
    """
    if rows:
        out.print(_reviewed_rows_table(rows))
    share = review.estimated_errors / review.rows
    out.print(
        f"{format_count(review.suspects)} of {format_count(review.rows)} labels look wrong; the estimate for all rows "
        f"is {format_count(round(review.estimated_errors))} wrong labels ({format_percent(share)}).",
        soft_wrap=True,
    )
    if review.pairs:
        pairs = Table("label", "looks like", "rows")
        for pair in review.pairs[:_LABEL_PAIRS]:
            pairs.add_row(Text(pair.given), Text(pair.suspected), format_count(pair.rows))
        out.print(pairs)
    out.print(
        f"The models of the {len(review.folds)} folds reach macro-F1 {format_number(review.macro_f1)} and accuracy "
        f"{format_number(review.accuracy)} against the labels in the data; the review took "
        f"{format_duration(review.seconds)}.",
        soft_wrap=True,
    )
    print_line(f"All rows: {table}")


def _metric_columns() -> list[str]:
    """Return a column for each registered metric; the first one has an interval."""
    first, *others = (metric.heading for metric in METRICS.values())
    return [f"{first} (95 % interval)", *others]


def _metric_cells(metrics: Metrics) -> tuple[str, ...]:
    first, *others = METRICS
    return (
        f"[bold]{format_metric(metrics, first)}[/]",
        *(format_number(metrics.values.get(name)) for name in others),
        format_percent(metrics.invalid_rate),
    )


def _reviewed_rows_table(rows: Sequence[whinchat.ReviewedRow]) -> Table:
    table = Table("row", "label", "p", "model says", "p", "text", title="Labels to look at first")
    for row in rows:
        table.add_row(
            str(row.row),
            Text(row.label),
            format_number(row.label_probability),
            Text(row.model_label),
            format_number(row.model_probability),
            # On one line: a line break of the text would look like the next row.
            Text(" ".join(row.text.split())),
        )
    return table
