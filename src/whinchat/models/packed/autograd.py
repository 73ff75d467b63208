"""The steps of a Llama layer with backward passes by hand: each saves little, and is computed in few passes.

M: tokens. H: width of the model. I: width of the feed-forward layer. D: width of a head. O: rows of a weight. R: rank.

On a CPU these tensors fit the caches, so what costs is the number of passes over them, and autograd's own composition
of small operations makes many: float32 copies, products kept for later, sums of partial gradients.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class InferenceAwareFunction(Function):
    """A function with a backward pass by hand; where no gradients are wanted it is called without autograd's part.

    That takes some 25 microseconds a call, of which a text alone on a CPU would wait for hundreds.
    """

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """``forward`` of ``args``."""
        if torch.is_grad_enabled():
            return super().apply(*args)  # type: ignore[no-untyped-call]
        return cls.forward(_NoGradient(), *args)


class _NoGradient:
    """Stands where autograd's context would; what is put there goes with the call."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Nothing is kept."""


class RmsNorm(InferenceAwareFunction):
    """``weight * x / sqrt(mean(x^2) + eps)``, rounded where transformers rounds it.

    Source: Root Mean Square Layer Normalization, equation 4 (arXiv:1910.07467).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """(M, H) from x (M, H) and the frozen weight (H,)."""
        wide = x.to(torch.float32, copy=True)  # products of mixed data types are slow
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # (M, 1)
        ctx.save_for_backward(x, weight, scale)
        return wide.mul_(scale).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """With n = x * scale: ``scale * (w g - n mean(n w g))``."""
        x, weight, scale = ctx.saved_tensors
        wide, weighted = x.float(), (grad * weight).float()  # (M, H)
        dot = (wide * weighted).sum(dim=-1, keepdim=True)  # (M, 1)
        correction = dot.mul_(scale.square()).div_(-x.shape[-1])
        return weighted.addcmul_(wide, correction).mul_(scale).to(x.dtype), None, None


class RotaryEmbedding(InferenceAwareFunction):
    """Rotary position embedding of heads, from token-major to head-major order.

    Source: RoFormer, equation 34 (arXiv:2104.09864), with the halves paired as transformers pairs them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(..., heads, S, D), contiguous, from x (..., S, heads, D) and angles (..., S, D / 2)."""
        ctx.save_for_backward(cos, sin)
        turned = x.new_empty(*x.shape[:-3], x.shape[-2], x.shape[-3], x.shape[-1])
        return _turn(x.transpose(-2, -3), cos.unsqueeze(-3), sin.unsqueeze(-3), turned, forward=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The same turn the other way."""
        cos, sin = ctx.saved_tensors
        turned = grad.new_empty(*grad.shape[:-3], grad.shape[-2], grad.shape[-3], grad.shape[-1])
        _turn(grad, cos.unsqueeze(-3), sin.unsqueeze(-3), turned.transpose(-2, -3), forward=False)
        return turned, None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, *, forward: bool) -> Tensor:
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    sign = 1 if forward else -1
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin, value=sign)
    return out


class SwiGlu(InferenceAwareFunction):
    """``silu(gate) * up``.

    Source: GLU Variants Improve Transformer, equation 6 (arXiv:2002.05202).
    """

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """(M, I) from gate and up, (M, I)."""
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """silu is computed again rather than kept: (M, I) a layer is most of what a step holds."""
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), F.silu(gate).mul_(grad)


class ScatterRows(InferenceAwareFunction):
    """Rows of x (M, ...) at ``index`` (M,) of a new tensor of ``size`` rows, zero elsewhere; no index comes twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, size: int) -> Tensor:
        """(size, ...)."""
        ctx.save_for_backward(index)
        return x.new_zeros(size, *x.shape[1:]).index_copy_(0, index, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The rows that were placed."""
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class GatherRows(InferenceAwareFunction):
    """Rows ``index`` of x, the inverse of ``Place``; no index comes twice, so its gradient is a copy and no sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        """(len(index), ...)."""
        ctx.save_for_backward(index)
        ctx.size = len(x)
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient in the places that were read."""
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, ctx.saved_tensors[0], grad), None
