"""Print the results of runs whose task asks several questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.text import Text

import whinchat
from whinchat.cli.output import out, print_grid, print_line
from whinchat.cli.printing.results import print_learned
from whinchat.evaluation.question_metric_registry import QUESTION_METRICS
from whinchat.evaluation.question_results import QuestionEvaluation, QuestionMetrics, QuestionResult
from whinchat.report.formatting import (
    BASELINE_NAMES,
    IN_SAMPLE_SENTENCE,
    MODE_NAMES,
    NOT_MEASURED,
    format_count,
    format_duration,
    format_estimate,
    format_number,
)
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder
from whinchat.wording import counted


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


def print_questions_evaluation(evaluation: whinchat.QuestionsEvaluation) -> None:
    """Print every metric of each question, those of each option of ``multi``, and which answers are missing."""
    columns = ("question", "texts", "metric", f"{MODE_NAMES['score']} (95 % interval)", "calibrated (95 % interval)")
    rows: list[Sequence[str | Text]] = [
        (Text(question.name), format_count(question.rows), *cells)
        for question in evaluation.questions
        for cells in _metric_rows(question)
    ]
    print_grid(columns, rows, Text(f"{evaluation.split}, {evaluation.rows:,} texts"))
    for question in evaluation.questions:
        if question.shipped is not None and question.shipped.options:
            _print_options(question, question.shipped)
        if sentence := missing_sentence(question):
            print_line(sentence)
    if evaluation.in_sample:
        print_line(IN_SAMPLE_SENTENCE)
    print_learned(evaluation)


def missing_sentence(question: QuestionEvaluation) -> str:
    """Say which evaluated texts lack an answer to a question; an empty string where none does."""
    if not question.rows:
        return f"{question.name}: not measured, because no text has an answer to this question."
    parts = []
    if question.missing:
        parts.append(f"{counted(question.missing, 'text')} without an answer left out")
    if question.incomplete:
        parts.append(f"{counted(question.incomplete, 'text')} with an answer to some of the options only")
    return f"{question.name}: {'; '.join(parts)}." if parts else ""


def _metric_rows(question: QuestionEvaluation) -> list[tuple[str, ...]]:
    """Return each metric of the question's type, for scores and for calibrated answers; none for no answers."""
    modes = question.score, question.calibrated
    if question.score is None:
        return []
    rows: list[tuple[str, ...]] = [
        (metric.heading, *(NOT_MEASURED if one is None else _with_interval(one, name) for one in modes))
        for name, metric in QUESTION_METRICS[question.type].items()
    ]
    numbers = {"expected calibration error": "ece", "cross entropy against the shares": "cross_entropy"}
    rows += [
        (f"{title} (lower is better)", *(format_number(None if one is None else getattr(one, name)) for one in modes))
        for title, name in numbers.items()
        if getattr(question.score, name) is not None
    ]
    return rows


def _print_options(question: QuestionEvaluation, metrics: QuestionMetrics) -> None:
    rows: list[Sequence[str | Text]] = [
        (Text(one.option), *map(format_number, (one.precision, one.recall, one.f1)), format_count(one.support))
        for one in metrics.options
    ]
    title = Text(f"Each option of {question.name}, {MODE_NAMES[metrics.mode]}")
    print_grid(("option", "precision", "recall", "F1", "applies to texts"), rows, title)


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
