"""Logistic regression as the simple contestants use it: C chosen by cross-validation on the training rows alone.

n: texts. K: labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from whinchat.errors import DataError
from whinchat.evaluation.metric_registry import METRICS
from whinchat.recipe.schema import Recipe

FOLDS = 5
GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def make_regression(recipe: Recipe) -> LogisticRegression:
    """A regression that weighs labels as the recipe's training does."""
    weights = recipe.train.class_weights
    named: dict[int, float] | str | None = "balanced" if weights == "balanced" else None
    if isinstance(weights, dict):
        named = {recipe.task.labels.index(name): weight for name, weight in weights.items()}
    return LogisticRegression(max_iter=2000, class_weight=named)


def fit_regression(pipeline: Pipeline, features: Any, labels: Sequence[int], recipe: Recipe) -> tuple[Pipeline, str]:
    """``pipeline`` with the C that cross-validation finds best for ``evaluate.metric``, fitted; and how C was found.

    Args:
        pipeline: ends in a step called ``classifier``.
        features: what its first step takes, n of them.
        labels: (n,).
        recipe: of the cell.

    Raises:
        DataError: all rows have the same label.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise DataError(
            f"rows: all {len(labels)} training rows are {recipe.task.labels[labels[0]]}, so there is nothing to tell "
            "apart; raise rows"
        )
    folds = min(FOLDS, *counts.values())
    if folds < 2:
        # A label with a single row cannot be in training and validation both.
        return pipeline.fit(features, labels), "C = 1, too few rows of a label to choose"
    splits = StratifiedKFold(folds, shuffle=True, random_state=recipe.train.seed)
    search = GridSearchCV(
        pipeline, {"classifier__C": list(GRID)}, scoring=METRICS[recipe.evaluate.metric].sklearn_scorer, cv=splits
    ).fit(features, labels)
    return search.best_estimator_, f"C = {search.best_params_['classifier__C']:g} by {folds}-fold cross-validation"


def log_probabilities(fitted: Pipeline, features: Any, size: int) -> NDArray[np.float64]:
    """(n, K) for all ``size`` labels; a label that the training rows lacked is given none."""
    found = fitted.predict_log_proba(features)
    scores = np.full((len(found), size), np.log(np.finfo(np.float64).tiny))
    scores[:, fitted.classes_] = np.maximum(found, scores[0, 0])
    return scores


def count_weights(fitted: Pipeline) -> int:
    """Weights of the regression, intercepts included."""
    regression = fitted.named_steps["classifier"]
    return int(regression.coef_.size + regression.intercept_.size)
