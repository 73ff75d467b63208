"""Fit a calibration on validation rows; ``calibrator.py`` applies it.

N: rows. K: labels.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from whinchat.evaluation.calibrator import COLDEST, HOTTEST, Calibrator, Floats
from whinchat.evaluation.metrics import macro_f1_of_rows, paired_gain
from whinchat.evaluation.results import DecisionTest
from whinchat.recipe.schema import EvaluateConfig, MetricName

Ints = NDArray[np.int64]
_TAUS = np.linspace(0, 1, 21)
_FOLDS = 5


def fit_calibrator(
    log_probs: NDArray[np.floating[Any]],
    expected: Ints,
    labels: tuple[str, ...],
    settings: EvaluateConfig,
    shares: Floats | None = None,
) -> Calibrator:
    """Fit temperature and bias on scored rows, and favour rare labels if that reliably gains ``settings.metric``.

    Args:
        log_probs: scores, (N, K).
        expected: true labels, (N,); of shares the label with the largest, by which the metric judges.
        labels: K label names.
        settings: the recipe's ``evaluate``: the metric, and the bootstrap behind the interval of the gain.
        shares: the true share of each label, (N, K), to which probabilities are fitted; None where labels are certain.

    Sources: bias-corrected temperature scaling, Alexandari, Kundaje and Shrikumar 2020, section 2.1 (after Guo et al.
    2017); dividing by the prior is the Bayes decision for balanced accuracy (Menon et al. 2021, section 3).
    """
    if not len(expected):
        return Calibrator(labels, metric=settings.metric)
    truth = np.eye(len(labels))[expected] if shares is None else shares
    plain = _fit_plain(log_probs, truth, labels, settings.metric)
    if settings.metric == "accuracy" or len(expected) < 2:
        return plain
    favouring = replace(plain, tau=_fit_tau(plain, log_probs, expected))
    decision = _test_decision(favouring.tau, log_probs, expected, truth, labels, settings)
    return replace(favouring if decision.gains else plain, decision=decision)


def draw_folds(rows: int, seed: int) -> Ints:
    """Return the number of the fold, below five, that each of ``rows`` rows belongs to, (N,)."""
    return np.random.default_rng(seed).permutation(rows) % min(_FOLDS, rows)


def fit_temperature(log_probs: NDArray[np.floating[Any]], truth: Floats) -> tuple[float, tuple[float, ...]]:
    """Fit the temperature and the bias of each label, (K,), that minimize the cross entropy against the truth.

    The bias has a standard normal prior, which weighs as much as one row, so that few rows leave it near zero.

    Args:
        log_probs: scores, (N, K).
        truth: the true share of each label, (N, K); all of one label where it is certain.
    """
    rows, size = truth.shape
    scores = log_probs.astype(np.float64)

    def loss(point: Floats) -> tuple[float, Floats]:
        inverse_temperature, bias = np.exp(-point[0]), point[1:]
        log_p = log_softmax(scores * inverse_temperature + bias, axis=1)
        error = np.exp(log_p) - truth  # (N, K)
        gradient = np.concatenate([[-(error * scores).sum() * inverse_temperature], error.sum(axis=0) + bias])
        return float(-(log_p * truth).sum() + 0.5 * (bias**2).sum()) / rows, gradient / rows

    bounds = [(np.log(COLDEST), np.log(HOTTEST)), *[(None, None)] * size]
    optimum = minimize(loss, np.zeros(size + 1), jac=True, bounds=bounds, method="L-BFGS-B")
    return float(np.exp(optimum.x[0])), tuple(optimum.x[1:].tolist())


def _fit_plain(
    log_probs: NDArray[np.floating[Any]], truth: Floats, labels: tuple[str, ...], metric: MetricName
) -> Calibrator:
    """Fit a calibrator whose probabilities match observed frequencies, so that they favour no label."""
    rows, size = truth.shape
    # Half a row is added to each label, so that a label without rows keeps a finite weight.
    prior = (truth.sum(axis=0) + 0.5) / (rows + size / 2)
    temperature, bias = fit_temperature(log_probs, truth)
    return Calibrator(labels, temperature, bias, tuple(prior.tolist()), metric, 0.0, rows)


def _fit_tau(plain: Calibrator, log_probs: NDArray[np.floating[Any]], expected: Ints) -> float:
    """Return the power of the prior, between 0 and 1, that is best for the metric of ``plain`` on the given rows.

    Macro recall has a closed-form decision, macro-F1 has none. One power serves all labels, for a weight of each label
    would follow the noise of the rarest one. Macro-F1 is flat and ragged near its maximum, so the mean of all powers
    within half a standard error of the maximum is taken.
    """
    if plain.metric == "macro_recall":
        return 1.0
    size = len(plain.labels)
    answers = (replace(plain, tau=tau).probabilities(log_probs).argmax(axis=1) for tau in _TAUS.tolist())
    scores = np.array([macro_f1_of_rows(expected, answer, size) for answer in answers])
    # Two settings on the same rows share most of their error, hence half a standard error (of an accuracy of 0.5).
    slack = 0.5 * np.sqrt(0.25 / len(expected))
    return float(_TAUS[scores >= scores.max() - slack].mean())


def _test_decision(
    tau: float,
    log_probs: NDArray[np.floating[Any]],
    expected: Ints,
    truth: Floats,
    labels: tuple[str, ...],
    settings: EvaluateConfig,
) -> DecisionTest:
    """Measure what favouring rare labels gains on rows that no fitted number has seen.

    Each row is answered with and without by calibrators that were fitted, ``tau`` included, on the other folds; the
    interval comes from a paired bootstrap of these answers.
    """
    fold = draw_folds(len(expected), settings.seed)
    without, favoured = np.empty_like(expected), np.empty_like(expected)
    for number in range(int(fold.max()) + 1):
        inside = fold == number
        others = log_probs[~inside]
        plain = _fit_plain(others, truth[~inside], labels, settings.metric)
        favouring = replace(plain, tau=_fit_tau(plain, others, expected[~inside]))
        without[inside] = plain.probabilities(log_probs[inside]).argmax(axis=1)
        favoured[inside] = favouring.probabilities(log_probs[inside]).argmax(axis=1)
    gain, interval = paired_gain(settings.metric, expected, without, favoured, size=len(labels), settings=settings)
    return DecisionTest(settings.metric, tau, gain, interval)
