"""How far a trained classifier can be trusted: calibrated answers, abstention, weak spots, its surest mistakes.

N: rows. K: labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from whinchat.data.dataset import Split
from whinchat.evaluation.abstention import coverage_curve, threshold_for
from whinchat.evaluation.calibration import Calibrator, fit_calibrator
from whinchat.evaluation.metrics import LabelScores, compute_calibrated_metrics
from whinchat.evaluation.results import (
    Abstention,
    ConfidentError,
    ReliabilityReport,
    StressResult,
)
from whinchat.evaluation.slices import compute_slices
from whinchat.evaluation.stress import run_stress_test
from whinchat.recipe.schema import EvaluateConfig

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FOLDS = 5
_ERRORS = 20


@dataclass(frozen=True)
class ScoredSplit:
    """A split with the scores of its rows, (N, K)."""

    split: Split
    log_probs: NDArray[np.float64]

    @property
    def expected(self) -> Ints:
        """True labels, (N,)."""
        return np.array(self.split.labels, dtype=np.int64)


def fit_with_threshold(validation: ScoredSplit, labels: tuple[str, ...], settings: EvaluateConfig) -> Calibrator:
    """The calibrator to save: temperature, decision, and the threshold for ``wanted_accuracy``."""
    calibrator = fit_calibrator(validation.log_probs, validation.expected, labels, settings.metric)
    probabilities, answers = calibrator.probabilities(validation.log_probs), calibrator.decide(validation.log_probs)
    confidence = probabilities[np.arange(len(answers)), answers]
    threshold = None
    if settings.wanted_accuracy is not None:
        threshold = threshold_for(settings.wanted_accuracy, confidence, answers == validation.expected)
    return replace(calibrator, threshold=threshold)


def analyze(
    calibrator: Calibrator,
    validation: ScoredSplit,
    evaluated: ScoredSplit,
    settings: EvaluateConfig,
    answer: Callable[[Sequence[str]], NDArray[np.float32]],
) -> ReliabilityReport:
    """Measure calibrated answers on ``evaluated``.

    Args:
        calibrator: fitted on ``validation``.
        validation: the rows it was fitted on.
        evaluated: the rows to measure, the same split as ``validation`` or another.
        settings: the recipe's.
        answer: from texts to scores, (N, K), for the edited texts of the stress test.
    """
    same = validation.split.name == evaluated.split.name
    if same:
        probabilities, answers, threshold_of = _cross_fitted(evaluated, calibrator.labels, settings)
    else:
        probabilities, answers = calibrator.probabilities(evaluated.log_probs), calibrator.decide(evaluated.log_probs)
        threshold_of = np.full(len(answers), np.nan if calibrator.threshold is None else calibrator.threshold)
    expected, rows = evaluated.expected, np.arange(len(answers))
    confidence = probabilities[rows, answers]
    right = answers == expected
    return ReliabilityReport(
        metric=calibrator.metric,
        temperature=calibrator.temperature,
        tau=calibrator.tau,
        fitted_on=validation.split.name,
        fitted_rows=len(validation.split),
        cross_fitted=same,
        calibrated=compute_calibrated_metrics(
            calibrator.labels, LabelScores(evaluated.log_probs, probabilities), answers, expected, settings
        ),
        coverage=coverage_curve(confidence, right),
        abstention=_abstention(settings.wanted_accuracy, calibrator.threshold, confidence >= threshold_of, right),
        slices=compute_slices(evaluated.split.texts, expected, answers, len(calibrator.labels), settings.slices),
        stress=_stress(calibrator, evaluated, settings, answer),
        errors=_errors(evaluated.split.texts, expected, answers, confidence, calibrator.labels),
    )


def _cross_fitted(
    scored: ScoredSplit, labels: tuple[str, ...], settings: EvaluateConfig
) -> tuple[Floats, Ints, Floats]:
    """Probabilities (N, K), answers (N,) and thresholds (N,), each row's from a calibrator that did not see it."""
    rows = len(scored.split)
    fold = np.random.default_rng(settings.seed).permutation(rows) % min(_FOLDS, rows)
    probabilities, answers = np.empty(scored.log_probs.shape), np.empty(rows, dtype=np.int64)
    thresholds = np.full(rows, np.nan)
    for number in range(int(fold.max()) + 1):
        inside = fold == number
        others = [int(row) for row in np.flatnonzero(~inside)]
        fitted = fit_with_threshold(ScoredSplit(scored.split.take(others), scored.log_probs[others]), labels, settings)
        probabilities[inside] = fitted.probabilities(scored.log_probs[inside])
        answers[inside] = fitted.decide(scored.log_probs[inside])
        if fitted.threshold is not None:
            thresholds[inside] = fitted.threshold
    return probabilities, answers, thresholds


def _abstention(
    wanted: float | None, threshold: float | None, answered: NDArray[np.bool_], right: NDArray[np.bool_]
) -> Abstention | None:
    if wanted is None or threshold is None:
        return None
    return Abstention(
        wanted, threshold, float(answered.mean()), float(right[answered].mean()) if answered.any() else None
    )


def _stress(
    calibrator: Calibrator,
    evaluated: ScoredSplit,
    settings: EvaluateConfig,
    answer: Callable[[Sequence[str]], NDArray[np.float32]],
) -> tuple[StressResult, ...]:
    if not settings.stress_rows:
        return ()
    few = evaluated.split.head(settings.stress_rows)
    predicted = calibrator.decide(evaluated.log_probs[: len(few)])
    return run_stress_test(
        few.texts,
        np.array(few.labels),
        predicted,
        lambda texts: calibrator.decide(answer(texts)),
        settings.stress_edits,
        settings.seed,
    )


def _errors(
    texts: Sequence[str], expected: Ints, answers: Ints, confidence: Floats, labels: tuple[str, ...]
) -> tuple[ConfidentError, ...]:
    wrong = np.flatnonzero(answers != expected)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:_ERRORS]
    return tuple(
        ConfidentError(texts[row], labels[expected[row]], labels[answers[row]], float(confidence[row]))
        for row in surest.tolist()
    )
