"""What needs no neural network: the most frequent label, and TF-IDF with logistic regression."""

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
    """Every text gets the most frequent label of the training rows."""

    def fit(self, train: Split) -> int:
        """Count labels; half a row is added to each, so that none is impossible."""
        size = len(self.recipe.task.labels)
        counts = np.bincount(train.labels, minlength=size) + 0.5
        self._log_shares = np.log(counts / counts.sum())  # (K,)
        return len(train)

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The shares of the labels, for every text."""
        return np.tile(self._log_shares, (len(texts), 1))

    def parameters(self) -> tuple[int, int]:
        """One share a label."""
        return len(self._log_shares), len(self._log_shares)


class TfIdf(Contestant):
    """Words and pairs of words, and runs of 2 to 5 characters within words, under logistic regression."""

    def fit(self, train: Split) -> int:
        """Choose C, weigh and fit; the vocabulary is each fold's own while C is chosen."""
        features = FeatureUnion(
            [
                # Single characters and signs count as words: "u", "?" and ":)" say much in short texts.
                ("words", TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]+")),
                ("characters", TfidfVectorizer(sublinear_tf=True, ngram_range=(2, 5), analyzer="char_wb")),
            ]
        )
        pipeline = Pipeline([("features", features), ("classifier", regression.make_regression(self.recipe))])
        self._fitted, self.notes["regression"] = regression.fit_regression(
            pipeline, self.cleaned(train.texts), train.labels, self.recipe
        )
        return len(train)

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """(n, K)."""
        return regression.log_probabilities(self._fitted, self.cleaned(texts), len(self.recipe.task.labels))

    def parameters(self) -> tuple[int, int]:
        """Weights of the regression."""
        count = regression.count_weights(self._fitted)
        return count, count
