"""Print the results of runs whose task asks several questions."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.text import Text

import whinchat
from whinchat.cli.output import out, print_grid, print_line
from whinchat.evaluation.question_results import QuestionMetrics, QuestionResult
from whinchat.report.formatting import BASELINE_NAMES, format_count, format_duration, format_estimate, format_number
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder


def print_questions_run(record: QuestionsRecord, path: Path) -> None:
    """Print the headline metric of each question before and after training, and where the evidence is."""
    folder, manifest = RunFolder(path), record.manifest
    rows = [_cells(question) for question in record.questions]
    title = Text(f"{record.recipe.name}: {record.split}, {record.evaluated_rows:,} texts")
    headings = ("question", "metric", "before", "after (95 % interval)", "simple method")
    for warning in whinchat.question_warnings(record):
        out.print(f"[bold red]warning:[/] {escape(warning)}", soft_wrap=True)
    print_grid(headings, rows, title)
    if (train_seconds := manifest.timings_seconds.get("train")) is not None:
        print_line(
            f"Trained {format_count(manifest.trainable_parameters)} of {format_count(manifest.parameters)} parameters "
            f"in {format_duration(train_seconds)}; the whole run took "
            f"{format_duration(sum(manifest.timings_seconds.values()))}"
        )
    print_line(f"Report: {folder.report}\nModel card: {folder.card}\nEach question: {folder.decisions}")
    print_line(f'Try it: whinchat predict {path} "a text"')


def _cells(question: QuestionResult) -> tuple[Text | str, ...]:
    name = question.headline.name
    best = max(
        question.baselines,
        key=lambda one: (one.metrics.values.get(name) or 0.0) * (1 if question.headline.higher_is_better else -1),
        default=None,
    )
    simple = "" if best is None else f"{format_number(best.metrics.values.get(name))} ({BASELINE_NAMES[best.name]})"
    return (
        Text(question.name),
        question.headline.heading,
        format_number(question.before.values.get(name)),
        _with_interval(question.shipped, name),
        simple,
    )


def _with_interval(metrics: QuestionMetrics, name: str) -> str:
    return format_estimate(metrics.values.get(name), metrics.intervals.get(name))
