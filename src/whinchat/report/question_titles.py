"""Titles and sentences about the questions of a run, built from their stored results."""

from whinchat.evaluation.question_results import QuestionResult, QuestionTest
from whinchat.recipe.question import QuestionType
from whinchat.report.formatting import (
    NOT_MEASURED,
    format_count,
    format_interval,
    format_number,
    format_p_value,
    format_percent,
    format_signed,
)
from whinchat.report.titles import change
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.wording import counted

TYPE_NAMES: dict[QuestionType, str] = {
    "choice": "one of the options",
    "yes_no": "yes or no",
    "score": "one of the ordered levels",
    "multi": "any number of the options",
}


def result_title(result: QuestionResult) -> str:
    """Return how the main metric changed, such as "team: macro-F1 rose from 0.21 to 0.79 on 800 test texts"."""
    name = result.headline.name
    old, new = result.before.values[name], result.shipped.values[name]
    texts = f"on {counted(result.rows, f'{result.split} text')}"
    changed = f"is {NOT_MEASURED}" if old is None or new is None else change(old, new)
    return f"{result.name}: {result.headline.title} {changed} {texts}"


def questions_title(record: QuestionsRecord) -> str:
    """Return for how many questions the main metric reliably rose."""
    gains = [result.paired.interval for result in record.questions]
    risen = sum(interval is not None and interval.low > 0 for interval in gains)
    asked = f"{len(gains)} questions" if len(gains) > 1 else "1 question"
    return f"Training reliably raised the main metric of {risen} of {asked}, on the {record.split} split"


def paired_test_sentence(result: QuestionResult) -> str:
    """Describe the paired test of a question, after training against before."""
    paired, title = result.paired, result.headline.title
    answers = "fully right answers" if result.type == "multi" else "right answers"
    counts = (
        f"{result.name}: {format_count(paired.fixed)} of {counted(result.rows, 'text')} have {answers} only after "
        f"training and {format_count(paired.broken)} only before (exact McNemar test, "
        f"{format_p_value(paired.mcnemar_p)})."
    )
    if paired.gain is None or paired.interval is None:
        return f"{counts} The change in {title} was {NOT_MEASURED}."
    if not paired.fixed + paired.broken and paired.interval.low == paired.interval.high == 0:
        return (
            f"{result.name}: no answer changed from right to wrong or from wrong to right, so there is no change in "
            f"{title} to test."
        )
    caveat = (
        ""
        if paired.interval.low > 0 or paired.interval.high < 0
        else f" The interval contains zero, so the change in {title} may be due to chance."
    )
    return f"{counts} The {title} {'rose' if paired.gain >= 0 else 'fell'} by {_size(paired)}.{caveat}"


def _size(paired: QuestionTest) -> str:
    assert paired.gain is not None
    assert paired.interval is not None
    return f"{format_number(abs(paired.gain))} (95 % interval of the change: {format_interval(paired.interval)})"


def gain_text(paired: QuestionTest) -> str:
    """Return the gain with its interval, such as "+0.123 (0.101 to 0.145)"."""
    if paired.gain is None or paired.interval is None:
        return NOT_MEASURED
    return f"{format_signed(paired.gain)} ({format_interval(paired.interval)})"


def calibration_sentence(result: QuestionResult) -> str:
    """Describe how the answers to a question were calibrated."""
    calibration = result.calibration
    if calibration is None:
        return f"{result.name}: calibrated answers {NOT_MEASURED}, because the run has no validation split."
    least, most = min(calibration.fitted_rows), max(calibration.fitted_rows)
    rows = counted(least, "text") if least == most else f"{format_count(least)} to {counted(most, 'text')}"
    temperatures = sorted(calibration.temperatures)
    lowest, highest = format_number(temperatures[0], 2), format_number(temperatures[-1], 2)
    fitted = f"temperature {lowest}" if lowest == highest else f"temperatures {lowest} to {highest}"
    own = ", for each option by itself" if result.type == "multi" else ""
    crossed = " Each text is calibrated by parameters fitted on other texts (cross-fitting)." * calibration.cross_fitted
    return f"{result.name}: fitted on {rows} of {calibration.fitted_on}{own} ({fitted}).{crossed}{_threshold(result)}"


def _threshold(result: QuestionResult) -> str:
    calibration = result.calibration
    assert calibration is not None
    parts = []
    if result.type == "yes_no":
        parts.append(
            f" The answer is yes above a calibrated probability of yes of {format_number(calibration.thresholds[0])}."
        )
    if calibration.unsure is not None:
        parts.append(
            f' Share of answers that are "unsure": {format_percent(calibration.unsure)}; accuracy of the others: '
            f"{format_percent(calibration.sure_accuracy)}."
        )
    return "".join(parts)
