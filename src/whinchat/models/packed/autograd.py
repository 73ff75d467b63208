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

# The integers as wide as a floating-point number, by its size in bytes.
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


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
    """``weight * x / sqrt(mean(x^2) + eps)``, rounded where transformers rounds.

    The normalized x is rounded to the data type of the weight, and the product to that of x. A weight in the data type
    of x gives Llama's rounding, a float32 weight that of Gemma and OLMo.

    Source: Root Mean Square Layer Normalization, equation 4 (arXiv:1910.07467).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Return x normalized over its last dimension, (M, H), from x (M, H) and the frozen weight (H,)."""
        wide = x.to(torch.float32, copy=True)  # in one data type, since products of mixed data types are slow
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # (M, 1)
        ctx.save_for_backward(x, weight, scale)
        return wide.mul_(scale).to(weight.dtype).mul_(weight).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x: ``scale * (w g - n mean(n w g))``, where n is ``x * scale`` and g is ``grad``."""
        x, weight, scale = ctx.saved_tensors
        wide, weighted = x.float(), (grad.to(weight.dtype) * weight).float()  # (M, H)
        dot = (wide * weighted).sum(dim=-1, keepdim=True)  # (M, 1)
        correction = dot.mul_(scale.square()).div_(-x.shape[-1])
        return weighted.addcmul_(wide, correction).mul_(scale).to(x.dtype), None, None


class RotaryEmbedding(InferenceAwareFunction):
    """Rotary position embedding, which also moves the heads before the tokens.

    The first R components of a head turn, component i together with component i + R / 2, as in transformers. The other
    D - R components stay as they are; R may be 0.

    Source: RoFormer, equation 34 (arXiv:2104.09864).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the rotated heads, (..., heads, S, D), contiguous, in the data type of x.

        Args:
            ctx: autograd's context.
            x: queries or keys, (..., S, heads, D).
            cos, sin: angles of the tokens' positions, (..., S, R / 2). Products are computed in their data type.
        """
        ctx.save_for_backward(cos, sin)
        rotated = cos.new_empty(*x.shape[:-3], x.shape[-2], x.shape[-3], x.shape[-1])
        wide = x.to(cos.dtype).transpose(-2, -3)
        return _rotate(wide, cos.unsqueeze(-3), sin.unsqueeze(-3), rotated, sign=1).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x, (..., S, heads, D): ``grad`` rotated back."""
        cos, sin = ctx.saved_tensors
        rotated = cos.new_empty(*grad.shape[:-3], grad.shape[-2], grad.shape[-3], grad.shape[-1])
        _rotate(grad.to(cos.dtype), cos.unsqueeze(-3), sin.unsqueeze(-3), rotated.transpose(-2, -3), sign=-1)
        return rotated.to(grad.dtype), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, *, sign: int) -> Tensor:
    """Write x (..., S, D), rotated by the angles times ``sign``, to ``out``, and return ``out``."""
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=out[..., half : 2 * half]).addcmul_(first, sin, value=sign)
    if 2 * half < x.shape[-1]:
        out[..., 2 * half :] = x[..., 2 * half :]
    return out


class SwiGlu(InferenceAwareFunction):
    """``silu(gate) * up``.

    Source: GLU Variants Improve Transformer, equation 6 (arXiv:2002.05202).

    Attributes:
        activation: the name of the activation in configurations of transformers.
    """

    activation = "silu"

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


class GeGlu(InferenceAwareFunction):
    """``gelu(gate) * up``, with the approximation of GELU by tanh.

    Sources: GLU Variants Improve Transformer, equation 6 (arXiv:2002.05202); Gaussian Error Linear Units, section 2
    (arXiv:1606.08415).

    Attributes:
        activation: the name of the activation in configurations of transformers.
    """

    activation = "gelu_pytorch_tanh"

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Return ``gelu(gate) * up``, (M, I), from gate and up, (M, I)."""
        ctx.save_for_backward(gate, up)
        return F.gelu(gate, approximate="tanh").mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of gate and up."""
        gate, up = ctx.saved_tensors
        grad_gate = torch.ops.aten.gelu_backward(grad * up, gate, approximate="tanh")
        # gelu(gate) is computed again: (M, I) for each layer would be most of the memory of a training step.
        return grad_gate, F.gelu(gate, approximate="tanh").mul_(grad)


class SoftCap(InferenceAwareFunction):
    """``cap * tanh(x / cap)``, which bounds x smoothly to the interval from -cap to cap.

    Source: Gemma 2, section 2 (arXiv:2408.00118).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cap: float) -> Tensor:
        """Return the bounded x, of the shape of x."""
        tanh = (x / cap).tanh_()
        ctx.save_for_backward(tanh)
        return tanh * cap

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x: ``(1 - tanh^2) * grad``."""
        (tanh,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad, tanh), None


class CappedScores(InferenceAwareFunction):
    """``mask + cap * tanh(x)``: scores of attention with a soft cap, in two passes over them.

    L: keys. Q: queries of a key head.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, cap: float) -> Tensor:
        """Return the masked scores, (B * K, Q, L).

        Args:
            ctx: autograd's context.
            x: products of queries and keys, scaled and divided by the cap, (B * K, Q, L).
            mask: 0 or -inf, (1 or B * K, Q, L).
            cap: bound of the scores.
        """
        tanh = x.tanh()
        ctx.save_for_backward(tanh)
        ctx.cap = cap
        return torch.add(mask, tanh, alpha=cap)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x: ``cap * (1 - tanh^2) * grad``."""
        (tanh,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad, tanh).mul_(ctx.cap), None, None


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


class Dropout(InferenceAwareFunction):
    """``nn.functional.dropout`` with the values that ``draw_kept`` keeps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        """Drop the share ``p`` of the values of x, of any shape, and divide the others by ``1 - p``."""
        ctx.p, kept = p, draw_kept(x, p)
        ctx.save_for_backward(kept)
        return keep(x, kept).div_(1 - p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x."""
        (kept,) = ctx.saved_tensors
        return keep(grad, kept).div_(1 - ctx.p), None


def draw_kept(x: Tensor, p: float) -> Tensor:
    """Draw which values of ``x`` dropout keeps: int8, all bits 1 (-1) where a value is kept and 0 where it is dropped.

    On a CPU, torch's own dropout draws a random number for each value and takes longer than the product that follows;
    here a number of 64 bits serves four values.

    Args:
        x: any shape.
        p: share of the values to drop, rounded to a multiple of 2**-16.
    """
    # Whether other devices fill all 64 bits is not known.
    place = x.device if x.device.type == "cuda" else "cpu"
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=place).random_(-(2**63), None)
    # Comparing in place is vectorized and writes 1 and 0; torch.ge, which returns bool, takes 17 times as long.
    kept = bits.view(torch.int16)[: x.numel()].ge_(min(round(p * 2**16), 2**16 - 1) - 2**15)
    return kept.neg_().to(x.device, torch.int8).view(x.shape)


def keep(x: Tensor, kept: Tensor) -> Tensor:
    """Return ``x`` with 0 for the values that ``kept``, from ``draw_kept``, leaves out.

    Bits are masked: a CPU takes ten times as long to multiply bfloat16 and bool.
    """
    bits = _BITS[x.element_size()]
    return (x.view(bits) & kept.to(bits)).view(x.dtype)
