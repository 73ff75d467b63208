"""Say where training did not make a useful classifier; terminal, report and card show the sentences first."""

from collections.abc import Iterator

import numpy as np

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Metrics, Mode
from whinchat.report.formatting import CALIBRATED_NAME, MODE_NAMES, format_number, format_texts
from whinchat.storage.run_record import RunRecord


def bad_result_warnings(record: RunRecord) -> tuple[str, ...]:
    """Return a sentence for each way in which the result of a run is bad; none for a run whose training helped.

    A result is bad if macro-F1 is lower than before training, if all texts get the same label, or if the classifier is
    worse than one that always gives the most frequent label, by macro-F1 or by the metric of the recipe.
    """
    return (*_worse_than_before(record), *_one_label(record), *_worse_than_constant(record))


def _worse_than_before(record: RunRecord) -> Iterator[str]:
    if record.before.split_fingerprint != record.after.split_fingerprint:
        return
    # loss: choice leaves free generation untrained, so a change of the generated answers says nothing about training.
    modes: tuple[Mode, ...] = ("score",) if record.recipe.train.loss == "choice" else ("score", "generate")
    intervals = {paired.mode: paired.interval for paired in record.paired}
    for mode in modes:
        before, after = record.before.of_mode(mode), record.after.of_mode(mode)
        if before is None or after is None or after.macro_f1 >= before.macro_f1:
            continue
        change = ""
        if (interval := intervals.get(mode)) is not None:
            change = f" (95 % interval of the change: {format_number(interval.low)} to {format_number(interval.high)})"
        yield (
            f"Training made {MODE_NAMES[mode]} worse: macro-F1 fell from {format_number(before.macro_f1)} to "
            f"{format_number(after.macro_f1)} on {format_texts(after.n)} of {record.after.split}{change}. A lower "
            "train.learning_rate may help."
        )


def _one_label(record: RunRecord) -> Iterator[str]:
    for name, metrics in _answers(record).items():
        predicted = np.array(metrics.confusion).sum(axis=0)  # (K,)
        true_labels = sum(label.support > 0 for label in metrics.per_label)
        if true_labels > 1 and np.count_nonzero(predicted) == 1 and not any(metrics.invalid):
            label = metrics.labels[int(predicted.argmax())]
            yield f"All {format_texts(metrics.n)} of {record.after.split} get the same label with {name}: {label}."


def _worse_than_constant(record: RunRecord) -> Iterator[str]:
    """Compare the answers that users get with the most frequent label of the evaluated texts as the only answer."""
    name, metrics = list(_answers(record).items())[-1]
    supports = [label.support for label in metrics.per_label]
    most_frequent = int(np.argmax(supports))
    matrix = np.zeros((1, len(supports), len(supports) + 1), dtype=np.int64)  # as in ``metric_registry``
    matrix[0, :, most_frequent] = supports
    for metric in dict.fromkeys(("macro_f1", record.recipe.evaluate.metric)):
        constant = float(METRICS[metric].function(matrix)[0])
        # A margin for rounding: one label for all texts is reported as such.
        if metrics.values[metric] < constant - 1e-9:
            yield (
                f"Always answering {metrics.labels[most_frequent]} would be better than {name}: "
                f"{METRICS[metric].title} {format_number(constant)} against {format_number(metrics.values[metric])}."
            )


def _answers(record: RunRecord) -> dict[str, Metrics]:
    """The ways of answering with a label for every text, by name; the one that users get comes last."""
    answers = {MODE_NAMES["score"]: record.after.score}
    if record.reliability is not None:
        answers[CALIBRATED_NAME] = record.reliability.calibrated
    return answers
