"""The contract of a contestant: load, fit, answer.

N: texts. K: labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from whinchat.arena.contestant_registry import Family
from whinchat.arena.spec import Method
from whinchat.data.cleaning import clean
from whinchat.data.dataset import Split
from whinchat.recipe.schema import Recipe


class Contestant(ABC):
    """A way to classify texts. A trial calls ``load``, ``fit``, ``answer`` and ``parameters`` once each, in this order.

    Each trial runs in a process of its own, and the three first calls are timed apart. A user's error is raised as a
    ``WhinchatError`` with one line that says what to do.

    Attributes:
        family: how the arena groups the method; see ``ContestantKind``.
        method: the method's entry in the arena.
        recipe: labels, metric, label weights and seed, which every contestant should respect, and the model.
        notes: settings that the contestant chose for itself, by name; they are kept in the trial's record.
        device: where it computes, ``cpu`` or ``cuda``.
        validation: rows that may be watched during training, never fitted to; None until the trial sets them.
    """

    family: ClassVar[Family] = "trained"

    def __init__(self, method: Method, recipe: Recipe) -> None:
        self.method = method
        self.recipe = recipe
        self.notes: dict[str, str] = {}
        self.device = "cpu"
        self.validation: Split | None = None

    def load(self) -> None:  # noqa: B027  # a contestant without a model has nothing to load
        """Load everything that does not depend on the training rows, such as a model."""

    @abstractmethod
    def fit(self, train: Split) -> int:
        """Train on ``train`` and return the number of rows that were read."""

    @abstractmethod
    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the log-probability of each label for each text, (N, K), in the order of ``recipe.task.labels``."""

    @abstractmethod
    def parameters(self) -> tuple[int, int]:
        """Return the number of all parameters and of the trained ones, after ``fit``."""

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Return the texts cleaned as the recipe asks; a prompt template does so by itself."""
        return [clean(text, self.recipe.task.clean) for text in texts]
