"""Ask every layer of a model how well a linear classifier tells the labels apart by what the layer computes.

N: texts. L: layers of the model. H: width of the model. F: folds.

Source: Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes" (arXiv:1610.01644).
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from whinchat.models.forward import Engine
from whinchat.progress import progress
from whinchat.prompts.batching import by_length, collate

FOLDS = 5
# Strengths of the ridge penalty among which leave-one-out errors choose.
_PENALTIES = np.logspace(0, 5, 11)


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


def probe_states(states: NDArray[np.float32], labels: Sequence[int]) -> NDArray[np.float64]:
    """Return the macro-F1 of a ridge classifier on each layer's states, (L + 1, F), each fold judged by the others.

    Args:
        states: what each layer computes, (L + 1, N, H).
        labels: the label of each text, N of them.
    """
    truth = np.array(labels)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    scores = np.empty((len(states), FOLDS))
    with warnings.catch_warnings():
        # A label with fewer rows than folds is missing in some, and its F1 there is that of the others.
        warnings.filterwarnings("ignore", "The least populated class")
        cut = list(folds.split(states[0], truth))
    for layer, own in enumerate(states):
        for fold, (train, test) in enumerate(cut):
            probe = make_pipeline(StandardScaler(), RidgeClassifierCV(_PENALTIES, class_weight="balanced"))
            answers = probe.fit(own[train], truth[train]).predict(own[test])
            scores[layer, fold] = f1_score(truth[test], answers, average="macro", zero_division=0.0)
    return scores


def fewest_layers(scores: NDArray[np.float64]) -> int:
    """Return the fewest layers, at least one, whose mean score is within one standard error of the best.

    Source: the one-standard-error rule of Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3.

    Args:
        scores: the score of each layer in each fold, (L + 1, F); that of the embeddings first.
    """
    means = scores[1:].mean(axis=1)
    best = means.argmax()
    error = scores[1:][best].std(ddof=1) / np.sqrt(scores.shape[1])
    return int(np.flatnonzero(means >= means[best] - error)[0]) + 1
