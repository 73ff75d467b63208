"""A linear layer with its adapter as one step: frozen product, low-rank product and DoRA's gain.

M: tokens. O, I: rows and columns of the frozen weight W. R: rank of the adapter. A: (R, I) and B: (O, R), its factors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch code uses
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from whinchat.models.nf4 import unpack_nf4
from whinchat.models.packed.autograd import Dropout, InferenceAwareFunction, draw_kept, keep
from whinchat.models.packed.dora import FactoredDora
from whinchat.models.packed.merged_weights import merged_weight

# PEFT's LoRA layers over plain and NF4 linear layers. Its other layers, such as those of experts, compute otherwise.
_LORA_LAYERS = ("Linear", "Linear4bit")


def project(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer with its adapter: what ``layer(x)`` computes, (M, O) from x (M, I).

    The factors are multiplied in the data type of ``x``, as under autocast; their gradients come back in the factors'
    own data type.

    Args:
        layer: a layer for which ``supports_linear`` is true.
        x: the input, (M, I).
    """
    if not isinstance(layer, LoraLayer):
        return _project_frozen(layer, x)
    base, name = layer.base_layer, _active_adapter(layer)
    if name is None:
        return _project_frozen(base, x)
    if (merged := merged_weight(layer, name)) is not None:
        return F.linear(x, merged, base.bias)
    a, b, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    dropout = layer.lora_dropout[name]
    p = dropout.p if layer.training and isinstance(dropout, nn.Dropout) else 0.0
    dora = layer.lora_variant.get(name)
    if dora is None:
        # Added with the product, the bias costs no pass over the output.
        bias = None if base.bias is None else base.bias.to(x.dtype)
        return AdaptedLinear.apply(x, a, b, None, FrozenLinearArgs(base, scale, p, bias=bias))
    magnitude = layer.lora_magnitude_vector[name].weight
    args = FrozenLinearArgs(base, scale, 0.0, lambda weight: dora.row_norm(layer, lambda: weight, a, b, scale))
    if not p:
        return _add_bias(AdaptedLinear.apply(x, a, b, magnitude, args), base)
    # As PEFT does: DoRA rescales W applied to the dropped input; W applied to the rest of x is added unscaled.
    dropped = Dropout.apply(x, p)
    return AdaptedLinear.apply(dropped, a, b, magnitude, args) + _project_frozen(base, x - dropped)


def supports_linear(layer: nn.Module) -> bool:
    """Return whether ``project`` computes what ``layer`` does.

    True of plain and NF4 linear layers, alone or under one active adapter of LoRA or DoRA without biases of its own.
    """
    if isinstance(layer, LoraLayer):
        if type(layer).__name__ not in _LORA_LAYERS:
            return False
        variant = layer.lora_variant.get(_active_adapter(layer))
        if variant is not None and not isinstance(variant, FactoredDora):
            return False
        if len(layer.active_adapters) > 1 or any(layer.lora_bias.values()):
            return False
        layer = layer.base_layer
    return type(layer) is nn.Linear or _is_nf4(layer)


def dense_weight(base: Any, dtype: torch.dtype) -> Tensor:
    """Return the frozen weight to multiply with, (O, I).

    Args:
        base: a plain or NF4 linear layer.
        dtype: data type of a dequantized weight. That copy is valid until this thread dequantizes the next weight.
    """
    weight: Tensor = base.weight
    return weight if not _is_nf4(base) else unpack_nf4(base.weight).to(dtype)


class FrozenLinear(InferenceAwareFunction):
    """An NF4 linear layer without adapter and bias: W is dequantized for each pass and never kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: nn.Linear) -> Tensor:
        """Return ``W x``, (M, O), from x (M, I)."""
        ctx.base = base
        return F.linear(x, dense_weight(base, x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x, (M, I); the weight is frozen."""
        return grad @ dense_weight(ctx.base, grad.dtype), None


@dataclass(frozen=True)
class FrozenLinearArgs:
    """The arguments of ``AdaptedLinear`` that get no gradient.

    Attributes:
        base: the frozen layer, whose weight W is (O, I).
        scale: factor of the low-rank product: ``lora_alpha / r``, or ``lora_alpha / sqrt(r)`` for rsLoRA.
        dropout: share of the input of A that is dropped.
        row_norm: for DoRA, a function from W to the row norms of ``W + scale * B @ A``, (O,); None for LoRA.
        bias: added to the output, (O,). Always None for DoRA, whose gain does not scale the bias.
    """

    base: nn.Linear
    scale: float
    dropout: float
    row_norm: Callable[[Tensor], Tensor] | None = None
    bias: Tensor | None = None


class AdaptedLinear(InferenceAwareFunction):
    """``gain * (W x + scale * B A dropout(x))``, where gain is 1 for LoRA and magnitude / norm for DoRA.

    The bias of the layer is part of it for LoRA alone.

    Sources: LoRA, section 4.1 (arXiv:2106.09685); DoRA, equation 5 and section 4.3 (arXiv:2402.09353), which treats the
    norm as a constant in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, magnitude: Tensor | None, args: FrozenLinearArgs) -> Tensor:
        """Return the layer's output, (M, O), with the bias of ``args``.

        Args:
            ctx: autograd's context.
            x: input, (M, I).
            a, b: factors, (R, I) and (O, R), in float32 or the data type of x.
            magnitude: DoRA's magnitudes, (O,); None for LoRA.
            args: everything that gets no gradient.
        """
        ctx.args, ctx.dtype = args, a.dtype
        a, b = a.to(x.dtype), b.to(x.dtype)
        # The backward pass stores which inputs are kept, one byte for each, instead of the inputs that remain.
        kept = draw_kept(x, args.dropout) if args.dropout else None
        inner = F.linear(x if kept is None else keep(x, kept), a)  # (M, R)
        if kept is not None:
            inner.div_(1 - args.dropout)
        weight = dense_weight(args.base, x.dtype)
        norm = None if args.row_norm is None else args.row_norm(weight)
        product = F.linear(x, weight, args.bias).addmm_(inner, b.T, alpha=args.scale)
        if magnitude is None or norm is None:
            ctx.save_for_backward(x, kept, inner, a, b, None, None, None)
            return product
        # The gain is close to 1, where bfloat16 would round its learned part away; gain - 1 keeps that part.
        excess = (magnitude / norm - 1).to(x.dtype)  # (O,)
        product.addcmul_(product, excess)
        # The output is saved with its gain, since the next layer saves the same tensor anyway.
        ctx.save_for_backward(x, kept, inner, a, b, product, excess, magnitude)
        return product

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, a, b and magnitude."""
        x, kept, inner, a, b, output, excess, magnitude = ctx.saved_tensors
        need_x, need_a, need_b, need_magnitude, _ = ctx.needs_input_grad
        args: FrozenLinearArgs = ctx.args
        grad_x = grad_a = grad_b = grad_magnitude = None
        if output is not None:
            if need_magnitude:
                grad_magnitude = (grad * output).sum(dim=0).to(magnitude.dtype).div_(magnitude)
            grad = torch.addcmul(grad, grad, excess)
        grad_inner = (grad @ b).mul_(args.scale)  # (M, R)
        if need_b:
            grad_b = (grad.T @ inner).to(ctx.dtype).mul_(args.scale)
        if kept is not None:
            grad_inner.div_(1 - args.dropout)
        if need_a:
            grad_a = (grad_inner.T @ (x if kept is None else keep(x, kept))).to(ctx.dtype)
        if need_x:
            grad_x = grad @ dense_weight(args.base, grad.dtype)
            if kept is None:
                grad_x.addmm_(grad_inner, a)
            else:
                grad_x.add_(keep(grad_inner @ a, kept))
        return grad_x, grad_a, grad_b, grad_magnitude, None


def _project_frozen(base: Any, x: Tensor) -> Tensor:
    if _is_nf4(base):
        return _add_bias(FrozenLinear.apply(x, base), base)
    return F.linear(x, base.weight, base.bias)


def _add_bias(x: Tensor, base: Any) -> Tensor:
    return x if base.bias is None else x + base.bias


def _active_adapter(layer: Any) -> str | None:
    """Return the active adapter's name; None where it is disabled, merged into the weight, or not on this layer."""
    if layer.disable_adapters or layer.merged:
        return None
    factors = layer.lora_A
    return next((name for name in layer.active_adapters if name in factors), None)


def _is_nf4(layer: nn.Module) -> bool:
    return type(layer).__name__ == "Linear4bit"
