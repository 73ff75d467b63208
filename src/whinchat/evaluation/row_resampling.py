"""Bootstrap of metrics that need the rows themselves: ranking metrics, mean errors, and sets of options.

N: rows. C: resamples. D: options. A resample is a weight for each row: how often the row was drawn.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.metrics import interval_of
from whinchat.evaluation.results import Interval
from whinchat.recipe.schema import EvaluateConfig

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Weights (C, N) -> metric name -> value, (C,), NaN where the metric is not defined.
WeightedMetrics = Callable[[Floats], Mapping[str, Floats]]

# Weights that are held at once.
_MOST_WEIGHTS = 4_000_000
# A real row is drawn this many times as often as a unit of a pseudo row.
_UNITS = 4


def measure_rows(
    measure: WeightedMetrics, rows: int, settings: EvaluateConfig, pseudo_rows: tuple[int, ...] = ()
) -> tuple[dict[str, float | None], dict[str, Interval]]:
    """Return each metric of N rows, None where it is not defined, and its 95 % bootstrap interval where it is.

    Args:
        measure: computes the metrics from weights of the rows, and of the pseudo rows behind them.
        rows: N.
        settings: the recipe's ``evaluate``, for the bootstrap.
        pseudo_rows: the size of each pseudo row in quarters of a row. Where all rows show the same, resampling could
            show no other result; pseudo rows of half a row in all, which show the opposite, give the interval the
            width of a Jeffreys interval (see ``metrics``). They do not change the value.
    """
    plain = np.concatenate([np.ones(rows), np.zeros(len(pseudo_rows))])[None]
    values = {name: float(value[0]) for name, value in measure(plain).items()}
    owners = np.concatenate(
        [np.repeat(np.arange(rows), _UNITS), np.repeat(rows + np.arange(len(pseudo_rows)), pseudo_rows)]
    ).astype(np.int64)
    size = rows + len(pseudo_rows)
    generator = np.random.default_rng(settings.seed)
    samples: dict[str, list[Floats]] = {name: [] for name in values}
    left = settings.bootstrap_resamples
    while left:
        count = min(left, max(1, _MOST_WEIGHTS // size))
        drawn = owners[generator.integers(0, len(owners), (count, rows))] + size * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(np.float64)
        for name, found in measure(weights).items():
            samples[name].append(found)
        left -= count
    known = {name: value for name, value in values.items() if not np.isnan(value)}
    intervals = {name: interval_of(np.concatenate(samples[name])) for name in known}
    return {name: known.get(name) for name in values}, intervals


def ranking_metrics(positive: Bools, scores: Floats) -> WeightedMetrics:
    """Return the function that computes average precision and the area under the ROC curve from weights (C, N).

    Both are those of ``average_precision_score`` and ``roc_auc_score`` with sample weights: rows of one score stand at
    one threshold. Both are NaN where only one class has weight.

    Args:
        positive: whether each row is positive, (N,).
        scores: higher for rows that look positive, (N,).
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    sorted_positive = positive[order]

    def measure(weights: Floats) -> dict[str, Floats]:
        in_order = weights[:, order]
        hits = np.cumsum(in_order * sorted_positive, axis=1)[:, ends]  # (C, thresholds)
        answered = np.cumsum(in_order, axis=1)[:, ends]
        false = answered - hits
        gained = np.diff(hits, axis=1, prepend=0)
        totals, negatives = hits[:, -1], false[:, -1]
        two_classes = (totals > 0) & (negatives > 0)
        precision = (gained * hits / answered.clip(min=1)).sum(axis=1)
        area = (np.diff(false, axis=1, prepend=0) * (hits - gained / 2)).sum(axis=1)
        return {
            "auc_pr": np.where(two_classes, precision / totals.clip(min=1), np.nan),
            "auc_roc": np.where(two_classes, area / (totals * negatives).clip(min=1), np.nan),
        }

    return measure


@dataclass(frozen=True)
class OptionAnswers:
    """True and given answers to a ``multi`` question: whether each option applies, (N, D).

    ``known`` says where the truth is known. Other cells count for nothing.
    """

    expected: Bools
    predicted: Bools
    known: Bools

    @property
    def right(self) -> Bools:
        """Where the answer is known to be right, (N, D)."""
        right: Bools = self.known & (self.expected == self.predicted)
        return right

    @property
    def exact(self) -> Bools:
        """The rows whose every option is answered right, (N,)."""
        exact: Bools = np.all(self.right, axis=1)
        return exact

    def opposite(self, rows: Ints, *, right: bool) -> "OptionAnswers":
        """Return rows with the same truth and other answers: the right ones, or else the opposite of the given ones."""
        expected = self.expected[rows]
        return OptionAnswers(expected, expected if right else ~self.predicted[rows], self.known[rows])

    def followed_by(self, other: "OptionAnswers") -> "OptionAnswers":
        """Return these rows with those of ``other`` behind them."""
        pairs = zip(
            (self.expected, self.predicted, self.known), (other.expected, other.predicted, other.known), strict=True
        )
        return OptionAnswers(*(np.concatenate(pair) for pair in pairs))


def option_metrics(answers: OptionAnswers) -> WeightedMetrics:
    """Return the function that computes macro-F1, micro-F1 and subset accuracy from weights (C, N).

    F1 is that of "applies". Macro-F1 averages over the options that apply to a row with weight; it and micro-F1 are NaN
    where no option does. Subset accuracy is the share of rows, of those whose truth is known in full, with every option
    right.
    """
    known, expected, predicted = answers.known, answers.expected, answers.predicted
    hit = (known & expected & predicted).astype(np.float64)
    wrong = (known & (expected != predicted)).astype(np.float64)
    positive = (known & expected).astype(np.float64)
    exact, full = answers.exact.astype(np.float64), known.all(axis=1).astype(np.float64)

    def measure(weights: Floats) -> dict[str, Floats]:
        hits, errors, support = weights @ hit, weights @ wrong, weights @ positive  # (C, D)
        has_rows = support > 0
        f1 = 2 * hits / np.where(has_rows, 2 * hits + errors, 1)
        options, rows = has_rows.sum(axis=1), weights @ full
        all_hits = hits.sum(axis=1)
        micro = 2 * all_hits / np.maximum(2 * all_hits + errors.sum(axis=1), 1)
        return {
            "macro_f1": np.where(options > 0, (f1 * has_rows).sum(axis=1) / options.clip(min=1), np.nan),
            "micro_f1": np.where(options > 0, micro, np.nan),
            "subset_accuracy": np.where(rows > 0, weights @ exact / rows.clip(min=1), np.nan),
        }

    return measure


def measure_options(
    answers: OptionAnswers, settings: EvaluateConfig
) -> tuple[dict[str, float | None], dict[str, Interval]]:
    """Return the metrics of ``option_metrics`` with their 95 % intervals, as ``measure_rows`` returns them."""
    rows = len(answers.known)
    values, intervals = measure_rows(option_metrics(answers), rows, settings)
    for name in [name for name, interval in intervals.items() if interval.low == interval.high]:
        # All resamples show the same, such as a subset accuracy of 0 or 1: half a row in all shows the opposite.
        chosen = _two_rows(answers)
        more = answers.followed_by(answers.opposite(chosen, right=values[name] == 0))
        intervals[name] = measure_rows(option_metrics(more), rows, settings, (1,) * len(chosen))[1][name]
    return values, intervals


def measure_ranking(
    positive: Bools, scores: Floats, settings: EvaluateConfig
) -> tuple[dict[str, float | None], dict[str, Interval]]:
    """Return the metrics of ``ranking_metrics`` with their 95 % intervals, as ``measure_rows`` returns them."""
    rows = len(positive)
    values, intervals = measure_rows(ranking_metrics(positive, scores), rows, settings)
    for name in [name for name, interval in intervals.items() if interval.low == interval.high]:
        # All resamples are in the same order: half a row in all, a positive and a negative, is in the opposite order.
        in_order = (values[name] or 0.0) >= 0.5
        ends = [scores.min() - 1, scores.max() + 1] if in_order else [scores.max() + 1, scores.min() - 1]
        more = ranking_metrics(np.append(positive, [True, False]), np.append(scores, ends))
        intervals[name] = measure_rows(more, rows, settings, (1, 1))[1][name]
    return values, intervals


def option_gain(
    before: OptionAnswers, after: OptionAnswers, settings: EvaluateConfig
) -> tuple[float | None, Interval | None]:
    """Return macro-F1 over options of ``after`` minus that of ``before``, with its 95 % paired-bootstrap interval."""
    rows = len(after.known)
    pseudo_rows: tuple[int, ...] = ()
    changed = after.right.astype(int) - before.right.astype(int)
    if len(np.unique(changed[after.known])) == 1:
        # Every answer changed in the same way: half a row in all counts as not changed.
        chosen = _two_rows(after)
        kept = OptionAnswers(after.expected[chosen], after.predicted[chosen], after.known[chosen])
        before, after, pseudo_rows = before.followed_by(kept), after.followed_by(kept), (1,) * len(chosen)
    old, new = option_metrics(before), option_metrics(after)

    def difference(weights: Floats) -> dict[str, Floats]:
        return {"macro_f1": new(weights)["macro_f1"] - old(weights)["macro_f1"]}

    values, intervals = measure_rows(difference, rows, settings, pseudo_rows)
    return values["macro_f1"], intervals.get("macro_f1")


def _two_rows(answers: OptionAnswers) -> Ints:
    """Return the rows with the most and with the fewest options that apply, which stand in for pseudo rows.

    Rows whose truth is known in full come first, because the others do not count for subset accuracy.
    """
    full = np.all(answers.known, axis=1)
    rows = np.flatnonzero(full) if full.any() else np.arange(len(answers.known))
    applying = (answers.known & answers.expected)[rows].sum(axis=1)
    return rows[[applying.argmax(), applying.argmin()]]
