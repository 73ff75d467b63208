"""The reliability report of a trained classifier: calibrated answers, abstention, slices, stress tests, errors.

N: rows. K: labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from whinchat.data.dataset import Split
from whinchat.evaluation.abstention import coverage_curve, threshold_for
from whinchat.evaluation.calibration import draw_folds, fit_calibrator
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.metrics import LabelScores, compute_metrics
from whinchat.evaluation.results import Abstention, ConfidentError, ReliabilityReport
from whinchat.evaluation.row_sample import sample_rows
from whinchat.evaluation.slices import compute_slices
from whinchat.evaluation.stress import run_stress_test
from whinchat.recipe.schema import EvaluateConfig

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ERRORS = 20


@dataclass(frozen=True)
class ScoredSplit:
    """A split with the scores of its rows: log-probabilities of the labels over all strings, (N, K)."""

    split: Split
    log_probs: NDArray[np.float64]

    @property
    def expected(self) -> Ints:
        """True labels, (N,); of shares the label with the largest."""
        return np.array(self.split.labels, dtype=np.int64)


def fit_with_threshold(validation: ScoredSplit, labels: tuple[str, ...], settings: EvaluateConfig) -> Calibrator:
    """Fit the calibrator to save, with the threshold for ``settings.wanted_accuracy``."""
    shares = np.array(validation.split.shares) if validation.split.shares else None
    calibrator = fit_calibrator(validation.log_probs, validation.expected, labels, settings, shares)
    if settings.wanted_accuracy is None:
        return calibrator
    probabilities = calibrator.probabilities(validation.log_probs)
    correct = probabilities.argmax(axis=1) == validation.expected
    return replace(calibrator, threshold=threshold_for(settings.wanted_accuracy, probabilities.max(axis=1), correct))


@dataclass(frozen=True)
class CalibratedRows:
    """The probabilities that a classifier shows for N rows, (N, K), and whether each row is unsure, (N,)."""

    probabilities: Floats
    unsure: NDArray[np.bool_]


def calibrate_rows(
    calibrator: Calibrator, validation: ScoredSplit, evaluated: ScoredSplit, settings: EvaluateConfig
) -> CalibratedRows:
    """Return the calibrated answers to the rows of ``evaluated``.

    When ``evaluated`` is the split of the fit, each row is answered by a calibrator that was fitted on other rows
    (5-fold cross-fitting), so that the report is not flattered.

    Args:
        calibrator: fitted on ``validation``.
        validation: the rows of the fit.
        evaluated: the rows to answer, of the same split or another.
        settings: the recipe's ``evaluate``.
    """
    if validation.split.name == evaluated.split.name:
        return cross_fitted(evaluated, calibrator.labels, settings)
    return _calibrated(calibrator, evaluated.log_probs)


def analyze(
    calibrator: Calibrator,
    validation: ScoredSplit,
    evaluated: ScoredSplit,
    rows: CalibratedRows,
    settings: EvaluateConfig,
    answer: Callable[[Sequence[str]], NDArray[np.float32]],
) -> ReliabilityReport:
    """Measure the calibrated answers to the rows of ``evaluated``.

    Args:
        calibrator: fitted on ``validation``.
        validation: the rows of the fit.
        evaluated: the rows to measure, of the same split or another.
        rows: the answers to them, from ``calibrate_rows``.
        settings: the recipe's ``evaluate``.
        answer: returns the scores of texts, (N, K); the stress test calls it on edited texts.
    """
    probabilities = rows.probabilities
    texts, expected = evaluated.split.texts, evaluated.expected
    answers, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = answers == expected
    scores = LabelScores(evaluated.log_probs, probabilities)
    edited = sample_rows(texts, settings.stress_rows, settings.seed)
    return ReliabilityReport(
        metric=calibrator.metric,
        temperature=calibrator.temperature,
        tau=calibrator.tau,
        fitted_on=validation.split.name,
        fitted_rows=len(validation.split),
        cross_fitted=validation.split.name == evaluated.split.name,
        calibrated=compute_metrics("calibrated", calibrator.labels, expected, answers, settings, scores=scores),
        coverage=coverage_curve(confidence, correct),
        abstention=_abstention(settings.wanted_accuracy, calibrator.threshold, ~rows.unsure, correct),
        slices=compute_slices(texts, expected, answers, len(calibrator.labels), settings.slices),
        stress=run_stress_test(
            [texts[row] for row in edited],
            expected[edited],
            calibrator.probabilities(evaluated.log_probs[edited]).argmax(axis=1),
            lambda edited_texts: calibrator.probabilities(answer(edited_texts)).argmax(axis=1),
            settings.stress_edits,
            settings.seed,
        ),
        errors=_errors(texts, expected, answers, confidence, calibrator.labels),
        decision=calibrator.decision,
    )


def _calibrated(calibrator: Calibrator, log_probs: Floats) -> CalibratedRows:
    probabilities = calibrator.probabilities(log_probs)
    return CalibratedRows(probabilities, calibrator.unsure(probabilities))


def cross_fitted(scored: ScoredSplit, labels: tuple[str, ...], settings: EvaluateConfig) -> CalibratedRows:
    """Answer each row by a calibrator that was fitted without it."""
    fold = draw_folds(len(scored.split), settings.seed)
    probabilities, unsure = np.empty(scored.log_probs.shape), np.empty(len(scored.split), dtype=bool)
    for index in range(int(fold.max()) + 1):
        inside = fold == index
        others = [int(row) for row in np.flatnonzero(~inside)]
        fitted = fit_with_threshold(ScoredSplit(scored.split.take(others), scored.log_probs[others]), labels, settings)
        rows = _calibrated(fitted, scored.log_probs[inside])
        probabilities[inside], unsure[inside] = rows.probabilities, rows.unsure
    return CalibratedRows(probabilities, unsure)


def _abstention(
    wanted: float | None, threshold: float | None, answered: NDArray[np.bool_], correct: NDArray[np.bool_]
) -> Abstention | None:
    if wanted is None or threshold is None:
        return None
    accuracy = float(correct[answered].mean()) if answered.any() else None
    return Abstention(wanted, threshold, float(answered.mean()), accuracy)


def _errors(
    texts: Sequence[str], expected: Ints, answers: Ints, confidence: Floats, labels: tuple[str, ...]
) -> tuple[ConfidentError, ...]:
    wrong = np.flatnonzero(answers != expected)
    most_confident = wrong[np.argsort(-confidence[wrong], kind="stable")][:_ERRORS]
    return tuple(
        ConfidentError(texts[row], labels[expected[row]], labels[answers[row]], float(confidence[row]))
        for row in most_confident.tolist()
    )
