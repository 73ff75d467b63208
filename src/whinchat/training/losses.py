"""The training losses of answers. B: rows. N: answer nodes. V: vocabulary. K: labels.

The loss of whole conversations is ``models.sequence_loss``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own documentation imports it by this name
from torch import Tensor

from whinchat.data.dataset import Split
from whinchat.data.labels import class_weights, label_counts
from whinchat.recipe.schema import TrainConfig

# The target that torch's cross entropy ignores and transformers' Trainer does not count.
IGNORED = -100


def completion_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of answer and end of turn, summed over each row's tokens, (B,).

    Args:
        logits: over the whole vocabulary, (B, 1 + N, V).
        targets: token ids, (B, 1 + N); ``IGNORED`` after the end of a shorter answer.
    """
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(targets.shape).sum(dim=1)


def choice_loss(scores: Tensor, targets: Tensor, offsets: Tensor | None = None) -> Tensor:
    """Return the cross entropy of the targets under a softmax over the labels' scores, (B,).

    Args:
        scores: sequence log-probabilities of the labels' answers, up to a constant of each row, (B, K); see
            ``scoring.label_logits``.
        targets: label indices, (B,), or the weight of each label, (B, K).
        offsets: terms added to the scores in training only, (K,); see ``label_offsets``.
    """
    scores = scores if offsets is None else scores + offsets
    return F.cross_entropy(scores, targets if targets.ndim == 1 else targets.to(scores), reduction="none")


def label_offsets(strength: float, size: int, rows: Split) -> Tensor:
    """Return ``strength`` times the log-share of each label among ``rows``, (K,); see ``label_counts``.

    Half a row is added to each label's count, so that a label without rows gets a finite offset.

    Args:
        strength: ``train.logit_adjustment``.
        size: K.
        rows: the training rows.

    Source: Menon et al. 2021, Long-tail learning via logit adjustment, equation 10 (arXiv:2007.07314).
    """
    counts = torch.tensor(label_counts(size, rows.labels, rows.shares)) + 0.5
    return strength * (counts / counts.sum()).log()


def label_weights(train: TrainConfig, names: Sequence[str], labels: Sequence[int]) -> Tensor:
    """Return the loss weight of each label, (K,), as ``class_weights`` computes it from the same arguments."""
    return torch.tensor(class_weights(train, names, labels))


def example_weights(train: TrainConfig, names: Sequence[str], rows: Split) -> list[float]:
    """Return the loss weight of each training row: its label's, times its own where the split has weights.

    The rows' own weights are scaled to a mean of 1, so that a row of weight 2 counts as the same row given twice.

    Args:
        train: the recipe's ``train`` section.
        names: the task's K labels.
        rows: the training rows.
    """
    of_label = label_weights(train, names, rows.labels).tolist()
    return [of_label[label] * weight for label, weight in zip(rows.labels, own_weights(rows), strict=True)]


def own_weights(rows: Split) -> list[float]:
    """Return the weight of each training row, scaled to a mean of 1."""
    mean = sum(rows.weights) / len(rows) if rows.weights else 1.0
    return [weight / mean for weight in rows.weights] or [1.0] * len(rows)


def soft_targets(train: TrainConfig, names: Sequence[str], rows: Split) -> list[tuple[float, ...]]:
    """Return the weight of each label in the loss of each row with shares: its share, times the label's weight.

    Args:
        train: the recipe's ``train`` section.
        names: the task's K labels.
        rows: the training rows, with shares.

    Source: soft targets, Hinton, Vinyals and Dean 2015, section 2 (arXiv:1503.02531).
    """
    of_label = class_weights(train, names, rows.labels, rows.shares)
    return [tuple(weight * share for weight, share in zip(of_label, shares, strict=True)) for shares in rows.shares]


def weighted_mean(losses: Tensor, weights: Tensor, items: Tensor | int) -> Tensor:
    """Return the sum of the losses of a micro-batch, each times its row's weight, divided by ``items``.

    Args:
        losses: (B,).
        weights: weight of each row, (B,); see ``example_weights``.
        items: items of the whole accumulated batch.
    """
    return (losses * weights.to(losses)).sum() / items
