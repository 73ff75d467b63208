"""What every contestant does: load, fit, answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from whinchat.arena.spec import Method
from whinchat.data.dataset import Split
from whinchat.prompts.cleaning import clean
from whinchat.recipe.schema import Recipe


class Contestant(ABC):
    """One method; K: labels, n: texts.

    Attributes:
        notes: what it chose for itself.
        device: where it computes.
        validation: rows to watch while training, where the recipe asks for it.
    """

    validation: Split | None = None

    def __init__(self, method: Method, recipe: Recipe) -> None:
        self.method = method
        self.recipe = recipe
        self.notes: dict[str, str] = {}
        self.device = "cpu"

    def load(self) -> None:  # noqa: B027  # a contestant without a model has nothing to load
        """Get everything that does not depend on the training rows."""

    @abstractmethod
    def fit(self, train: Split) -> int:
        """Train on ``train``; how many of its rows were read."""

    @abstractmethod
    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Log-probabilities of the labels, (n, K), in the order of ``task.labels``."""

    def cleaned(self, texts: Sequence[str]) -> list[str]:
        """Texts mended as the recipe asks, for contestants that make no prompts of them."""
        return [clean(text, self.recipe.task.clean) for text in texts]

    @abstractmethod
    def parameters(self) -> tuple[int, int]:
        """All and trained parameters, after ``fit``."""
