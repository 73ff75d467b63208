"""Metrics of questions that follow from a confusion matrix.

R: confusion matrices, such as bootstrap resamples. K: labels. A confusion matrix is (K, K + 1), as in
``metric_registry``; the last column, answers that were no label, is empty for questions. A function returns (R,), NaN
where the metric is not defined.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from whinchat.evaluation.metric_registry import accuracy, macro_f1, macro_recall
from whinchat.recipe.question import QuestionType


def yes_f1(matrices: Any) -> Any:
    """Return the F1 of "yes", the second label, (R,); NaN where no row is "yes"."""
    hits, support = matrices[:, 1, 1], matrices[:, 1].sum(axis=1)
    return np.where(support > 0, 2 * hits / (support + matrices[:, :, 1].sum(axis=1)).clip(min=1), np.nan)


def quadratic_kappa(matrices: Any) -> Any:
    """Return Cohen's kappa with quadratic weights, (R,); NaN where all rows and answers have one and the same level.

    Source: Cohen 1968, "Weighted kappa", with the squared distance of the levels as weight.
    """
    size = matrices.shape[1]
    counts = matrices[:, :, :size]
    expected = counts.sum(axis=2)[:, :, None] * counts.sum(axis=1)[:, None, :] / counts.sum(axis=(1, 2))[:, None, None]
    weights = _distances(size) ** 2
    seen, by_chance = (counts * weights).sum(axis=(1, 2)), (expected * weights).sum(axis=(1, 2))
    return np.where(by_chance > 0, 1 - seen / np.where(by_chance > 0, by_chance, 1), np.nan)


def level_error(matrices: Any) -> Any:
    """Return the mean distance, in levels, of the answered level from the true level, (R,)."""
    size = matrices.shape[1]
    return (matrices[:, :, :size] * _distances(size)).sum(axis=(1, 2)) / matrices.sum(axis=(1, 2))


def within_one(matrices: Any) -> Any:
    """Return the share of rows whose answered level is the true level or a neighbour of the true level, (R,)."""
    size = matrices.shape[1]
    return (matrices[:, :, :size] * (_distances(size) <= 1)).sum(axis=(1, 2)) / matrices.sum(axis=(1, 2))


def _distances(size: int) -> Any:
    """The distance of each level from each other level, (K, K)."""
    return np.abs(np.subtract.outer(np.arange(size), np.arange(size)))


# Type of question -> name in ``question_metric_registry`` -> function, for the metrics of the confusion matrix.
MATRIX_METRICS: Mapping[QuestionType, Mapping[str, Callable[..., Any]]] = {
    "choice": {"macro_f1": macro_f1, "macro_recall": macro_recall, "accuracy": accuracy},
    "yes_no": {"f1": yes_f1, "accuracy": accuracy},
    "score": {
        "qwk": quadratic_kappa,
        "mae": level_error,
        "accuracy": accuracy,
        "within_one": within_one,
        "macro_f1": macro_f1,
    },
}
