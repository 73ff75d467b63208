"""The figures of a run with several questions: one for all questions, one for each question by its type."""

import math
from dataclasses import dataclass
from pathlib import Path

from whinchat.evaluation.question_results import OptionMetrics, QuestionMetrics, QuestionResult
from whinchat.evaluation.results import ReliabilityBin
from whinchat.report.figures.confusion import ConfusionPanel, draw_confusion, fits_narrow
from whinchat.report.figures.curves import draw_reliability, draw_training_curve
from whinchat.report.figures.dots import Estimate, draw_estimates
from whinchat.report.figures.precision_recall import draw_precision_recall
from whinchat.report.figures.run_figures import FigureSpec, kept_step, loss_range
from whinchat.report.formatting import MODE_NAMES, format_count, format_number
from whinchat.report.question_titles import questions_title, result_title
from whinchat.report.titles import change, training_title
from whinchat.storage.questions_record import QuestionsRecord

OVERVIEW = "questions"
SHIPPED = "after training, calibrated"


def question_figures(record: QuestionsRecord) -> tuple[FigureSpec, ...]:
    """Return the figures of a run with several questions, in the order of card and report."""
    questions = record.questions
    return (_overview(record), *map(question_figure, questions), *map(_reliability, questions), _training(record))


def figure_name(question: QuestionResult) -> str:
    """Return the file name, without suffix, of the figure of a question."""
    return f"question_{question.name}"


def question_figure(result: QuestionResult) -> FigureSpec:
    """Return the figure of a question: options for ``multi``, a curve for ``yes_no``, otherwise confusion matrices."""
    title, change = result_title(result), _change(result)
    if result.type == "multi":
        return FigureSpec(
            figure_name(result),
            f"F1 of each option of {result.name} before and after training. {change}",
            lambda theme: draw_estimates(
                [
                    (new.option, format_count(new.support), (_f1(old), _f1(new)))
                    for old, new in zip(result.before.options, result.shipped.options, strict=True)
                ],
                "F1 and its 95 % interval (beside each option: texts to which it applies)"
                if not theme.is_narrow
                else "F1 (· number of texts)",
                title,
                theme,
                (result.headline.title, (_headline(result, result.before), _headline(result, result.shipped))),
            ),
        )
    if result.type == "yes_no":
        return FigureSpec(
            figure_name(result),
            f"Precision against recall of yes for {result.name}, before and after training. {change}",
            lambda theme: draw_precision_recall(result, title, theme),
        )
    order = ", levels from lowest to highest" if result.type == "score" else ""
    panels = (_panel(result, "Before training", result.before), _panel(result, "After training", result.shipped))
    return FigureSpec(
        figure_name(result),
        f"Confusion matrices of {result.name} before and after training{order}. {change}",
        lambda theme: draw_confusion(panels, title, theme),
        fits_narrow(len(result.options)),
    )


def write_question_figures(record: QuestionsRecord, folder: Path) -> tuple[Path, ...]:
    """Write every figure into ``folder`` as PNG and SVG, and return the paths in order."""
    return tuple(path for figure in question_figures(record) for path in figure.write(folder))


def _overview(record: QuestionsRecord) -> FigureSpec:
    rows = [
        (result.name, result.headline.label, (_headline(result, result.before), _headline(result, result.shipped)))
        for result in record.questions
    ]
    title = questions_title(record)
    mode = MODE_NAMES[record.questions[0].shipped.mode]
    return FigureSpec(
        OVERVIEW,
        f"The main metric of each question before and after training. {' '.join(map(_change, record.questions))}",
        lambda theme: draw_estimates(
            rows,
            "metric" if theme.is_narrow else f"metric and its 95 % interval, after training with {mode}",
            title,
            theme,
        ),
    )


@dataclass(frozen=True)
class QuestionCurve:
    """The curve of a question in the reliability diagram."""

    ece: float
    bins: tuple[ReliabilityBin, ...]


def reliability_name(question: QuestionResult) -> str:
    """Return the file name, without suffix, of the reliability diagram of a question."""
    return f"question_{question.name}_reliability"


def _reliability(result: QuestionResult) -> FigureSpec:
    stages = {"before training": result.before, "after training": result.after, SHIPPED: result.calibrated}
    curves = {
        name: QuestionCurve(one.ece, one.bins)
        for name, one in stages.items()
        if one is not None and one.ece is not None
    }
    errors = ", ".join(f"{format_number(curve.ece)} {name}" for name, curve in curves.items())
    error = "mean calibration error of the options" if result.type == "multi" else "calibration error"
    errors_of = [curve.ece for curve in curves.values()]
    title = f"{result.name}: {error} {change(errors_of[0], errors_of[-1])}"
    return FigureSpec(
        reliability_name(result),
        f"Reliability diagram of {result.name}: accuracy against confidence. {error.capitalize()}: {errors}.",
        lambda theme: draw_reliability(curves, title, theme),
    )


def _training(record: QuestionsRecord) -> FigureSpec:
    title, step = training_title(record), kept_step(record)
    return FigureSpec(
        "training_curve",
        f"Training loss over steps: {loss_range(record)}. The checkpoint of step {format_count(step)} was kept.",
        lambda theme: draw_training_curve(record.history, step, title, theme),
    )


def _panel(result: QuestionResult, heading: str, metrics: QuestionMetrics) -> ConfusionPanel:
    metric = result.headline
    measure = f"{metric.label} {format_number(metrics.values[metric.name])}"
    return ConfusionPanel(heading, measure, result.options, metrics.confusion, (0,) * len(result.options))


def _change(result: QuestionResult) -> str:
    """The headline metric before and after training, such as "team: macro-F1 0.214 to 0.790."."""
    metric = result.headline
    values = " to ".join(format_number(one.values[metric.name]) for one in (result.before, result.shipped))
    return f"{result.name}: {metric.title} {values}."


def _headline(result: QuestionResult, metrics: QuestionMetrics) -> Estimate:
    name = result.headline.name
    value = metrics.values[name]
    return math.nan if value is None else value, metrics.intervals.get(name)


def _f1(option: OptionMetrics) -> Estimate:
    return math.nan if option.f1 is None else option.f1, option.interval
