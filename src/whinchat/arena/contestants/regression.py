"""Logistic regression of the simple contestants, with C chosen by cross-validation on the training rows.

N: texts. K: labels.
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
    """Return a regression with the label weights of the recipe's training."""
    weights = recipe.train.class_weights
    class_weight: dict[int, float] | str | None = "balanced" if weights == "balanced" else None
    if isinstance(weights, dict):
        class_weight = {recipe.task.labels.index(name): weight for name, weight in weights.items()}
    return LogisticRegression(max_iter=2000, class_weight=class_weight)


def fit_regression(pipeline: Pipeline, features: Any, labels: Sequence[int], recipe: Recipe) -> tuple[Pipeline, str]:
    """Fit ``pipeline`` with the C that is best for ``evaluate.metric`` in cross-validation.

    Args:
        pipeline: its last step is called ``classifier``.
        features: N inputs of the pipeline's first step.
        labels: label indices, (N,).
        recipe: the recipe of the trial.

    Returns:
        The fitted pipeline, and a sentence part that says how C was chosen.

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
        # A label with a single row cannot be in both the training and the validation part of a fold.
        return pipeline.fit(features, labels), "C = 1, too few rows of a label to choose"
    splits = StratifiedKFold(folds, shuffle=True, random_state=recipe.train.seed)
    search = GridSearchCV(
        pipeline, {"classifier__C": list(GRID)}, scoring=METRICS[recipe.evaluate.metric].sklearn_scorer, cv=splits
    ).fit(features, labels)
    return search.best_estimator_, f"C = {search.best_params_['classifier__C']:g} by {folds}-fold cross-validation"


def log_probabilities(fitted: Pipeline, features: Any, size: int) -> NDArray[np.float64]:
    """Return log-probabilities for all ``size`` labels, (N, K); next to none for a label without training rows."""
    found = fitted.predict_log_proba(features)
    scores = np.full((len(found), size), np.log(np.finfo(np.float64).tiny))
    scores[:, fitted.classes_] = np.maximum(found, scores[0, 0])
    return scores


def count_weights(fitted: Pipeline) -> int:
    """Return the number of the regression's weights, intercepts included."""
    regression = fitted.named_steps["classifier"]
    return int(regression.coef_.size + regression.intercept_.size)
