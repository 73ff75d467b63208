"""A trained classifier in memory: texts in, answers out. Every way of using one goes through here.

N: texts. K: labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.calibration import Calibrator
from whinchat.evaluation.scoring import score_prompts
from whinchat.hub.client import fetch_classifier
from whinchat.models.adapters import load_adapter
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine
from whinchat.models.packed.llama import Prefix
from whinchat.recipe.schema import Recipe
from whinchat.storage.locate import find_classifier


@dataclass(frozen=True)
class Predictions:
    """What N texts are answered with, in their order.

    Attributes:
        labels: names of the K labels, the columns of ``probabilities``.
        probabilities: calibrated where the classifier is, (N, K).
        best: index of each text's label, (N,): the one that serves the metric, so not always the likeliest.
        unsure: where that label's probability is below the classifier's threshold, (N,).
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]
    best: NDArray[np.int64]
    unsure: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.best)

    @classmethod
    def of(cls, calibrator: Calibrator, probabilities: NDArray[np.float64], best: NDArray[np.int64]) -> Self:
        """Doubted where the calibrator says so."""
        chosen = probabilities[np.arange(len(best)), best]
        limit = 0.0 if calibrator.threshold is None else calibrator.threshold
        return cls(calibrator.labels, probabilities, best, chosen < limit)

    def part(self, start: int, end: int) -> Predictions:
        """Those from ``start`` to before ``end``."""
        rows = slice(start, end)
        return Predictions(self.labels, self.probabilities[rows], self.best[rows], self.unsure[rows])

    @classmethod
    def join(cls, parts: Sequence[Predictions]) -> Predictions:
        """One after the other; ``parts`` are of the same labels, one or more."""
        return cls(
            parts[0].labels,
            np.concatenate([one.probabilities for one in parts]),
            np.concatenate([one.best for one in parts]),
            np.concatenate([one.unsure for one in parts]),
        )

    def label(self, at: int) -> str:
        """Name of the label of text ``at``."""
        return self.labels[int(self.best[at])]

    def line(self, at: int) -> dict[str, Any]:
        """The answer to text ``at`` as plain JSON types."""
        shares = self.probabilities[at].tolist()
        return {
            "label": self.label(at),
            "unsure": bool(self.unsure[at]),
            "probabilities": dict(zip(self.labels, shares, strict=True)),
        }


@dataclass(frozen=True)
class Predictor:
    """A trained classifier: the recipe it came from, the model with its prompts, and how scores become answers."""

    recipe: Recipe
    engine: Engine
    calibrator: Calibrator

    @classmethod
    def load(cls, path: Path) -> Self:
        """What a run left: its folder, the adapter's folder alone, or OWNER/NAME on the hub.

        Raises:
            HubError, RunError: nothing of the kind there. ModelError: its backbone cannot be had, or a file is damaged.
        """
        path = fetch_classifier(path)
        recipe, engine = load_engine(path)
        return cls(recipe, engine, load_calibrator(path, recipe))

    def score(
        self, texts: Sequence[str], *, deterministic: bool = False, bar: Any = None, prefix: Prefix | None = None
    ) -> NDArray[np.float32]:
        """What ``answer`` takes, (N, K): log-probabilities but for a constant of each text.

        The options are those of ``evaluation.scoring.score``.
        """
        size = self.recipe.evaluate.per_device_eval_batch_size
        prompts = self.engine.template.encode(texts)
        return score_prompts(
            self.engine,
            prompts,
            size,
            "Labelling",
            deterministic=deterministic,
            bar=bar,
            prefix=prefix,
            labels_only=True,
        )

    def answer(self, log_probs: NDArray[np.float32]) -> Predictions:
        """Answers to texts with these scores, (N, K)."""
        return Predictions.of(
            self.calibrator, self.calibrator.probabilities(log_probs), self.calibrator.decide(log_probs)
        )


def load_engine(path: Path) -> tuple[Recipe, Engine]:
    """The classifier in ``path``, ready for use; see ``find_classifier`` for what it may be.

    Raises:
        RunError: no finished run there. ModelError: its backbone cannot be had, or the adapter does not fit it.
    """
    found = find_classifier(path)
    backbone = load_backbone(found.recipe.backbone)
    template = backbone.tokenizer.template(found.recipe)
    model = load_adapter(backbone.model, found.folder) if found.has_adapter else backbone.model
    return found.recipe, Engine.build(model, backbone.plan, template)


def load_calibrator(path: Path, recipe: Recipe) -> Calibrator:
    """How the run in ``path`` turns scores into probabilities and answers; a run without validation leaves them be.

    Raises:
        ModelError: its file is damaged or one of other labels.
    """
    return Calibrator.load(find_classifier(path).folder, recipe.task.labels)
