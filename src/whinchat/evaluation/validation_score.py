"""Judge a trained model by its scores of the validation rows, as ``whinchat tune`` compares models.

N: rows. K: labels. D: decisions of a task with questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from whinchat.data.dataset import Split
from whinchat.evaluation.calibration import draw_folds, fit_temperature
from whinchat.evaluation.calibrator import scale_log_probs
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.metrics import count_answers
from whinchat.recipe.schema import EvaluateConfig

Floats = NDArray[np.float64]
# The loss of a label whose probability is zero, so that one row cannot make a mean infinite.
_LARGEST_LOSS = 690.0


@dataclass(frozen=True)
class ValidationScore:
    """How well a model answers the validation rows.

    Attributes:
        log_loss: mean negative log-probability of the true label after calibration; each row is calibrated by numbers
            that were fitted on other rows. With questions, the mean over the questions.
        raw_log_loss: the same without calibration.
        metric: ``evaluate.metric`` of the calibrated answers.
        row_losses: what each row adds to ``log_loss``, which is their mean, (N,).
    """

    log_loss: float
    raw_log_loss: float
    metric: float
    row_losses: Floats


def score_labels(log_probs: NDArray[np.float32], rows: Split, settings: EvaluateConfig) -> ValidationScore:
    """Judge the scores of a task with labels, or of one decision.

    Args:
        log_probs: scores of the labels, (N, K).
        rows: the scored rows; an answer of shares is judged by the cross entropy against them.
        settings: the recipe's ``evaluate``: the metric, and the seed of the folds.

    Source: temperature and bias as in ``calibration.fit_temperature``, by five-fold cross-fitting.
    """
    size, expected = log_probs.shape[1], np.array(rows.labels)
    truth = np.array(rows.shares) if rows.shares else np.eye(size)[expected]  # (N, K)
    scores = log_probs.astype(np.float64)
    raw: Floats = log_softmax(scores, axis=1)
    calibrated = raw.copy()
    fold = draw_folds(len(rows), settings.seed)
    for number in range(int(fold.max()) + 1 if len(rows) > 1 else 0):
        inside = fold == number
        temperature, bias = fit_temperature(scores[~inside], truth[~inside])
        calibrated[inside] = scale_log_probs(scores[inside], temperature, bias)
    losses, raw_losses = (_cross_entropy(own, truth) for own in (calibrated, raw))
    matrix = count_answers(expected, calibrated.argmax(axis=1), size)[None]
    metric = float(METRICS[settings.metric].function(matrix)[0])
    return ValidationScore(float(losses.mean()), float(raw_losses.mean()), metric, losses)


def _cross_entropy(log_probs: Floats, truth: Floats) -> Floats:
    losses: Floats = -(truth * np.maximum(log_probs, -_LARGEST_LOSS)).sum(axis=1)
    return losses


def score_decisions(
    log_probs: Sequence[NDArray[np.float32]], rows: Split, questions: Sequence[str], settings: EvaluateConfig
) -> ValidationScore:
    """Judge the scores of a task with questions: the mean over the questions, each the mean over its decisions.

    Args:
        log_probs: scores of each decision, D of (N, K).
        rows: the scored rows; a decision is judged on the rows that have an answer to it, and left out if none has.
        questions: the question of each decision, D of them.
        settings: as for ``score_labels``.
    """
    scored: dict[str, list[tuple[list[int], ValidationScore]]] = {}
    for index, (own, question) in enumerate(zip(log_probs, questions, strict=True)):
        if given := [row for row, answers in enumerate(rows.answers) if answers[index] is not None]:
            found = score_labels(own[given], rows.of_decision(index), settings)
            scored.setdefault(question, []).append((given, found))
    weighted = [(given, one, 1 / (len(scored) * len(own))) for own in scored.values() for given, one in own]
    row_losses = np.zeros(len(rows))
    for given, one, weight in weighted:
        row_losses[given] += weight * len(rows) / len(given) * one.row_losses
    return ValidationScore(
        sum(weight * one.log_loss for _, one, weight in weighted),
        sum(weight * one.raw_log_loss for _, one, weight in weighted),
        sum(weight * one.metric for _, one, weight in weighted),
        row_losses,
    )


def paired_gain_of_losses(old: Floats, new: Floats) -> tuple[float, tuple[float, float]]:
    """Return by how much ``new`` row losses are lower than ``old`` ones, (N,) each, and the 95 % interval of the mean.

    The interval is that of a normal mean of paired differences.
    """
    gains = old - new
    error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else float("inf")
    mean = float(gains.mean())
    return mean, (mean - 1.96 * error, mean + 1.96 * error)
