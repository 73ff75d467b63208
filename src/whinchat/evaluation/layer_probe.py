"""Ask every layer of a model how well a linear classifier tells the labels apart by what the layer computes.

N: texts. L: layers of the model. H: width of the model. F: folds. K: labels. R: resamples.

Source: Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes" (arXiv:1610.01644).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from whinchat.models.forward import Engine
from whinchat.progress import progress
from whinchat.prompts.batching import by_length, collate

FOLDS = 5
# Strengths of the ridge penalty among which leave-one-out errors choose.
_PENALTIES = np.logspace(0, 5, 11)
# Permutations of the labels behind ``best_by_chance``.
_RESAMPLES = 999
# Two scores that are equal but for rounding differ by less.
_ROUNDING = 1e-9


@torch.inference_mode()
def last_states(engine: Engine, prompts: Sequence[tuple[int, ...]], batch_size: int) -> NDArray[np.float32]:
    """Return what the embeddings and each layer compute at the last token of each prompt, (L + 1, N, H)."""
    model: Any = engine.model
    found: dict[int, torch.Tensor] = {}
    with progress("Reading hidden states", len(prompts)) as bar:
        for rows in by_length([len(prompt) for prompt in prompts], batch_size, 1):
            batch = collate([prompts[row] for row in rows], [()] * len(rows), prefix_length=0)
            ids, lengths = batch.rest, batch.lengths
            mask = torch.arange(ids.shape[1]) < lengths[:, None]
            inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.long().to(model.device)}
            states = model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
            last = torch.stack([state[torch.arange(len(rows)), lengths - 1].float().cpu() for state in states])
            found.update(zip(rows, last.unbind(dim=1), strict=True))
            bar.update(len(rows))
    return torch.stack([found[row] for row in range(len(prompts))], dim=1).numpy()


@dataclass(frozen=True)
class LayerAnswers:
    """What a linear classifier on each layer's states answered for texts that it was not fitted to.

    Attributes:
        folds: the fold that each text was answered in, (N,).
        truth: the label of each text, from 0, (N,).
        answers: the label that each layer's classifier answered, (L + 1, N); that on the embeddings first.
    """

    folds: NDArray[np.int64]
    truth: NDArray[np.int64]
    answers: NDArray[np.int64]

    def scores(self) -> NDArray[np.float64]:
        """Return the macro-F1 of each layer in each fold, (L + 1, F)."""
        return self._scores(self.truth)

    def scores_by_chance(self, random: np.random.Generator) -> NDArray[np.float64]:
        """Return the scores with the true labels shuffled within each fold, (L + 1, F)."""
        order = np.lexsort((random.random(len(self.folds)), self.folds))
        truth = np.empty_like(self.truth)
        truth[np.argsort(self.folds, kind="stable")] = self.truth[order]
        return self._scores(truth)

    def _scores(self, truth: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return macro-F1 over the labels that a fold's truth or answers have, as scikit-learn's ``f1_score``."""
        layers, labels = len(self.answers), int(max(truth.max(), self.answers.max())) + 1

        def count(codes: NDArray[np.int64], kept: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
            """Count labels in each layer and fold, (L + 1, F, K)."""
            cells = (np.arange(layers)[:, None] * FOLDS + self.folds) * labels + codes
            counted = np.bincount(cells.ravel() if kept is None else cells[kept], minlength=layers * FOLDS * labels)
            return counted.reshape(layers, FOLDS, labels).astype(float)

        total = count(np.broadcast_to(truth, self.answers.shape)) + count(self.answers)
        right = count(self.answers, self.answers == truth)
        f1 = np.divide(2 * right, total, out=np.zeros_like(right), where=total > 0)
        return np.asarray(f1.sum(axis=2) / (total > 0).sum(axis=2))


def probe_states(states: NDArray[np.float32], labels: Sequence[int]) -> LayerAnswers:
    """Fit a ridge classifier on each layer's states, and return its answers for each fold, fitted to the other folds.

    Args:
        states: what each layer computes, (L + 1, N, H).
        labels: the label of each text, N of them.
    """
    truth = np.array(labels)
    cut = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    folds, answers = np.empty_like(truth), np.empty((len(states), len(truth)), dtype=np.int64)
    with warnings.catch_warnings():
        # A label with fewer rows than folds is missing in some folds, whose macro-F1 is the mean over the other labels.
        warnings.filterwarnings("ignore", "The least populated class")
        for fold, (train, test) in enumerate(cut.split(states[0], truth)):
            folds[test] = fold
            for layer, own in enumerate(states):
                probe = make_pipeline(StandardScaler(), RidgeClassifierCV(_PENALTIES, class_weight="balanced"))
                answers[layer, test] = probe.fit(own[train], truth[train]).predict(own[test])
    return LayerAnswers(folds, truth, answers)


def best_by_chance(parts: Sequence[LayerAnswers]) -> float:
    """Return the score that the best layer exceeds in one of 20 cases where texts say nothing about their labels.

    It is a quantile of the best layer's score over random permutations: the true labels are shuffled within each fold,
    and the answers stay as they are. The maximum over all layers is taken in each permutation, because the best of many
    layers has a high score by chance alone.

    Args:
        parts: the answers to each decision; the score of a layer is the mean over decisions and folds.

    Sources: Ojala and Garriga 2010, "Permutation tests for studying classifier performance", test 1; for the maximum,
    Westfall and Young 1993, "Resampling-based multiple testing".
    """
    random = np.random.default_rng(0)
    best = [
        np.mean([part.scores_by_chance(random)[1:].mean(axis=1) for part in parts], axis=0).max()
        for _ in range(_RESAMPLES)
    ]  # R scores
    return float(np.quantile(best, 0.95, method="higher"))


def fewest_layers(scores: NDArray[np.float64]) -> int:
    """Return the fewest layers, at least one, whose mean score is within one standard error of the best.

    Source: the one-standard-error rule of Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3.

    Args:
        scores: the score of each layer in each fold, (L + 1, F); that of the embeddings first.
    """
    means = scores[1:].mean(axis=1)
    best = means.argmax()
    error = scores[1:][best].std(ddof=1) / np.sqrt(scores.shape[1])
    return int(np.flatnonzero(means >= means[best] - error - _ROUNDING)[0]) + 1
