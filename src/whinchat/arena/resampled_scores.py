"""The headline metric of every trial and question over the same resamples of the evaluated rows.

N: evaluated rows. R: resamples. C: resamples of a chunk. K: labels. D: decisions of a question.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from whinchat.arena.trials import Trial, TrialDecision, TrialQuestion, TrialResult
from whinchat.evaluation.matrix_metrics import MATRIX_METRICS
from whinchat.evaluation.results import Interval
from whinchat.evaluation.row_resampling import OptionAnswers, option_metrics

Floats = NDArray[np.float64]
# The headline metric of each question of a trial in each resample, Q arrays of (R,); NaN where it is not defined.
Resamples = Mapping[Trial, tuple[Floats, ...]]

_RESAMPLES = 1000
# Cells of confusion matrices that are held at once.
_MOST_CELLS = 8_000_000


def resample_scores(results: Mapping[Trial, TrialResult]) -> Resamples:
    """Return the headline metric of every question of every trial; all trials share the resamples."""
    if not results:
        return {}
    rows = next(iter(results.values())).evaluated_rows
    drawn = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=_RESAMPLES).astype(np.float64)
    return {
        trial: tuple(_resample(question, drawn) for question in result.questions) for trial, result in results.items()
    }


def interval_of_rows(values: Floats) -> Interval:
    """Return the 95 % interval of (R,) resampled values, of those that are defined."""
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))


def _resample(question: TrialQuestion, drawn: Floats) -> Floats:
    """Return the headline metric of a question, (R,); ``drawn`` says how often each row was drawn, (R, N)."""
    metric = question.headline.name
    if question.type == "multi":
        return option_metrics(_option_answers(question, drawn.shape[1]))(drawn)[metric]
    (decision,), function = question.decisions, MATRIX_METRICS[question.type][metric]
    chunks = max(1, len(drawn) * decision.size * (decision.size + 1) // _MOST_CELLS)
    found: Floats = np.concatenate([function(_matrices(decision, part)) for part in np.array_split(drawn, chunks)])
    return found


def _matrices(decision: TrialDecision, drawn: Floats) -> Floats:
    """Return the confusion matrix of each resample, (C, K, K + 1)."""
    cells = np.array(decision.expected) * (decision.size + 1) + np.array(decision.predicted)
    used, place = np.unique(cells, return_inverse=True)
    matrices = np.zeros((len(drawn), decision.size * (decision.size + 1)))
    matrices[:, used] = drawn[:, list(decision.rows)] @ (place[:, None] == np.arange(len(used))).astype(np.float64)
    return matrices.reshape(len(drawn), decision.size, decision.size + 1)


def _option_answers(question: TrialQuestion, rows: int) -> OptionAnswers:
    """Return the answers to all options on all evaluated rows, (N, D)."""
    expected, predicted, known = (np.zeros((rows, len(question.decisions)), dtype=bool) for _ in range(3))
    for option, decision in enumerate(question.decisions):
        own = list(decision.rows)
        expected[own, option], predicted[own, option] = decision.expected, decision.predicted
        known[own, option] = True
    return OptionAnswers(expected, predicted, known)
