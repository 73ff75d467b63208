"""What a person sees when a run, an evaluation or a comparison is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from whinchat.cli.output import emit_json, out, print_table
from whinchat.errors import RunError
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Metrics
from whinchat.pipelines.evaluate_run import RunEvaluation
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
from whinchat.storage.run_record import RunRecord


def print_run(record: RunRecord, path: Path) -> None:
    """Before and after, what it cost, and where to look."""
    folder, manifest = RunFolder(path), record.manifest
    table = Table(title=Text(f"{record.recipe.name}: {record.before.split}, {record.before.score.n:,} texts"))
    for column in ("measured by", "", *_metric_columns(), "invalid"):
        table.add_column(column)
    for mode in ("score", "generate"):
        for when, evaluation in (("before", record.before), ("after", record.after)):
            if (measured := getattr(evaluation, mode)) is not None:
                table.add_row(MODE_NAMES[mode], when, *_figures(measured))
    if record.reliability is not None:
        table.add_row(CALIBRATED_NAME, "after", *_figures(record.reliability.calibrated))
    out.print(table)
    if (reference := record.recipe.reference) and reference.after_macro_f1 is not None:
        out.print(f"{reference.title}: macro-F1 {format_number(reference.after_macro_f1)} after training", markup=False)
    if (trained := manifest.timings_seconds.get("train")) is not None:
        out.print(
            f"Trained {format_count(manifest.trainable_parameters)} of {format_count(manifest.parameters)} parameters "
            f"in {format_duration(trained)}; all in {format_duration(sum(manifest.timings_seconds.values()))}, "
            f"peak memory {format_bytes(manifest.peak_memory_bytes)}"
        )
    out.print(f"Report: {folder.report}\nModel card: {folder.card}", soft_wrap=True, markup=False)
    out.print(f'Use it: whinchat predict {path} "a text"', soft_wrap=True, markup=False)


def print_evaluation(found: RunEvaluation) -> None:
    """One evaluation as a table, with figures of each label beneath."""
    evaluation = found.evaluation
    table = Table(title=f"{evaluation.split}, {evaluation.score.n:,} texts")
    for column in ("measured by", *_metric_columns(), "invalid"):
        table.add_column(column)
    ways = {
        MODE_NAMES["score"]: evaluation.score,
        MODE_NAMES["generate"]: evaluation.generate,
        CALIBRATED_NAME: found.calibrated,
    }
    for name, measured in ways.items():
        if measured is not None:
            table.add_row(name, *_figures(measured))
    out.print(table)
    best = MODE_NAMES["score"] if found.calibrated is None else CALIBRATED_NAME
    labels = Table("label", "precision", "recall", "F1", "rows", title=f"Each label, {best}")
    for one in (found.calibrated or evaluation.score).per_label:
        labels.add_row(
            Text(one.label),
            format_number(one.precision),
            format_number(one.recall),
            format_number(one.f1),
            format_count(one.support),
        )
    out.print(labels)
    if found.in_sample and found.calibrated is not None:
        out.print(
            "Calibration was fitted on these rows, which flatters it a little; the report tells how it does on others.",
            soft_wrap=True,
        )


def print_comparison(paths: Sequence[Path], folder: Path, as_json: bool) -> None:
    """Several runs as a table, and their figure in ``folder``."""
    from whinchat.report.comparison import compare_records
    from whinchat.storage.predictions import read_predictions

    records = {_name(path, paths): RunFolder(path).read() for path in paths}
    if len(records) < len(paths):
        raise RunError("compare: the same run is named twice; name each run once")
    predictions = {
        name: read_predictions(RunFolder(path).predictions) for name, path in zip(records, paths, strict=True)
    }
    comparison = compare_records(records, predictions)
    if as_json:
        emit_json(comparison.to_dict())
        return
    from whinchat.report.figures.run_figures import write_comparison_figure

    for content in (comparison.table(), comparison.pair_table()):
        print_table(content)
    for note in comparison.notes:
        out.print(note, soft_wrap=True, markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    figure, _ = write_comparison_figure(records, folder / "comparison.png")
    out.print(f"Figure: {figure}", soft_wrap=True, markup=False)


def _name(path: Path, paths: Sequence[Path]) -> str:
    """The folder's own name, or its path where two share it."""
    own = path.resolve().name
    return own if sum(other.resolve().name == own for other in paths) == 1 else str(path)


def _metric_columns() -> list[str]:
    """A column for each registered metric, the first with its interval."""
    first, *others = (metric.heading for metric in METRICS.values())
    return [f"{first} (95 % interval)", *others]


def _figures(measured: Metrics) -> tuple[str, ...]:
    first, *others = METRICS
    return (
        f"[bold]{format_metric(measured, first)}[/]",
        *(format_number(measured.values.get(name)) for name in others),
        format_percent(measured.invalid_rate),
    )
