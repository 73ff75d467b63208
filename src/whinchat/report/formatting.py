"""How figures are put into words: one format for each kind of number, and "not measured" where there is none."""

from __future__ import annotations

import math

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Interval, Metrics, Mode, PairedTest, ReliabilityReport

NOT_MEASURED = "not measured"
# What both evaluations are measured by; the calibrated decision is measured after training alone.
MODES: dict[Mode, str] = {"score": "label scoring", "generate": "free generation"}
DECIDED = "calibrated answers"

MINUTE, HOUR = 60, 3600


def format_number(value: float | None, digits: int = 3) -> str:
    """A figure with a fixed number of decimals."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    rounded = f"{value:.{digits}f}"
    return rounded.lstrip("-") if float(rounded) == 0 else rounded


def format_signed(value: float, digits: int = 3) -> str:
    """A difference, its sign always shown."""
    rounded = format_number(value, digits)
    return rounded if rounded.startswith("-") or rounded == NOT_MEASURED else f"+{rounded}"


def format_percent(share: float | None) -> str:
    """A share between 0 and 1 as a percentage."""
    return NOT_MEASURED if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def format_count(value: int | None) -> str:
    """A whole number, thousands set apart by commas."""
    return NOT_MEASURED if value is None else f"{value:,}"


def format_interval(interval: Interval, digits: int = 3) -> str:
    """The two ends of an interval."""
    return f"{format_number(interval.low, digits)} to {format_number(interval.high, digits)}"


def format_metric(measured: Metrics | None, name: str) -> str:
    """Return the value of the metric ``name``, followed by its 95 % interval in brackets."""
    if measured is None:
        return NOT_MEASURED
    value = format_number(measured.values.get(name))
    interval = measured.intervals.get(name)
    return value if interval is None else f"{value} ({format_number(interval.low)}–{format_number(interval.high)})"


def format_duration(seconds: float | None) -> str:
    """Wall-clock time in the two largest units that matter."""
    if seconds is None or not math.isfinite(seconds):
        return NOT_MEASURED
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"


def format_bytes(size: int | None) -> str:
    """Bytes in GiB, or MiB where it is less than one."""
    if size is None or size <= 0:
        return NOT_MEASURED
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def format_p_value(p: float) -> str:
    """A p-value; below 0.001 its size is no longer worth telling."""
    return "p < 0.001" if p < 0.001 else f"p = {format_number(p)}"


def paired_sentence(paired: PairedTest) -> str:
    """What the paired test found, in words."""
    verb = "rose" if paired.macro_f1_gain >= 0 else "fell"
    settled = paired.interval.low > 0 or paired.interval.high < 0
    verdict = "" if settled else " The interval contains zero, so the change in macro-F1 may be chance."
    return (
        f"In {MODES[paired.mode]}, {format_count(paired.fixed)} of {format_count(paired.n)} rows turned from wrong "
        "to right and "
        f"{format_count(paired.broken)} from right to wrong (exact McNemar test, "
        f"{format_p_value(paired.mcnemar_p)}). Macro-F1 "
        f"{verb} by {format_number(abs(paired.macro_f1_gain))} (95 % interval of the change: "
        f"{format_interval(paired.interval)}).{verdict}"
    )


def calibrated_sentence(trust: ReliabilityReport) -> str:
    """What was fitted, on what, and how that was kept honest."""
    rule = {
        "accuracy": "the most probable label is the answer",
        "macro_recall": "each probability is divided by its label's share before the highest is taken",
        "macro_f1": f"each probability is divided by its label's share to the power {format_number(trust.tau, 2)} "
        "before the "
        "highest is taken",
    }[trust.metric]
    honest = (
        " The figures are measured on the same split, each row's with a calibration fitted on other rows."
        if trust.cross_fitted
        else ""
    )
    return (
        f"Calibration: scores are divided by a temperature of {format_number(trust.temperature, 2)} and shifted by "
        "label, as "
        f"fitted on {format_count(trust.fitted_rows)} rows of {trust.fitted_on}; for {METRICS[trust.metric].title}, "
        f"{rule}.{honest}"
    )


def abstention_sentence(trust: ReliabilityReport) -> str | None:
    """What the threshold for the wanted accuracy came to; None where none was set."""
    if (chosen := trust.abstention) is None:
        return None
    return (
        f'Below a confidence of {format_number(chosen.threshold)} the answer is "unsure", so that '
        f"{format_percent(chosen.wanted)} of "
        f"the others be right. Measured: {format_percent(chosen.coverage)} answered, "
        f"{format_percent(chosen.accuracy)} of them right."
    )
