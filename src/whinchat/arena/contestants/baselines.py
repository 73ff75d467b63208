"""Baselines: the most frequent label, and logistic regression with C chosen by cross-validation on the training rows.

Of a ``score`` question the most frequent label is the most frequent level, of a ``multi`` question the more frequent
answer to each option.

N: texts. K: labels.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from whinchat.arena.contestant_registry import Family
from whinchat.arena.contestants.contestant import Contestant
from whinchat.data.dataset import Split
from whinchat.errors import DataError
from whinchat.evaluation.metric_registry import METRICS
from whinchat.evaluation.simple_methods import tfidf_features

FOLDS = 5
GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Majority(Contestant):
    """Answers every text with the most frequent label of the training rows."""

    family = "simple"

    def fit(self, train: Split) -> int:
        """Count the labels; half a row is added to each label, so that no probability is zero."""
        size = len(self.recipe.task.labels)
        counts = np.bincount(train.labels, minlength=size) + 0.5
        self._log_shares = np.log(counts / counts.sum())  # (K,)
        return len(train)

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the logarithms of the labels' shares for every text, (N, K)."""
        return np.tile(self._log_shares, (len(texts), 1))

    def parameters(self) -> tuple[int, int]:
        """Return the number of labels: one share each."""
        return len(self._log_shares), len(self._log_shares)


class Regression(Contestant):
    """Logistic regression with the label weights of the recipe's training; a subclass decides on the features.

    Attributes:
        grid: inverse strengths of the L2 penalty, C, to choose from; an empty grid means C = 1.
    """

    family: ClassVar[Family] = "simple"
    grid: ClassVar[tuple[float, ...]] = GRID

    def features(self, texts: Sequence[str]) -> Any:
        """Return the texts as the first step of the pipeline reads them, N rows."""
        return self.clean(texts)

    def steps(self) -> list[tuple[str, Any]]:
        """Return the steps of the pipeline before the regression, which are fitted anew for each fold."""
        return []

    def fit(self, train: Split) -> int:
        """Fit the regression with the C of the grid that is best for ``evaluate.metric`` in cross-validation.

        A decision of a question to which all rows have the same answer, such as a rare option, is always answered so.

        Raises:
            DataError: all rows have the same label, in a task with labels.
        """
        names, counts = self.recipe.task.labels, Counter(train.labels)
        if len(counts) < 2 and self.decision is not None:
            constant = Pipeline([("classifier", DummyClassifier(strategy="prior"))])
            self._fitted = constant.fit(train.texts, train.labels)
            self.notes["regression"] = f"none, all training rows are {names[train.labels[0]]}"
            return len(train)
        if len(counts) < 2:
            raise DataError(
                f"rows: all {len(train)} training rows are {names[train.labels[0]]}, so there is nothing to "
                "learn; raise rows"
            )
        weights = self.recipe.train.class_weights
        class_weight: dict[int, float] | str | None = "balanced" if weights == "balanced" else None
        if isinstance(weights, dict):
            class_weight = {names.index(name): weight for name, weight in weights.items()}
        regression = LogisticRegression(max_iter=2000, class_weight=class_weight)
        pipeline, features = Pipeline([*self.steps(), ("classifier", regression)]), self.features(train.texts)
        folds = min(FOLDS, *counts.values())
        if folds < 2 or not self.grid:
            # A label with a single row cannot be in both the training and the validation part of a fold.
            self._fitted = pipeline.fit(features, train.labels)
            choice = "C = 1, too few rows of a label to choose" if self.grid else "C = 1"
        else:
            splits = StratifiedKFold(folds, shuffle=True, random_state=self.recipe.train.seed)
            metric = METRICS[self.recipe.evaluate.metric].sklearn_scorer
            search = GridSearchCV(pipeline, {"classifier__C": list(self.grid)}, scoring=metric, cv=splits)
            self._fitted = search.fit(features, train.labels).best_estimator_
            choice = f"C = {search.best_params_['classifier__C']:g} by {folds}-fold cross-validation"
        self.notes["regression"] = choice
        return len(train)

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log-probabilities, (N, K); a label without training rows gets the smallest positive probability."""
        log_probs = self._fitted.predict_log_proba(self.features(texts))
        least = np.log(np.finfo(np.float64).tiny)
        scores = np.full((len(log_probs), len(self.recipe.task.labels)), least)
        scores[:, self._fitted.classes_] = np.maximum(log_probs, least)
        return scores

    def parameters(self) -> tuple[int, int]:
        """Return the number of the regression's weights, intercepts included, all of which are trained."""
        regression = self._fitted.named_steps["classifier"]
        if isinstance(regression, DummyClassifier):
            return 1, 1
        count = int(regression.coef_.size + regression.intercept_.size)
        return count, count


class TfIdf(Regression):
    """Logistic regression on words, pairs of words, and runs of 2 to 5 characters within words."""

    def steps(self) -> list[tuple[str, Any]]:
        """Return the features, so that each fold has its own vocabulary."""
        return [("features", tfidf_features())]
