"""Forward passes that equal PEFT's and cost less, put in place through PEFT's own extension points.

O, I: rows and columns of a frozen weight. R: rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.variants import DoraLinearVariant
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn


def use_fast_forward(model: nn.Module) -> None:
    """Let every adapter of ``model`` run its fast forward pass; results stay PEFT's.

    Activations are no longer cast to the adapter's float32 and back: autocast takes the factors to the activation's
    data type instead, which rounds the same products once. DoRA layers get the factored norm.
    """
    for layer in model.modules():
        if not isinstance(layer, LoraLayer):
            continue
        layer.cast_input_dtype_enabled = False
        for name, variant in layer.lora_variant.items():
            if isinstance(variant, DoraLinearVariant) and isinstance(layer.get_base_layer(), nn.Linear):
                layer.lora_variant[name] = FactoredDora()


def dora_row_norm(w_norm_sq: Tensor, w_a: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Row norms of ``W + scale * B @ A``, without building the dense update.

    Args:
        w_norm_sq: squared row norms of W, shape (O,); constant, computed once.
        w_a: ``W @ A.T``, shape (O, R).
        a, b: adapter factors, shapes (R, I) and (O, R).
        scale: ``lora_alpha / r``.

    Returns:
        Norms, shape (O,), in the dtype of ``w_norm_sq``.

    Source: DoRA, section 4.3 (arXiv:2402.09353), which treats this norm as a constant in the backward pass.
    """
    # 2 scale <b, w_a> + scale^2 <b, b (a a^T)>, row by row
    update = torch.addmm(w_a, b, a @ a.T, beta=2 * scale, alpha=scale**2)  # (O, R)
    norm_sq = (b * update).sum(dim=1).add_(w_norm_sq)  # (O,)
    # Rounding can leave a row that the update cancels just below zero.
    return norm_sq.clamp_min(0).sqrt()


class FactoredDora(DoraLinearVariant):  # type: ignore[misc]  # PEFT is not typed
    """DoRA's forward pass with the norm taken from the factors.

    PEFT builds the dense B @ A through an identity matrix at every call. Here the frozen weight is used only as the
    layer itself uses it, so NF4 needs nothing special. One instance serves one layer.
    """

    def __init__(self) -> None:
        self._w_norm_sq: Tensor | None = None
        self._kept: tuple[int, int, Tensor] | None = None

    def forward(self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """``result`` plus what DoRA adds to it, (..., O); the signature is PEFT's."""
        dropout = module.lora_dropout[active_adapter]
        base = module.get_base_layer()
        scale = module.scaling[active_adapter]
        a, b = module.lora_A[active_adapter], module.lora_B[active_adapter]
        magnitude = module.lora_magnitude_vector[active_adapter].weight  # (O,)

        def weight() -> Tensor:
            return dequantize_module_weight(base)  # type: ignore[no-any-return]

        gain = magnitude / self.row_norm(module, weight, a.weight, b.weight, scale)  # (O,)
        product = result if base.bias is None else result - base.bias
        if module.training and not isinstance(dropout, nn.Identity):
            # As PEFT does: the base term that DoRA rescales is that of the dropped input.
            x = dropout(x)
            product = nn.functional.linear(x, weight().to(x.dtype))
        # gain is close to one and would lose its learned part in bfloat16; gain - 1 keeps it.
        update = b(a(x))
        return result + torch.addcmul((gain * scale).to(update.dtype) * update, (gain - 1).to(product.dtype), product)

    def row_norm(self, module: Any, weight: Callable[[], Tensor], a: Tensor, b: Tensor, scale: float) -> Tensor:
        """Row norms (O,) of ``weight() + scale * b @ a``, detached; kept while the layer is not training."""
        if module.training:
            # Version counters cannot be trusted here: fused optimizers do not raise them.
            self._kept = None
        elif self._kept is not None and self._kept[:2] == (a._version, b._version) and self._kept[2].device == a.device:
            return self._kept[2]
        # Outside inference mode, so that a backward pass may use what is kept here.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(a.device.type, enabled=False):
            dense = weight()
            if self._w_norm_sq is None or self._w_norm_sq.device != a.device:
                self._w_norm_sq = dense.float().square().sum(dim=1)
            factor = a.detach()
            w_a = (dense @ factor.T.to(dense.dtype)).float()  # (O, R)
            norm = dora_row_norm(self._w_norm_sq, w_a, factor, b.detach(), scale)
        if not module.training:
            self._kept = (a._version, b._version, norm)
        return norm
