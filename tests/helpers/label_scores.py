"""Scores of labels whose true probabilities are known."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

LABELS = ("a", "b", "c")
PRIOR = (0.15, 0.45, 0.40)


def drawn(rows: int, seed: int = 0, prior: tuple[float, ...] = PRIOR) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, K) that are the true log-posteriors of the labels (N,) they come with."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(3, size=rows, p=prior)
    features = np.eye(3)[labels] * 1.5 + draw.normal(size=(rows, 3))
    # Gaussians of unit variance around 1.5 e_k.
    scores = 1.5 * features + np.log(prior)
    return log_softmax(scores, axis=1), labels
