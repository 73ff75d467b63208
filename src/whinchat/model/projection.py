"""Linear layers with an adapter, as one step: the frozen product, the low-rank one and DoRA's gain.

M: tokens. O, I: rows and columns of a frozen weight. R: rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from whinchat.model.kernels import FactoredDora


def project(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)``, (M, O) from x (M, I), for a linear layer with or without PEFT's adapter on it.

    Factors are multiplied in the data type of ``x``, as under autocast; their gradients come back in their own.
    """
    if not isinstance(layer, LoraLayer):
        return _frozen(layer, x)
    base, name = layer.get_base_layer(), _active(layer)
    if name is None:
        return _frozen(base, x)
    a, b, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    weight = dense(base, x.dtype)
    dropout = layer.lora_dropout[name]
    dropped = dropout(x) if layer.training and not isinstance(dropout, nn.Identity) else None
    dora = layer.lora_variant.get(name)
    if dora is None:
        return AdaptedLinear.apply(x, dropped, a, b, None, None, base, weight, scale)
    magnitude = layer.lora_magnitude_vector[name].weight
    norm = dora.row_norm(layer, weight, a, b, scale)
    if dropped is None:
        return AdaptedLinear.apply(x, None, a, b, magnitude, norm, base, weight, scale)
    # PEFT rescales the base term of the dropped input and leaves the rest of W x alone: W (x - dropped) + DoRA(dropped).
    adapted = AdaptedLinear.apply(dropped, None, a, b, magnitude, norm, base, weight, scale, False)
    return adapted + _frozen(base, x - dropped)


def dense(base: Any, dtype: torch.dtype) -> Tensor:
    """The frozen weight (O, I) to multiply with; a fresh copy for NF4, the weight itself otherwise."""
    if not _is_nf4(base):
        weight: Tensor = base.weight
        return weight
    from bitsandbytes.functional import dequantize_4bit

    unpacked: Tensor = dequantize_4bit(base.weight.data, base.weight.quant_state)
    return unpacked.to(dtype)


class FrozenLinear(Function):
    """An NF4 layer without an adapter: the weight is dequantized for each pass and never kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: nn.Module) -> Tensor:
        """(M, O)."""
        ctx.base = base
        return F.linear(x, dense(base, x.dtype), base.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The input's gradient; the weight has none."""
        return grad @ dense(ctx.base, grad.dtype), None


class AdaptedLinear(Function):
    """``gain * (W x + scale * B A x) + bias``, with gain 1 for LoRA and magnitude / norm for DoRA.

    Sources: LoRA, section 4.1 (arXiv:2106.09685); DoRA, equation 5 and section 4.3 (arXiv:2402.09353), which holds the
    norm constant in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        a: Tensor,
        b: Tensor,
        magnitude: Tensor | None,
        norm: Tensor | None,
        base: nn.Module,
        weight: Tensor,
        scale: float,
        with_bias: bool = True,
    ) -> Tensor:
        """(M, O).

        Args:
            ctx: autograd's.
            x: (M, I).
            dropped: what A is applied to, (M, I); None for x itself.
            a, b: factors, (R, I) and (O, R), in float32 or the data type of x.
            magnitude: DoRA's, (O,), or None.
            norm: row norms of W + scale * B A, (O,), or None.
            base: the frozen layer, asked for its weight again in the backward pass.
            weight: its weight, (O, I).
            scale: ``lora_alpha / r`` (or over its root, for rsLoRA).
            with_bias: whether to add the frozen layer's bias.
        """
        bias = base.bias if with_bias else None
        narrow_a, narrow_b = a.to(x.dtype), b.to(x.dtype)
        inner = F.linear(x if dropped is None else dropped, narrow_a)  # (M, R)
        product = F.linear(x, weight, bias if magnitude is None else None)
        product.addmm_(inner, narrow_b.T, alpha=scale)
        saved: list[Tensor | None] = [x, dropped, inner, narrow_a, narrow_b]
        ctx.base, ctx.scale, ctx.dtype = base, scale, a.dtype
        if magnitude is None:
            ctx.save_for_backward(*saved, None, None, None)
            return product
        # The gain is close to one and would lose its learned part in bfloat16; what it has above one keeps it.
        excess = (magnitude / norm - 1).to(x.dtype)  # (O,)
        ctx.save_for_backward(*saved, product, excess, norm)
        gained = torch.addcmul(product, product, excess)
        return gained if bias is None else gained.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, dropped, a, b and magnitude."""
        x, dropped, inner, a, b, product, excess, norm = ctx.saved_tensors
        need_x, need_dropped = ctx.needs_input_grad[:2]
        grad_magnitude = None
        if product is not None:
            if ctx.needs_input_grad[4]:
                grad_magnitude = (grad * product).sum(dim=0, dtype=torch.float32).div_(norm)
            grad = torch.addcmul(grad, grad, excess)
        grad_inner = (grad @ b).mul_(ctx.scale)  # (M, R)
        grad_b = (grad.T @ inner).to(ctx.dtype).mul_(ctx.scale) if ctx.needs_input_grad[3] else None
        grad_a = (grad_inner.T @ (x if dropped is None else dropped)).to(ctx.dtype) if ctx.needs_input_grad[2] else None
        grad_x = grad @ dense(ctx.base, grad.dtype) if need_x else None
        grad_dropped = None
        if dropped is None and grad_x is not None:
            grad_x.addmm_(grad_inner, a)
        elif need_dropped:
            grad_dropped = grad_inner @ a
        return grad_x, grad_dropped, grad_a, grad_b, grad_magnitude, None, None, None, None, None


def _frozen(base: Any, x: Tensor) -> Tensor:
    if _is_nf4(base):
        result: Tensor = FrozenLinear.apply(x, base)
        return result
    return F.linear(x, base.weight, base.bias)


def is_projectable(layer: nn.Module) -> bool:
    """Whether ``project`` knows this layer; true of whatever is no adapter, and of LoRA and DoRA on linear layers."""
    if not isinstance(layer, LoraLayer):
        return True
    base, name = layer.get_base_layer(), _active(layer)
    if not (type(base) is nn.Linear or _is_nf4(base)):
        return False
    known = name is None or isinstance(layer.lora_variant.get(name), FactoredDora | None)
    return known and len(layer.active_adapters) <= 1 and not any(layer.lora_bias.values())


def _active(layer: Any) -> str | None:
    """The adapter at work in ``layer``, unless it is switched off or already part of the weight."""
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    return None if layer.disable_adapters or layer.merged or not names else names[0]


def _is_nf4(layer: nn.Module) -> bool:
    return type(layer).__name__ == "Linear4bit"
