"""Baselines without a neural network: the most frequent label, and TF-IDF with logistic regression.

N: texts. K: labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline

from whinchat.arena.contestants import regression
from whinchat.arena.contestants.contestant import Contestant
from whinchat.data.dataset import Split


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


class TfIdf(Contestant):
    """Logistic regression on words, pairs of words, and runs of 2 to 5 characters within words."""

    family = "simple"

    def fit(self, train: Split) -> int:
        """Choose C by cross-validation, each fold with its own vocabulary, and fit on all rows."""
        features = FeatureUnion(
            [
                # Single characters and signs are words, too: "u", "?" and ":)" are informative in short texts.
                ("words", TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]+")),
                ("characters", TfidfVectorizer(sublinear_tf=True, ngram_range=(2, 5), analyzer="char_wb")),
            ]
        )
        pipeline = Pipeline([("features", features), ("classifier", regression.make_regression(self.recipe))])
        self._fitted, self.notes["regression"] = regression.fit_regression(
            pipeline, self.clean(train.texts), train.labels, self.recipe
        )
        return len(train)

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log-probabilities, (N, K)."""
        return regression.log_probabilities(self._fitted, self.clean(texts), len(self.recipe.task.labels))

    def parameters(self) -> tuple[int, int]:
        """Return the number of the regression's weights, all of which are trained."""
        count = regression.count_weights(self._fitted)
        return count, count
