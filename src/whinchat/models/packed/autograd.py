"""The element-wise steps of a decoder layer as autograd functions with hand-written backward passes.

M: tokens. H: width of the model. I: width of the feed-forward layer. D: width of a head. S: tokens of a row.

On a CPU the time of these steps is the number of passes over memory. Autograd composes each step of many small
operations, with float32 copies, saved products and sums of partial gradients; these functions make few passes and save
few tensors.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch code uses
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class InferenceAwareFunction(Function):
    """An autograd function that skips autograd where gradients are disabled.

    ``Function.apply`` costs about 25 microseconds a call, and a single text needs hundreds of calls.
    """

    @classmethod
    def apply(cls, *args: Any) -> Tensor:
        """Call ``forward`` with ``args``, through autograd only where gradients are enabled."""
        if torch.is_grad_enabled():
            return super().apply(*args)  # type: ignore[no-any-return,no-untyped-call]  # torch has no types for it
        result: Tensor = cls.forward(_DiscardingContext(), *args)
        return result


class _DiscardingContext:
    """Takes the place of autograd's context where there is no backward pass."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Discard ``tensors``."""


class RmsNorm(InferenceAwareFunction):
    """``weight * x / sqrt(mean(x^2) + eps)``, rounded to the data type of x where transformers rounds.

    Source: Root Mean Square Layer Normalization, equation 4 (arXiv:1910.07467).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Return x normalized over its last dimension, (M, H), from x (M, H) and the frozen weight (H,)."""
        wide = x.to(torch.float32, copy=True)  # in one data type, since products of mixed data types are slow
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # (M, 1)
        ctx.save_for_backward(x, weight, scale)
        return wide.mul_(scale).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x: ``scale * (w g - n mean(n w g))``, where n is ``x * scale`` and g is ``grad``."""
        x, weight, scale = ctx.saved_tensors
        wide, weighted = x.float(), (grad * weight).float()  # (M, H)
        dot = (wide * weighted).sum(dim=-1, keepdim=True)  # (M, 1)
        correction = dot.mul_(scale.square()).div_(-x.shape[-1])
        return weighted.addcmul_(wide, correction).mul_(scale).to(x.dtype), None, None


class RotaryEmbedding(InferenceAwareFunction):
    """Rotary position embedding, which also moves the heads before the tokens.

    Source: RoFormer, equation 34 (arXiv:2104.09864). Component i turns together with component i + D / 2, as in
    transformers.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the rotated heads, (..., heads, S, D), contiguous.

        Args:
            ctx: autograd's context.
            x: queries or keys, (..., S, heads, D).
            cos, sin: angles of the tokens' positions, (..., S, D / 2).
        """
        ctx.save_for_backward(cos, sin)
        rotated = x.new_empty(*x.shape[:-3], x.shape[-2], x.shape[-3], x.shape[-1])
        return _rotate(x.transpose(-2, -3), cos.unsqueeze(-3), sin.unsqueeze(-3), rotated, sign=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x, (..., S, heads, D): ``grad`` rotated back."""
        cos, sin = ctx.saved_tensors
        rotated = grad.new_empty(*grad.shape[:-3], grad.shape[-2], grad.shape[-3], grad.shape[-1])
        _rotate(grad, cos.unsqueeze(-3), sin.unsqueeze(-3), rotated.transpose(-2, -3), sign=-1)
        return rotated, None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, *, sign: int) -> Tensor:
    """Write x (..., S, D), rotated by the angles times ``sign``, to ``out``, and return ``out``."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin, value=sign)
    return out


class SwiGlu(InferenceAwareFunction):
    """``silu(gate) * up``.

    Source: GLU Variants Improve Transformer, equation 6 (arXiv:2002.05202).
    """

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Return ``silu(gate) * up``, (M, I), from gate and up, (M, I)."""
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of gate and up."""
        gate, up = ctx.saved_tensors
        # silu(gate) is computed again: (M, I) for each layer would be most of the memory of a training step.
        return torch.ops.aten.silu_backward(grad * up, gate), F.silu(gate).mul_(grad)


class ScatterRows(InferenceAwareFunction):
    """Write the rows of x to the positions ``index`` of a tensor of zeros; every index occurs once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, size: int) -> Tensor:
        """Return the tensor of ``size`` rows, (size, ...), from x (M, ...) and index (M,)."""
        ctx.save_for_backward(index)
        return x.new_zeros(size, *x.shape[1:]).index_copy_(0, index, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x: the rows of ``grad`` at ``index``."""
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class GatherRows(InferenceAwareFunction):
    """Select the rows ``index`` of x; every index occurs once, so the backward pass copies and need not sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        """Return the selected rows, (len(index), ...), from x (M, ...)."""
        ctx.save_for_backward(index)
        ctx.size = len(x)
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x: ``grad`` at ``index``, zero elsewhere."""
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, ctx.saved_tensors[0], grad), None
