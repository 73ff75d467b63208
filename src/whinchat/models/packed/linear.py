"""Linear layers with an adapter, as one step: the frozen product, the low-rank one and DoRA's gain.

M: tokens. O, I: rows and columns of a frozen weight. R: rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from whinchat.models.nf4 import unpack_nf4
from whinchat.models.packed.autograd import InferenceAwareFunction
from whinchat.models.packed.dora import FactoredDora


def adapted_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)``, (M, O) from x (M, I), for a linear layer with or without PEFT's adapter on it.

    Factors are multiplied in the data type of ``x``, as under autocast; their gradients come back in their own.
    """
    if not isinstance(layer, LoraLayer):
        return _frozen(layer, x)
    base, name = layer.get_base_layer(), _active(layer)
    if name is None:
        return _frozen(base, x)
    a, b, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    dropout = layer.lora_dropout[name]
    p = dropout.p if layer.training and isinstance(dropout, nn.Dropout) else 0.0
    dora = layer.lora_variant.get(name)
    if dora is None:
        return _biased(AdaptedLinear.apply(x, a, b, None, FrozenLinearArgs(base, scale, p)), base)
    magnitude = layer.lora_magnitude_vector[name].weight
    fixed = FrozenLinearArgs(base, scale, 0.0, lambda weight: dora.row_norm(layer, lambda: weight, a, b, scale))
    if not p:
        return _biased(AdaptedLinear.apply(x, a, b, magnitude, fixed), base)
    # PEFT rescales the base term of the dropped input and leaves the rest of W x as it is.
    dropped = dropout(x)
    adapted: Tensor = AdaptedLinear.apply(dropped, a, b, magnitude, fixed)
    return adapted + _frozen(base, x - dropped)


def dense(base: Any, dtype: torch.dtype) -> Tensor:
    """The frozen weight (O, I) to multiply with; for NF4 a copy that holds until this thread asks for the next one."""
    weight: Tensor = base.weight
    return weight if not _is_nf4(base) else unpack_nf4(base.weight).to(dtype)


class FrozenLinear(InferenceAwareFunction):
    """An NF4 layer without an adapter or bias: the weight is dequantized for each pass and never kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: nn.Linear) -> Tensor:
        """(M, O)."""
        ctx.base = base
        return F.linear(x, dense(base, x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The input's gradient; the weight has none."""
        return grad @ dense(ctx.base, grad.dtype), None


@dataclass(frozen=True)
class FrozenLinearArgs:
    """What ``AdaptedLinear`` gets and gives no gradient to.

    Attributes:
        base: the frozen layer with its weight W, (O, I).
        scale: ``lora_alpha / r`` (or over its root, for rsLoRA).
        dropout: share of A's input that is dropped.
        row_norm: for DoRA, from W to the row norms of W + scale * B A, (O,).
    """

    base: nn.Linear
    scale: float
    dropout: float
    row_norm: Callable[[Tensor], Tensor] | None = None


class AdaptedLinear(InferenceAwareFunction):
    """``gain * (W x + scale * B A dropout(x))``, with gain 1 for LoRA, magnitude / norm for DoRA; without W's bias.

    Sources: LoRA, section 4.1 (arXiv:2106.09685); DoRA, equation 5 and section 4.3 (arXiv:2402.09353), which holds the
    norm constant in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, magnitude: Tensor | None, fixed: FrozenLinearArgs) -> Tensor:
        """(M, O).

        Args:
            ctx: autograd's.
            x: (M, I).
            a, b: factors, (R, I) and (O, R), in float32 or the data type of x.
            magnitude: DoRA's, (O,), or None.
            fixed: the rest.
        """
        ctx.fixed, ctx.dtype = fixed, a.dtype
        a, b = a.to(x.dtype), b.to(x.dtype)
        # A byte for each input is kept for the backward pass, not the dropped input itself.
        dropped, kept = torch.native_dropout(x, fixed.dropout, True) if fixed.dropout else (x, None)
        inner = F.linear(dropped, a)  # (M, R)
        weight = dense(fixed.base, x.dtype)
        norm = None if fixed.row_norm is None else fixed.row_norm(weight)
        product = F.linear(x, weight).addmm_(inner, b.T, alpha=fixed.scale)
        if magnitude is None or norm is None:
            ctx.save_for_backward(x, kept, inner, a, b, None, None, None)
            return product
        # The gain is close to one and would lose its learned part in bfloat16; what it has above one keeps it.
        excess = (magnitude / norm - 1).to(x.dtype)  # (O,)
        product.addcmul_(product, excess)
        # Kept with its gain, as the next step keeps it: the memory is the same.
        ctx.save_for_backward(x, kept, inner, a, b, product, excess, magnitude)
        return product

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, a, b and magnitude."""
        x, kept, inner, a, b, gained, excess, magnitude = ctx.saved_tensors
        need_x, need_a, need_b, need_magnitude, _ = ctx.needs_input_grad
        fixed: FrozenLinearArgs = ctx.fixed
        grad_x = grad_a = grad_b = grad_magnitude = None
        if gained is not None:
            if need_magnitude:
                grad_magnitude = (grad * gained).sum(dim=0).to(magnitude.dtype).div_(magnitude)
            grad = torch.addcmul(grad, grad, excess)
        grad_inner = (grad @ b).mul_(fixed.scale)  # (M, R)
        if need_b:
            grad_b = (grad.T @ inner).to(ctx.dtype).mul_(fixed.scale)
        if need_a:
            dropped = x if kept is None else (x * kept).div_(1 - fixed.dropout)
            grad_a = (grad_inner.T @ dropped).to(ctx.dtype)
        if need_x:
            grad_x = grad @ dense(fixed.base, grad.dtype)
            if kept is None:
                grad_x.addmm_(grad_inner, a)
            else:
                grad_x.addcmul_(grad_inner @ a, kept, value=1 / (1 - fixed.dropout))
        return grad_x, grad_a, grad_b, grad_magnitude, None


def _frozen(base: Any, x: Tensor) -> Tensor:
    if _is_nf4(base):
        return _biased(FrozenLinear.apply(x, base), base)
    return F.linear(x, base.weight, base.bias)


def _biased(x: Tensor, base: Any) -> Tensor:
    return x if base.bias is None else x + base.bias


def supports_linear(layer: nn.Module) -> bool:
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
