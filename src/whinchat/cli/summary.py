"""What a person sees when a run, an evaluation or a comparison is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from whinchat.again import Remeasured
from whinchat.cli.output import emit_json, out, print_table
from whinchat.errors import RunError
from whinchat.evaluation.priors import Reestimation
from whinchat.evaluation.records import Measured
from whinchat.publish.folder import RunFolder
from whinchat.publish.records import RunRecord
from whinchat.publish.wording import DECIDED, MODES, count, duration, memory, number, percent, verdict, with_interval


def print_run(record: RunRecord, path: Path) -> None:
    """Before and after, what it cost, and where to look."""
    folder, manifest = RunFolder(path), record.manifest
    table = Table(title=Text(f"{record.recipe.name}: {record.before.split}, {record.before.score.n:,} texts"))
    for column in ("measured by", "", "macro-F1 (95 % interval)", "macro-recall", "accuracy", "invalid"):
        table.add_column(column)
    for mode in ("score", "generate"):
        for when, evaluation in (("before", record.before), ("after", record.after)):
            if (measured := getattr(evaluation, mode)) is not None:
                table.add_row(MODES[mode], when, *_figures(measured))
    if record.trust is not None:
        table.add_row(DECIDED, "after", *_figures(record.trust.decided))
    out.print(table)
    if (reference := record.recipe.reference) and reference.after_macro_f1 is not None:
        out.print(f"{reference.title}: macro-F1 {number(reference.after_macro_f1)} after training", markup=False)
    if (trained := manifest.timings_seconds.get("train")) is not None:
        out.print(
            f"Trained {count(manifest.trainable_parameters)} of {count(manifest.parameters)} parameters "
            f"in {duration(trained)}; all in {duration(sum(manifest.timings_seconds.values()))}, "
            f"peak memory {memory(manifest.peak_memory_bytes)}"
        )
    out.print(f"Report: {folder.report}\nModel card: {folder.card}", soft_wrap=True, markup=False)
    out.print(f'Use it: whinchat predict {path} "a text"', soft_wrap=True, markup=False)


def print_evaluation(found: Remeasured) -> None:
    """One evaluation as a table, with figures of each label beneath; then what label shares the texts seem to have."""
    evaluation, reweighed = found.evaluation, found.reweighed
    table = Table(title=f"{evaluation.split}, {evaluation.score.n:,} texts")
    for column in ("measured by", "macro-F1 (95 % interval)", "macro-recall", "accuracy", "invalid"):
        table.add_column(column)
    ways = {
        MODES["score"]: evaluation.score,
        MODES["generate"]: evaluation.generate,
        DECIDED: found.decided,
        f"{DECIDED}, label shares re-estimated": None if reweighed is None else reweighed.reestimated,
    }
    for name, measured in ways.items():
        if measured is not None:
            table.add_row(name, *_figures(measured))
    out.print(table)
    best = MODES["score"] if found.decided is None else DECIDED
    labels = Table("label", "precision", "recall", "F1", "rows", title=f"Each label, {best}")
    for one in (found.decided or evaluation.score).per_label:
        labels.add_row(Text(one.label), number(one.precision), number(one.recall), number(one.f1), count(one.support))
    out.print(labels)
    if reweighed is not None:
        print_reestimation(reweighed.reestimation, out, reweighed.actual)
    if found.in_sample and found.decided is not None:
        out.print(
            "Calibration was fitted on these rows, which flatters it a little; the report tells how it does on others.",
            soft_wrap=True,
        )


def print_reestimation(found: Reestimation, console: Console, actual: Sequence[float] | None = None) -> None:
    """Estimated label shares beside the fitted ones, how many answers change, and the verdict."""
    table = Table("label", "share in validation", "estimated share", *(["true share"] if actual else []))
    for at, label in enumerate(found.labels):
        shares = (found.fitted[at], found.estimated[at], *([actual[at]] if actual else []))
        table.add_row(Text(label), *map(percent, shares))
    console.print(table)
    console.print(
        f"Re-estimated label shares change {count(found.changed)} of {count(found.texts)} answers. "
        f"Verdict: {verdict(found)}.",
        soft_wrap=True,
        markup=False,
    )


def print_comparison(paths: Sequence[Path], folder: Path, as_json: bool) -> None:
    """Several runs as a table, and their figure in ``folder``."""
    from whinchat.publish.compare import compare_runs
    from whinchat.publish.predictions import read_predictions

    records = {_name(path, paths): RunFolder(path).read() for path in paths}
    if len(records) < len(paths):
        raise RunError("compare: the same run is named twice; name each run once")
    predictions = {
        name: read_predictions(RunFolder(path).predictions) for name, path in zip(records, paths, strict=True)
    }
    comparison = compare_runs(records, predictions)
    if as_json:
        emit_json(comparison.to_dict())
        return
    from whinchat.publish.figures import compare_figure

    for content in (comparison.table(), comparison.pair_table()):
        print_table(content)
    for note in comparison.notes:
        out.print(note, soft_wrap=True, markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    figure, _ = compare_figure(records, folder / "comparison.png")
    out.print(f"Figure: {figure}", soft_wrap=True, markup=False)


def _name(path: Path, paths: Sequence[Path]) -> str:
    """The folder's own name, or its path where two share it."""
    own = path.resolve().name
    return own if sum(other.resolve().name == own for other in paths) == 1 else str(path)


def _figures(measured: Measured) -> tuple[str, ...]:
    return (
        f"[bold]{with_interval(measured, 'macro_f1')}[/]",
        number(measured.macro_recall),
        number(measured.accuracy),
        percent(measured.invalid_rate),
    )
