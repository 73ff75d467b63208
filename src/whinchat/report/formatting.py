"""Put numbers and findings into words: one format for each kind of number, and "not measured" for a missing value."""

import math
from collections.abc import Sequence

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import (
    Abstention,
    Baseline,
    BaselineName,
    Interval,
    Metrics,
    Mode,
    PairedTest,
    ReliabilityReport,
)
from whinchat.progress import whole_duration
from whinchat.wording import counted

NOT_MEASURED = "not measured"
# Calibrated answers exist only after training.
MODE_NAMES: dict[Mode, str] = {
    "calibrated": "calibrated answers",
    "score": "label scoring",
    "generate": "free generation",
    "generate_first_word": "free generation (first label word)",
}
IN_SAMPLE_SENTENCE = (
    "The calibrator was fitted on these rows, so the calibrated answers look slightly too good here. The report of the "
    "run has a fair estimate."
)
BASELINE_NAMES: dict[BaselineName, str] = {
    "tfidf": "TF-IDF + logistic regression",
    "majority": "the most frequent label",
}


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed number of decimals."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    rounded = f"{value:.{digits}f}"
    return rounded.lstrip("-") if float(rounded) == 0 else rounded


def format_signed(value: float) -> str:
    """Return a difference with its sign, plus or minus."""
    rounded = format_number(value)
    return rounded if rounded.startswith("-") or rounded == NOT_MEASURED else f"+{rounded}"


def format_percent(share: float | None) -> str:
    """Return a share between 0 and 1 as a percentage."""
    return NOT_MEASURED if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def format_count(value: int | None) -> str:
    """Return a whole number with commas between thousands."""
    return NOT_MEASURED if value is None else f"{value:,}"


def format_interval(interval: Interval) -> str:
    """Return both ends of an interval, such as "0.312 to 0.423"."""
    return f"{format_number(interval.low)} to {format_number(interval.high)}"


def format_estimate(value: float | None, interval: Interval | None) -> str:
    """Return a value followed by its interval in brackets, such as "0.790 (0.759–0.819)"."""
    if interval is None:
        return format_number(value)
    return f"{format_number(value)} ({format_number(interval.low)}–{format_number(interval.high)})"


def format_metric(metrics: Metrics | None, name: str) -> str:
    """Return the metric of that name, such as ``macro_f1``, with its 95 % interval in brackets."""
    return NOT_MEASURED if metrics is None else format_estimate(metrics.values.get(name), metrics.intervals.get(name))


def absent_sentence(metrics: Metrics, split: str) -> str | None:
    """Return which labels have no texts in the evaluated ``split`` and what averages leave out; None if all have."""
    absent = metrics.absent_labels
    if not absent:
        return None
    names, verb = (absent[0], "has") if len(absent) == 1 else (f"{', '.join(absent[:-1])} and {absent[-1]}", "have")
    averaged = " and ".join(METRICS[name].title for name in ("macro_f1", "macro_recall"))
    return f"{names} {verb} no texts in {split}; {averaged} are averages over the other labels."


def format_duration(seconds: float | None) -> str:
    """Return a wall-clock time in its two largest units, such as "1 h 06 min"."""
    if seconds is None or not math.isfinite(seconds):
        return NOT_MEASURED
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    return whole_duration(seconds)


def format_bytes(size: int | None) -> str:
    """Return a size in GiB, or in MiB if it is below one GiB."""
    if size is None or size <= 0:
        return NOT_MEASURED
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def format_p_value(p: float) -> str:
    """Return a p-value, such as "p = 0.040"; below 0.001 only the bound."""
    return "p < 0.001" if p < 0.001 else f"p = {format_number(p)}"


def paired_sentence(paired: PairedTest) -> str:
    """Describe the paired test of one mode, after training against before."""
    verb = "rose" if paired.macro_f1_gain >= 0 else "fell"
    if not paired.fixed + paired.broken and paired.interval.low == paired.interval.high == 0:
        return (
            f"With {MODE_NAMES[paired.mode]}, none of {counted(paired.n, 'text')} changed from wrong to correct or "
            "from correct to wrong, so there is no change in macro-F1 to test."
        )
    conclusive = paired.interval.low > 0 or paired.interval.high < 0
    caveat = "" if conclusive else " The interval contains zero, so the change in macro-F1 may be due to chance."
    return (
        f"With {MODE_NAMES[paired.mode]}, {format_count(paired.fixed)} of {counted(paired.n, 'text')} changed from "
        f"wrong to correct and {format_count(paired.broken)} from correct to wrong (exact McNemar test, "
        f"{format_p_value(paired.mcnemar_p)}). Macro-F1 {verb} by {format_number(abs(paired.macro_f1_gain))} "
        f"(95 % interval of the change: {format_interval(paired.interval)}).{caveat}"
    )


def decision_sentence(reliability: ReliabilityReport) -> str:
    """Say in one sentence whether the probabilities favour rare labels, and what was measured about this."""
    metric, decision = METRICS[reliability.metric].title, reliability.decision
    if decision is None:
        if not reliability.tau:
            return "The predicted label is the most probable one."
        return (
            f"whinchat 0.1.0 calibrated this run for {metric}. Its answers favour rare labels, and whether this helps "
            "was not tested; the calibration figures here are those of probabilities that do not favour them. "
            "`whinchat calibrate RUN` measures both again."
        )
    change = f"{format_signed(decision.gain)} (95 % interval: {format_interval(decision.interval)})"
    split = reliability.fitted_on
    if decision.gains:
        return (
            f"The predicted label is the most probable one. The probabilities favour rare labels, because this changes "
            f"{metric} on {split} by {change}."
        )
    return (
        f"The predicted label is the most probable one. Favouring rare labels would change {metric} on {split} by "
        f"{change}, which is not a reliable gain."
    )


def calibrated_sentence(reliability: ReliabilityReport) -> str:
    """Describe how the calibrated probabilities were fitted, and how the predicted label follows from them."""
    cross_fitting = (
        " The same texts are used for the evaluation, so each of them is calibrated by parameters fitted on other "
        "texts (cross-fitting)."
        if reliability.cross_fitted
        else ""
    )
    temperature = format_number(reliability.temperature, 2)
    return (
        f"For calibration, the label scores are divided by a temperature of {temperature} and shifted by a bias for "
        f"each label, both fitted on {counted(reliability.fitted_rows, 'text')} of the {reliability.fitted_on} split. "
        f"{decision_sentence(reliability)}{cross_fitting}"
    )


def baselines_sentence(baselines: Sequence[Baseline]) -> str:
    """Say what macro-F1 simple methods reach on the same texts, the best first; empty without any."""
    best_first = sorted(baselines, key=lambda baseline: -baseline.metrics.macro_f1)
    reached = [f"{format_number(one.metrics.macro_f1)} with {BASELINE_NAMES[one.name]}" for one in best_first]
    return f"On the same texts, simple methods have a macro-F1 of {' and '.join(reached)}." if reached else ""


def abstention_sentence(abstention: Abstention) -> str:
    """Describe the confidence threshold and its effect."""
    return (
        f'Predictions with a confidence below {format_number(abstention.threshold)} are reported as "unsure". The '
        f"threshold was chosen for an accuracy of {format_percent(abstention.wanted)} on the texts that are answered. "
        f"Of the evaluated texts, {format_percent(abstention.coverage)} are answered (accuracy: "
        f"{format_percent(abstention.accuracy)})."
    )
