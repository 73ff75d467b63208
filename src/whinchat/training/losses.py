"""The two losses. B: rows. N: answer nodes. V: vocabulary. K: labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from whinchat.recipe.schema import TrainConfig

# What torch's cross entropy leaves out, and what transformers' Trainer does not count.
IGNORED = -100


def completion_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of answer and end of turn over the whole vocabulary, summed over each row's tokens, (B,).

    Args:
        logits: (B, 1 + N, V).
        targets: (B, 1 + N), token ids, ``IGNORED`` where a row has fewer.
    """
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(targets.shape).sum(dim=1)


def choice_loss(scores: Tensor, labels: Tensor, offsets: Tensor | None = None) -> Tensor:
    """Cross entropy of the true label under a softmax over the labels' sequence log-probabilities, (B,).

    Args:
        scores: those log-probabilities, (B, K), or ``scoring.compared``.
        labels: (B,), label indices.
        offsets: (K,), added to the labels' scores while training alone; see ``label_offsets``.
    """
    return F.cross_entropy(scores if offsets is None else scores + offsets, labels, reduction="none")


def label_offsets(strength: float, size: int, labels: Sequence[int]) -> Tensor:
    """``strength`` times the log-share of each label, (K,); half a row is added to each, so that none is infinite.

    Source: Menon et al. 2021, Long-tail learning via logit adjustment, equation 10 (arXiv:2007.07314).
    """
    counts = torch.bincount(torch.tensor(labels, dtype=torch.long), minlength=size) + 0.5
    return strength * (counts / counts.sum()).log()


def label_weights(train: TrainConfig, names: Sequence[str], labels: Sequence[int]) -> Tensor:
    """Weight of each label, (K,). ``balanced`` is n / (K * rows of the label), as in scikit-learn."""
    if isinstance(train.class_weights, dict):
        return torch.tensor([train.class_weights[name] for name in names])
    if train.class_weights == "none":
        return torch.ones(len(names))
    counts = Counter(labels)
    return torch.tensor([len(labels) / (len(names) * max(1, counts[label])) for label in range(len(names))])
