"""Build the tables of card and report of a run with several questions as cells of text."""

from collections.abc import Iterator

from whinchat.evaluation.question_metric_registry import QUESTION_METRICS
from whinchat.evaluation.question_results import AnswerCounts, QuestionMetrics, QuestionResult
from whinchat.recipe.question import Question
from whinchat.report.formatting import (
    BASELINE_NAMES,
    NOT_MEASURED,
    format_count,
    format_estimate,
    format_number,
)
from whinchat.report.question_titles import TYPE_NAMES, gain_text
from whinchat.report.tables import MOST_LABELS, Headline
from whinchat.report.text_table import Columns, TextTable
from whinchat.storage.questions_record import QuestionsRecord

SHIPPED = "after training, calibrated"


def asked_table(record: QuestionsRecord) -> TextTable:
    """Return what is asked: each question with its type and options."""
    columns: Columns[tuple[str, Question]] = {
        "question": lambda item: item[0],
        "instructions": lambda item: item[1].instructions,
        "answer": lambda item: TYPE_NAMES[item[1].type],
        "options": lambda item: _listed(item[1].names),
    }
    return TextTable.of("What is asked", record.recipe.task.questions.items(), columns, numeric=False)


def _listed(names: tuple[str, ...]) -> str:
    """The names in their order; of a long list the first ones, and how many follow."""
    if len(names) > MOST_LABELS:
        return f"{', '.join(names[:MOST_LABELS])} and {len(names) - MOST_LABELS} more"
    return ", ".join(names)


def main_metrics_table(record: QuestionsRecord) -> TextTable:
    """Return the main metric of each question before and after training; the answers after are those users get."""
    columns: Columns[QuestionResult] = {
        "question": lambda result: result.name,
        "metric": lambda result: result.headline.heading,
        "texts": lambda result: format_count(result.rows),
        "before training": lambda result: metric_cell(result.before, result.headline.name),
        "after training": lambda result: metric_cell(result.shipped, result.headline.name),
        "change": lambda result: gain_text(result.paired),
    }
    return TextTable.of("Main metric of each question", record.questions, columns, heads=2)


def metrics_table(result: QuestionResult) -> TextTable:
    """Return every metric of the question's type before and after training."""
    stages = _stages(result)
    rows = tuple(
        (metric.heading, *(metric_cell(metrics, name) for metrics in stages.values()))
        for name, metric in QUESTION_METRICS[result.type].items()
    )
    return TextTable(f"Metrics of {result.name}", ("metric", *stages), rows)


def _stages(result: QuestionResult) -> dict[str, QuestionMetrics]:
    """Ways of answering, by the heading of their column."""
    stages = {"before training": result.before, "after training": result.after}
    return stages if result.calibrated is None else {**stages, SHIPPED: result.calibrated}


def metric_cell(metrics: QuestionMetrics, name: str) -> str:
    """Return a metric with its 95 % interval in brackets."""
    return format_estimate(metrics.values.get(name), metrics.intervals.get(name))


def options_table(result: QuestionResult) -> TextTable:
    """Return how each option of a ``multi`` question is answered, and above which probability it applies."""
    thresholds = result.calibration.thresholds if result.calibration else (None,) * len(result.options)
    rows = tuple(
        (
            new.option,
            format_count(new.support),
            format_number(old.f1),
            format_estimate(new.f1, new.interval),
            format_number(new.precision),
            format_number(new.recall),
            format_number(threshold),
        )
        for old, new, threshold in zip(result.before.options, result.shipped.options, thresholds, strict=True)
    )
    columns = ("option", "applies to texts", "F1 before", "F1 after", "precision after", "recall after", "threshold")
    return TextTable(f"Options of {result.name} before and after training", columns, rows)


def question_calibration_table(record: QuestionsRecord) -> TextTable:
    """Return how well the probabilities fit the outcomes, for each question."""
    names = {
        "ece": "expected calibration error (15 bins; lower is better)",
        "brier": "Brier score (0 to 2; lower is better)",
        "cross_entropy": "cross entropy against the shares (nats; lower is better)",
    }
    rows = tuple(
        (
            result.name,
            name,
            *(
                format_number(None if metrics is None else getattr(metrics, field))
                for metrics in (result.before, result.after, result.calibrated)
            ),
        )
        for result in record.questions
        for field, name in names.items()
        if field != "cross_entropy" or result.before.cross_entropy is not None
    )
    columns = ("question", "metric", "before training", "after training", SHIPPED)
    return TextTable("Calibration of the predicted probabilities", columns, rows, heads=2)


def question_baselines_table(record: QuestionsRecord) -> TextTable:
    """Return each question's main metric beside those of simple methods that were fitted on the same training texts."""
    rows: list[tuple[str, ...]] = []
    for result in record.questions:
        name = result.headline.name
        title = f"{result.name} ({result.headline.label})"
        rows.append((title, "this classifier", metric_cell(result.shipped, name), ""))
        rows += [
            (title, BASELINE_NAMES[one.name], metric_cell(one.metrics, name), gain_text(one.paired))
            for one in result.baselines
        ]
    columns = ("question", "method", "main metric", "gain over the method")
    return TextTable("The classifier beside simple methods", columns, tuple(rows), heads=2)


def answer_counts_table(record: QuestionsRecord) -> TextTable:
    """Return the number of texts of each answer in each split."""
    splits = list(dict.fromkeys(counts.split for result in record.questions for counts in result.data))
    rows = [row for result in record.questions for row in _count_rows(result, splits)]
    return TextTable("Number of texts of each answer", ("question", "answer", *splits), tuple(rows), heads=2)


def _count_rows(result: QuestionResult, splits: list[str]) -> Iterator[tuple[str, ...]]:
    by_split: dict[str, AnswerCounts] = {counts.split: counts for counts in result.data}
    own = [by_split.get(split) for split in splits]
    for index, option in enumerate(result.options):
        yield result.name, option, *(format_count(None if one is None else one.counts[index]) for one in own)
    yield result.name, "(no answer)", *(format_count(None if one is None else one.missing) for one in own)
    yield result.name, "(all texts)", *(format_count(None if one is None else one.rows) for one in own)


def question_headlines(record: QuestionsRecord) -> tuple[Headline, ...]:
    """Return the main metric of each question before and after training, for the top of the report."""
    return tuple(
        Headline(
            f"{result.name}: {result.headline.title}",
            format_number(result.before.values[result.headline.name]),
            format_number(result.shipped.values[result.headline.name]),
            f"Change by training: {gain_text(result.paired)}",
        )
        for result in record.questions
    )


def rows_sentence(result: QuestionResult) -> str:
    """Say how many texts of the evaluated split have an answer."""
    total = result.rows + result.missing
    parts = [f"{format_count(result.rows)} of {format_count(total)} texts of {result.split} have an answer."]
    if result.incomplete:
        parts.append(f"{format_count(result.incomplete)} of them say of some options only whether they apply.")
    return " ".join(parts)


def threshold_sentence(result: QuestionResult) -> str:
    """Say how the thresholds of a ``multi`` question were chosen."""
    if result.calibration is None:
        return f"Thresholds: {NOT_MEASURED}, because the run has no validation split; an option applies above 0.500."
    return (
        "An option applies if its calibrated probability is above its threshold. The threshold is 0.500, unless "
        "another threshold, which favours the rarer answer, reliably raised the metric of the recipe on "
        f"{result.calibration.fitted_on}. The probabilities that users get have this choice in them, so "
        "an option applies if its shown probability is above 0.500."
    )
