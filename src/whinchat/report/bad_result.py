"""Say where training did not make a useful classifier; terminal, report and card show the sentences first."""

from collections.abc import Iterator, Mapping

import numpy as np

from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.results import Mode
from whinchat.report.answer_modes import metrics_of_mode
from whinchat.report.formatting import BASELINE_NAMES, MODE_NAMES, format_number
from whinchat.storage.run_record import RunRecord
from whinchat.wording import counted


def bad_result_warnings(record: RunRecord) -> tuple[str, ...]:
    """Return a sentence for each way in which the result of a run is bad; none for a run whose training helped.

    A result is bad if macro-F1 is lower than before training, if all texts get the same label, or if the classifier is
    not better than a simple method: one that always gives the most frequent label, or TF-IDF with logistic regression,
    by macro-F1 or by the metric of the recipe.
    """
    return (
        *_worse_than_before(record), *_one_label(record), *_worse_than_constant(record), *_no_better_than_tfidf(record),
    )  # fmt: skip


def _worse_than_before(record: RunRecord) -> Iterator[str]:
    if record.before.split_fingerprint != record.after.split_fingerprint:
        return
    # loss: choice leaves free generation untrained, so a change of the generated answers says nothing about training.
    shipped = record.shipped.mode
    modes: tuple[Mode, ...] = (shipped,) if record.recipe.train.loss == "choice" else (shipped, "generate")
    intervals = {paired.mode: paired.interval for paired in record.paired}
    for mode in modes:
        before, after = metrics_of_mode(record, mode)
        if before is None or after is None or after.macro_f1 >= before.macro_f1:
            continue
        change = ""
        if (interval := intervals.get(mode)) is not None:
            change = f" (95 % interval of the change: {format_number(interval.low)} to {format_number(interval.high)})"
        yield (
            f"Training made {MODE_NAMES[mode]} worse: macro-F1 fell from {format_number(before.macro_f1)} to "
            f"{format_number(after.macro_f1)} on {counted(after.n, 'text')} of {record.after.split}{change}. A lower "
            "train.learning_rate may help."
        )


def _one_label(record: RunRecord) -> Iterator[str]:
    for mode in dict.fromkeys((record.after.score.mode, record.shipped.mode)):
        _, measured = metrics_of_mode(record, mode)
        assert measured is not None
        predicted = np.array(measured.confusion).sum(axis=0)  # (K,)
        true_labels = sum(label.support > 0 for label in measured.per_label)
        if true_labels > 1 and np.count_nonzero(predicted) == 1 and not any(measured.invalid):
            name, label = MODE_NAMES[measured.mode], measured.labels[int(predicted.argmax())]
            yield f"All {counted(measured.n, 'text')} of {record.after.split} get the same label with {name}: {label}."


def _worse_than_constant(record: RunRecord) -> Iterator[str]:
    """Compare the answers that users get with the most frequent label of the evaluated texts as the only answer."""
    supports = [label.support for label in record.shipped.per_label]
    most_frequent = int(np.argmax(supports))
    matrix = np.zeros((1, len(supports), len(supports) + 1), dtype=np.int64)  # as in ``metric_registry``
    matrix[0, :, most_frequent] = supports
    constant = {name: float(METRICS[name].function(matrix)[0]) for name in _compared_metrics(record)}
    phrase = f"Always answering {record.shipped.labels[most_frequent]} would be better than"
    # A margin for rounding: one label for all texts is reported as such.
    yield from _not_better(record, phrase, constant, 1e-9)


def _no_better_than_tfidf(record: RunRecord) -> Iterator[str]:
    for baseline in record.baselines:
        if baseline.name == "tfidf":
            phrase = f"{BASELINE_NAMES['tfidf']}, trained on the same texts in seconds, is at least as good as"
            yield from _not_better(record, phrase, baseline.metrics.values)


def _not_better(record: RunRecord, phrase: str, values: Mapping[str, float], margin: float = 0.0) -> Iterator[str]:
    """Say by which metrics the answers that users get are not better than a simple method.

    Args:
        record: the run.
        phrase: the beginning of the sentence, which names the method.
        values: metrics of the method.
        margin: how much higher a metric of the method must be.
    """
    shipped = record.shipped
    for name in _compared_metrics(record):
        if shipped.values[name] <= values[name] - margin:
            yield (
                f"{phrase} {MODE_NAMES[shipped.mode]}: {METRICS[name].title} {format_number(values[name])} against "
                f"{format_number(shipped.values[name])}."
            )


def _compared_metrics(record: RunRecord) -> tuple[str, ...]:
    """Macro-F1, and the metric of the recipe if it is another."""
    return tuple(dict.fromkeys(("macro_f1", record.recipe.evaluate.metric)))
