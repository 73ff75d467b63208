"""Warnings and limitations of a run with several questions; each follows from the record."""

from collections.abc import Iterator

import numpy as np

from whinchat.evaluation.question_results import QuestionResult
from whinchat.report.card_facts import CardFacts, facts_of, general_limits
from whinchat.report.formatting import (
    BASELINE_NAMES,
    NOT_MEASURED,
    format_count,
    format_interval,
    format_number,
    format_percent,
)
from whinchat.report.limitations import (
    FEW_CALIBRATION_TEXTS,
    FEW_LABEL_TEXTS,
    WIDE_INTERVAL,
    split_limits,
    weight_limits,
)
from whinchat.report.question_titles import gain_text
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.wording import counted

# Share of the evaluated texts without an answer from which on the card says so.
MANY_MISSING = 0.1


def question_warnings(record: QuestionsRecord) -> tuple[str, ...]:
    """Return a sentence for each way in which the answers to a question are bad.

    They are if the main metric is lower than before training, if all texts get the same answer, or if a simple method
    is at least as good.
    """
    return tuple(sentence for result in record.questions for sentence in _warnings(result))


def _warnings(result: QuestionResult) -> Iterator[str]:
    metric, name = result.headline, result.name
    before, after = result.before.values[metric.name], result.shipped.values[metric.name]
    if before is not None and after is not None and after < before:
        interval = result.paired.interval
        change = "" if interval is None else f" (95 % interval of the change: {format_interval(interval)})"
        yield (
            f"Training made the answers to {name} worse: {metric.title} fell from {format_number(before)} to "
            f"{format_number(after)} on {counted(result.rows, 'text')} of {result.split}{change}."
        )
    if answer := _only_answer(result):
        yield f"All {counted(result.rows, 'text')} of {result.split} get the same answer to {name}: {answer}."
    for baseline in result.baselines:
        value = baseline.metrics.values[metric.name]
        # Where all answers are the same, the constant method says nothing new.
        if value is not None and after is not None and after <= value and not (answer and baseline.name == "majority"):
            yield (
                f"For {name}, {BASELINE_NAMES[baseline.name]} is at least as good: {metric.title} "
                f"{format_number(value)} against {format_number(after)}."
            )


def _only_answer(result: QuestionResult) -> str | None:
    """The one answer that all texts get although several are right; None if they get several."""
    shipped = result.shipped
    if result.type == "multi":
        # A recall of an option is above zero wherever it is ever found.
        found = [option.recall for option in shipped.options if option.support]
        return "none of the options that apply" if found and not any(found) else None
    matrix = np.array(shipped.confusion)
    answers, truths = matrix.sum(axis=0), matrix.sum(axis=1)
    if np.count_nonzero(answers) == 1 and np.count_nonzero(truths) > 1:
        return result.options[int(answers.argmax())]
    return None


def question_limitations(record: QuestionsRecord) -> tuple[str, ...]:
    """Return the limitations of a run, the most serious first."""
    return (
        *split_limits(record, record.split),
        *(sentence for result in record.questions for sentence in _result_limits(result)),
        *weight_limits(record),
        *_scope(record),
    )


def _result_limits(result: QuestionResult) -> Iterator[str]:
    metric, name, shipped = result.headline, result.name, result.shipped
    paired = result.paired
    if paired.interval is None:
        yield f"{name}: the change in {metric.title} is {NOT_MEASURED}, because the texts have one answer only."
    elif paired.interval.low <= 0:
        yield f"{name}: a reliable gain in {metric.title} was not shown."
    interval = shipped.intervals.get(metric.name)
    if interval is not None and interval.high - interval.low > WIDE_INTERVAL:
        yield (
            f"{name}: the 95 % interval of {metric.title} is wide ({format_interval(interval)}), because only "
            f"{counted(result.rows, 'text')} were evaluated, or few of a rare answer."
        )
    for baseline in result.baselines:
        gain = baseline.paired
        if gain.gain is not None and gain.interval is not None and gain.interval.low <= 0 < gain.gain:
            yield (
                f"{name}: the classifier was not shown to be better than {BASELINE_NAMES[baseline.name]} "
                f"({gain_text(gain)})."
            )
    yield from _rare_answers(result)
    if result.missing > MANY_MISSING * (result.rows + result.missing):
        share = format_percent(result.missing / (result.rows + result.missing))
        yield f"{name}: {share} of the texts of {result.split} have no answer and were not measured."
    if (calibration := result.calibration) is not None and min(calibration.fitted_rows) < FEW_CALIBRATION_TEXTS:
        yield (
            f"{name}: the calibration was fitted on only {counted(min(calibration.fitted_rows), 'text')} of "
            f"{calibration.fitted_on}, so the probabilities are imprecise."
        )


def _rare_answers(result: QuestionResult) -> Iterator[str]:
    shipped = result.shipped
    supports = [option.support for option in shipped.options] or [sum(row) for row in shipped.confusion]
    pairs = list(zip(result.options, supports, strict=True))
    if absent := [option for option, support in pairs if not support]:
        yield f"{result.name}: no text of {result.split} has the answer {' or '.join(absent)}."
    if rare := [f"{option} ({format_count(support)})" for option, support in pairs if 0 < support < FEW_LABEL_TEXTS]:
        yield (
            f"{result.name}: some answers have fewer than {FEW_LABEL_TEXTS} texts in {result.split}, so their metrics "
            f"are imprecise: {', '.join(rare)}."
        )


def _scope(record: QuestionsRecord) -> Iterator[str]:
    yield (
        f"The metrics were measured on {counted(record.evaluated_rows, 'text')} of {record.split} (language: "
        f"{record.recipe.task.language}). Other kinds of text, other languages, and fairness between groups of people "
        "were not measured."
    )


def question_card_facts(record: QuestionsRecord, license_name: str | None) -> CardFacts:
    """Return the facts of the card that are not measurements; ``license_name`` is that of the adapter, if known."""
    names = ", ".join(record.recipe.task.questions)
    intended_use = (
        f"The classifier answers questions about a text (language: {record.recipe.task.language}): {names}. Each "
        "answer comes with probabilities. Its metrics hold for texts like the "
        f"{counted(record.evaluated_rows, 'text')} of the {record.split} split that it was measured on.",
    )
    out_of_scope = (
        "Other questions, other kinds of text and other languages were not measured. A text that fits none of the "
        "options of a choice or score question still gets one of them.",
        *general_limits(record),
    )
    return facts_of(record, license_name, intended_use, out_of_scope)
