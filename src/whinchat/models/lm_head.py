"""The output layer in full precision. M: places that get logits. H: width of the model. V: vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from whinchat.models.packed.autograd import InferenceAwareFunction

_SWITCH = Lock()
# Rows of the weight that are widened at a time: they stay in the core's own cache until they are multiplied.
_PIECE = 512
# Up to so many places a float32 product costs less than laying the weight out for a bfloat16 one.
_FEW = 8


class FloatHead(nn.Module):
    """A frozen output layer with float32 logits, whatever the weights are held in and autocast says.

    In bfloat16 a logit near 16 moves in steps of 0.125, so labels tie and probabilities come in lumps.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # The same parameters, so a head tied to the embeddings stays tied.
        self.weight = linear.weight
        self.bias = linear.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (..., V), float32, from hidden states (..., H)."""
        with torch.autocast(hidden.device.type, enabled=False):
            if hidden.device.type == "cpu" and hidden.dtype == self.weight.dtype == torch.bfloat16:
                logits: Tensor = _WideProduct.apply(hidden, self.weight)
                return logits if self.bias is None else logits + self.bias.float()
            bias = None if self.bias is None else self.bias.float()
            return F.linear(hidden.float(), self.weight.float(), bias)


def read_logits(head: Any, hidden: Tensor, vocabulary: tuple[int, ...] | None) -> Tensor:
    """``head(hidden)``, (..., V), or its columns for the tokens of ``vocabulary``, which cost next to nothing."""
    if vocabulary is None or type(head) not in (FloatHead, nn.Linear):
        logits: Tensor = head(hidden)
        return logits if vocabulary is None else logits[..., list(vocabulary)]
    rows = list(vocabulary)
    # Not a matrix product: for so few columns its sums depend on how many rows stand beside a row.
    logits = (hidden.float().unsqueeze(-2) * head.weight[rows].float()).sum(dim=-1)
    return logits if head.bias is None else logits + head.bias[rows].float()


class _WideProduct(InferenceAwareFunction):
    """``hidden @ weight.T`` with bfloat16 factors and a float32 result."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        """(..., V) from hidden (..., H) and weight (V, H)."""
        ctx.save_for_backward(weight)
        rows = hidden.flatten(0, -2).float()  # (M, H)
        logits = rows.new_empty(len(rows), len(weight))
        room = rows.new_empty(_PIECE, weight.shape[1])
        with nullcontext() if len(rows) <= _FEW else _bfloat16_factors():
            for piece, part in zip(weight.split(_PIECE), logits.split(_PIECE, dim=1), strict=True):
                torch.mm(rows, room[: len(piece)].copy_(piece).T, out=part)
        shaped: Tensor = logits.unflatten(0, hidden.shape[:-1])
        return shaped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The hidden states' gradient, in their data type."""
        (weight,) = ctx.saved_tensors
        return grad.to(weight.dtype) @ weight, None


@contextmanager
def _bfloat16_factors() -> Iterator[None]:
    """Let oneDNN multiply float32 as bfloat16: faster, and exact where the factors are bfloat16; sums are float32."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    # The switch is the whole process's.
    with _SWITCH:
        before = matmul.fp32_precision
        matmul.fp32_precision = "bf16"
        try:
            yield
        finally:
            matmul.fp32_precision = before
