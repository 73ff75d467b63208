"""The loss of whole sequences: every token after the first is predicted, as in ``trl.SFTTrainer``'s default.

B: rows. P: tokens of the shared prefix. T: longest rest of a row. L: P + T. M: tokens in all. N: predicted tokens.
H: width of the model. V: vocabulary.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch code uses
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from whinchat.models.device import DevicePlan
from whinchat.models.packed.packed_forward import is_packable, packed_head, packed_states
from whinchat.models.plain_forward import autocast
from whinchat.prompts.batching import Batch

# Tokens whose logits over the whole vocabulary are in memory at a time.
_CHUNK_TOKENS = 256


def sequence_losses(model: nn.Module, plan: DevicePlan, batch: Batch) -> Tensor:
    """Compute the negative log-likelihood of each row's tokens after its first, summed over the row.

    Args:
        model: a causal language model, with or without a PEFT adapter.
        plan: device, data types and attention of the model.
        batch: whole sequences, without answer nodes.

    Returns:
        Losses, float32, (B,).
    """
    batch = batch.to(torch.device(plan.device))
    return _packed_losses(model, batch) if is_packable(model, plan) else _plain_losses(model, plan, batch)


def _plain_losses(model: nn.Module, plan: DevicePlan, batch: Batch) -> Tensor:
    """Compute the losses by the model's own forward pass on rows padded at the end, which causal models cannot see."""
    tokens = torch.cat([batch.prefix.expand(len(batch.rest), -1), batch.rest], dim=1)  # (B, L)
    with autocast(plan):
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1].float()  # (B, L - 1, V)
    column = torch.arange(1, tokens.shape[1], device=tokens.device)
    present = column < len(batch.prefix) + batch.lengths[:, None]  # (B, L - 1)
    losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(present.shape)
    row_losses: Tensor = losses.where(present, 0.0).sum(dim=1)
    return row_losses


def _packed_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Compute the losses by the packed forward pass, in which the shared prefix is predicted once for all rows."""
    hidden, packed = packed_states(model, batch)
    rows, width = batch.rest.shape
    prefix = len(batch.prefix)
    column = torch.arange(width, device=hidden.device).expand(rows, -1)  # (B, T)
    # Each token is predicted from the one before it, the first token of a rest from the last token of the prefix.
    source = replace(packed, read_columns=(column - 1).clamp_min(0)).read_indices().view(rows, width)
    source[:, 0] = prefix - 1
    present = column < batch.lengths[:, None]
    if not prefix:
        present[:, 0] = False
    shared = torch.arange(max(0, prefix - 1), device=hidden.device)
    losses = _token_losses(
        model,
        hidden[torch.cat([shared, source[present]])],
        torch.cat([batch.prefix[1:], batch.rest[present]]),
    )
    of_prefix, of_rests = losses.split([len(shared), len(losses) - len(shared)])
    grid = torch.zeros_like(present, dtype=losses.dtype).masked_scatter(present, of_rests)
    row_losses: Tensor = of_prefix.sum() + grid.sum(dim=1)
    return row_losses


def _token_losses(model: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy of each token in ``targets`` (N,), from the states (N, H) that predict these tokens."""

    def losses_of(states: Tensor, tokens: Tensor) -> Tensor:
        return F.cross_entropy(packed_head(model, states).float(), tokens, reduction="none")

    if any(weight.requires_grad for weight in _output_layer(model).parameters()):
        return losses_of(hidden, targets)
    losses: Tensor = _ChunkedLosses.apply(hidden, targets, losses_of)
    return losses


def _output_layer(model: Any) -> nn.Module:
    layer: nn.Module = model.get_output_embeddings()
    return layer


class _ChunkedLosses(Function):
    """Losses of tokens whose logits are computed chunk by chunk, each forward and backward, and then dropped.

    A token's loss depends on its own state alone, so the gradient of the states is known once the chunk's logits are,
    up to the factor of each loss. All logits together, (N, V), would take most of the memory of a training step.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, losses_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the losses, float32, (N,), from the states (N, H) and the tokens (N,)."""
        losses, gradients = [], []
        for states, tokens in zip(hidden.split(_CHUNK_TOKENS), targets.split(_CHUNK_TOKENS), strict=True):
            with torch.enable_grad():
                leaf = states.detach().requires_grad_()
                chunk = losses_of(leaf, tokens)
                gradients += torch.autograd.grad(chunk.sum(), leaf)
            losses.append(chunk.detach())
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the states, (N, H), in their data type."""
        (gradients,) = ctx.saved_tensors
        hidden_grad: Tensor = gradients * grad[:, None]
        return hidden_grad.to(gradients.dtype), None, None
