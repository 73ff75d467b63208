"""DoRA with a norm from the factors, put in place through PEFT's own extension point.

O, I: rows and columns of a frozen weight W. R: rank of the adapter. A: (R, I) and B: (O, R), its factors.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.variants import DoraLinearVariant
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn


def use_fast_forward(model: nn.Module) -> None:
    """Switch every adapter of ``model`` to a faster forward pass with PEFT's results.

    PEFT casts activations to the float32 of the factors and back. Without these casts, autocast converts the factors to
    the data type of the activations, and each product is rounded only once. DoRA layers get ``FactoredDora``.
    """
    for layer in model.modules():
        if not isinstance(layer, LoraLayer):
            continue
        layer.cast_input_dtype_enabled = False
        for name, variant in layer.lora_variant.items():
            if isinstance(variant, DoraLinearVariant) and isinstance(layer.get_base_layer(), nn.Linear):
                layer.lora_variant[name] = FactoredDora()


def dora_row_norm(w_norm_sq: Tensor, w_a: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Compute the row norms of ``W + scale * B @ A`` without building the dense update.

    Args:
        w_norm_sq: squared row norms of W, shape (O,). They are constant, so the caller computes them once.
        w_a: ``W @ A.T``, shape (O, R).
        a, b: adapter factors, shapes (R, I) and (O, R).
        scale: ``lora_alpha / r``.

    Returns:
        Norms, shape (O,), in the dtype of ``w_norm_sq``.

    Source: DoRA, section 4.3 (arXiv:2402.09353), which treats this norm as a constant in the backward pass.
    """
    # |w + scale b A|^2 = |w|^2 + <b, 2 scale (W A^T) + scale^2 b (A A^T)> for each row w of W and b of B.
    update = torch.addmm(w_a, b, a @ a.T, beta=2 * scale, alpha=scale**2)  # (O, R)
    norm_sq = (b * update).sum(dim=1).add_(w_norm_sq)  # (O,)
    # Where the update cancels a row of W, rounding can leave a value just below zero.
    return norm_sq.clamp_min(0).sqrt()


class FactoredDora(DoraLinearVariant):  # type: ignore[misc]  # PEFT is not typed
    """DoRA's forward pass with the norm computed by ``dora_row_norm``; one instance serves one layer.

    PEFT's own variant builds the dense ``B @ A`` through an identity matrix at every call.
    """

    def __init__(self) -> None:
        self._w_norm_sq: Tensor | None = None
        # Version counters of A and B, and the norm that was computed from them.
        self._cached_norm: tuple[int, int, Tensor] | None = None

    def forward(self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """Return ``result``, the frozen layer's output for x (..., I), plus what DoRA adds to it, (..., O)."""
        dropout = module.lora_dropout[active_adapter]
        base = module.get_base_layer()
        scale = module.scaling[active_adapter]
        a, b = module.lora_A[active_adapter], module.lora_B[active_adapter]
        magnitude = module.lora_magnitude_vector[active_adapter].weight  # (O,)
        weight = partial(dequantize_module_weight, base)
        gain = magnitude / self.row_norm(module, weight, a.weight, b.weight, scale)  # (O,)
        product = result if base.bias is None else result - base.bias
        if module.training and not isinstance(dropout, nn.Identity):
            # As PEFT does: DoRA rescales W applied to the dropped input.
            x = dropout(x)
            product = nn.functional.linear(x, weight().to(x.dtype))
        # The gain is close to 1, where bfloat16 would round its learned part away; gain - 1 keeps that part.
        update = b(a(x))
        return result + torch.addcmul((gain * scale).to(update.dtype) * update, (gain - 1).to(product.dtype), product)

    def row_norm(self, module: Any, weight: Callable[[], Tensor], a: Tensor, b: Tensor, scale: float) -> Tensor:
        """Return the row norms of ``weight() + scale * b @ a``, (O,), detached.

        While the layer is not training, the norm is cached until a or b changes.

        Args:
            module: PEFT's layer.
            weight: returns the frozen weight, (O, I), dequantized where it is NF4; called only where it is needed.
            a, b: factors, (R, I) and (O, R).
            scale: factor of the low-rank product.
        """
        if module.training:
            # Fused optimizers do not raise the version counters, so they cannot tell whether a step was taken.
            self._cached_norm = None
        elif self._cached_norm is not None:
            version_a, version_b, norm = self._cached_norm
            if (version_a, version_b) == (a._version, b._version) and norm.device == a.device:
                return norm
        # Outside inference mode, since a later backward pass may use the cached tensors.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(a.device.type, enabled=False):
            w = weight()
            if self._w_norm_sq is None or self._w_norm_sq.device != a.device:
                self._w_norm_sq = w.float().square().sum(dim=1)
            factor = a.detach()
            w_a = (w @ factor.T.to(w.dtype)).float()  # (O, R)
            norm = dora_row_norm(self._w_norm_sq, w_a, factor, b.detach(), scale)
        if not module.training:
            self._cached_norm = (a._version, b._version, norm)
        return norm
