"""The contract of a contestant: load, fit, answer.

N: texts. K: labels.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from whinchat.arena.contestant_registry import Family
from whinchat.arena.spec import Method
from whinchat.data.cleaning import clean
from whinchat.data.dataset import Split
from whinchat.recipe.question import Decision
from whinchat.recipe.schema import Recipe


class Contestant(ABC):
    """A way to classify texts. A trial calls ``load``, ``fit``, ``answer`` and ``parameters`` once each, in this order.

    Each trial runs in a process of its own, and the three first calls are timed apart. A user's error is raised as a
    ``WhinchatError`` with one line that says what to do.

    Of a task with questions, each decision is a task with labels. After ``load`` there is a copy of the contestant for
    each, and ``fit``, ``answer`` and ``parameters`` are called on every copy. A class whose copies may share what was
    loaded overrides ``copied``; one that trains one model for all decisions overrides ``fit_task`` and ``answer_task``.

    Attributes:
        family: how the arena groups the method; see ``ContestantKind``.
        method: the method's entry in the arena.
        recipe: labels, metric, label weights and seed, which every contestant should respect, and the model.
        notes: settings that the contestant chose for itself, by name; they are kept in the trial's record.
        device: where it computes, ``cpu`` or ``cuda``.
        model_commit: what identifies the files of the loaded model, as in ``ModelSource``; None without a model.
        validation: rows that may be watched during training, never fitted to; None until the trial sets them.
        decision: the decision to which a copy is fitted; None in a task with labels.
        parts: the copies for the decisions, in their order; in a task with labels, the contestant itself.
    """

    family: ClassVar[Family] = "trained"

    def __init__(self, method: Method, recipe: Recipe) -> None:
        self.method = method
        self.recipe = recipe
        self.notes: dict[str, str] = {}
        self.device = "cpu"
        self.model_commit: str | None = None
        self.validation: Split | None = None
        self.decision: Decision | None = None
        self.parts: Sequence[Contestant] = (self,)

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

    def fit_task(self, train: Split) -> int:
        """Fit to each decision of the task, or to its labels.

        Returns:
            The number of rows that were read; of questions, for the decision that reads most.
        """
        if not self.recipe.task.questions:
            return self.fit(train)
        self.parts = tuple(self._for_decision(*numbered) for numbered in enumerate(self.recipe.task.decisions))
        rows_used = max(part.fit(train.of_decision(index)) for index, part in enumerate(self.parts))
        for part in self.parts:
            self.notes |= {f"{part.recipe.task.name}: {name}": note for name, note in part.notes.items()}
        return rows_used

    def answer_task(self, texts: Sequence[str]) -> list[NDArray[np.float64]]:
        """Return what ``answer`` returns for each decision of the task, or for its labels."""
        return [part.answer(texts) for part in self.parts]

    def parameters_of_task(self) -> tuple[int, int]:
        """Return what ``parameters`` returns, over all parts, which share the parameters that are not trained."""
        counts = [part.parameters() for part in self.parts]
        trained = sum(own for _, own in counts)
        return max(count - own for count, own in counts) + trained, trained

    def copied(self) -> "Contestant":
        """Return a copy, to be fitted to a decision; by default with its own copy of everything that was loaded."""
        return copy.deepcopy(self)

    def _for_decision(self, index: int, decision: Decision) -> "Contestant":
        part = self.copied()
        part.recipe, part.decision = self.recipe.of_decision(decision), decision
        part.notes, part.parts = {}, (part,)
        part.validation = None if self.validation is None else self.validation.of_decision(index)
        return part

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Return the texts cleaned as the recipe asks; a prompt template does so by itself."""
        return [clean(text, self.recipe.task.clean) for text in texts]
