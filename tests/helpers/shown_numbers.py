"""The numbers with three decimals that card and report show, and those that a record holds."""

from __future__ import annotations

import re

from whinchat.evaluation.results import Mode
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_record import RunRecord


def shown_numbers(text: str) -> set[str]:
    """Return every number of ``text`` that has three decimals."""
    return set(re.findall(r"(?<![\w.-])\d+\.\d{3}(?![\w.])", text))


def record_numbers(record: RunRecord) -> set[str]:
    """Return every metric of the record with three decimals, as card and report may show it."""
    modes: tuple[Mode, ...] = ("score", "generate", "generate_first_word")
    sides = record.before, record.after
    evaluations = [
        *(side.of_mode(mode) for side in sides for mode in modes),
        *(side.score_of_generated for side in sides),
    ]
    reliability, simple = record.reliability, [baseline.metrics for baseline in record.baselines]
    measured = [
        metrics for metrics in (*evaluations, *simple, reliability and reliability.calibrated) if metrics is not None
    ]
    values: list[float] = []
    for metrics in measured:
        values += [*metrics.values.values(), metrics.invalid_rate]
        values += [end for interval in metrics.intervals.values() for end in (interval.low, interval.high)]
        values += [value for label in metrics.per_label for value in (label.precision, label.recall, label.f1)]
        if (calibration := metrics.calibration) is not None:
            values += [calibration.ece, calibration.brier, calibration.log_loss, calibration.label_mass]
            values += [] if calibration.chance_ece is None else [calibration.chance_ece]
    for paired in (*record.paired, *(baseline.paired for baseline in record.baselines)):
        values += [paired.mcnemar_p, abs(paired.macro_f1_gain), paired.interval.low, paired.interval.high, 0.001]
    if reliability is not None:
        values += [reliability.temperature, reliability.tau]
        values += [] if reliability.abstention is None else [reliability.abstention.threshold]
        values += [value for point in reliability.coverage for value in (point.accuracy, point.threshold)]
        values += [value for part in reliability.slices for value in (part.accuracy, part.macro_f1)]
        values += [value for edit in reliability.stress for value in (edit.accuracy_before, edit.accuracy_after)]
    values += [point.loss for point in record.history if point.loss is not None]
    return {f"{value:.3f}" for value in values}


def questions_numbers(record: QuestionsRecord) -> set[str]:
    """Return every metric of a record with several questions, as card and report may show it."""
    values: list[float | None] = [0.001]  # the bound of a small p-value
    for result in record.questions:
        tests = [result.paired, *(baseline.paired for baseline in result.baselines)]
        ways = [result.before, result.after, result.shipped, *(baseline.metrics for baseline in result.baselines)]
        for metrics in ways:
            values += [*metrics.values.values(), metrics.ece, metrics.brier, metrics.cross_entropy]
            values += [value for one in metrics.options for value in (one.precision, one.recall, one.f1)]
            intervals = [*metrics.intervals.values(), *(one.interval for one in metrics.options)]
            values += [end for one in intervals if one is not None for end in (one.low, one.high)]
        for paired in tests:
            values += [paired.mcnemar_p, abs(paired.gain or 0)]
            values += [] if paired.interval is None else [paired.interval.low, paired.interval.high]
        values += [] if result.calibration is None else [0.5, *result.calibration.thresholds]
    values += [point.loss for point in record.history]
    return {f"{value:.3f}" for value in values if value is not None}
