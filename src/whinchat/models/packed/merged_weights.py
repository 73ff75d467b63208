"""Adapters added to the frozen weights for a model that only answers: one product for each layer instead of three.

O, I: rows and columns of a frozen weight W. R: rank of the adapter. A: (R, I) and B: (O, R), its factors.

PEFT merges in place. The frozen weights are then gone, which other adapters and the model before fine-tuning need, and
subtracting an adapter again leaves rounding errors. Here the merged weights stand beside the frozen weights, and
``project`` multiplies with the merged weights where no gradient is asked for.
"""

from collections.abc import Iterable
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from whinchat.models.packed.dora import FactoredDora

# Most memory that the merged weights of a model may take: about five times that of SmolLM2-135M's linear layers in
# bfloat16. The wider a model, the smaller is the share of the low-rank products in its time.
MOST_BYTES = 1 << 30
# Attribute of PEFT's layers with the merged weight, (O, I), for each adapter.
_ATTRIBUTE = "whinchat_merged_weights"


def merge_weights(layers: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Compute the merged weights of all adapters on ``layers``, and keep them beside the frozen ones.

    Merged weights are valid until a weight changes. No weights are merged if together they would take more than
    ``MOST_BYTES``. Adapters over NF4 weights are left out, and DoRA in narrow data types, which round its gain away.

    Args:
        layers: linear layers for which ``supports_linear`` is true.
        dtype: data type of the products.
    """
    adapted = [
        (layer, name)
        for layer in layers
        if isinstance(layer, LoraLayer) and type(layer.get_base_layer()) is nn.Linear
        for name in layer.lora_A
        if _is_mergeable(layer, name, dtype)
    ]
    if sum(layer.get_base_layer().weight.nbytes for layer, _ in adapted) > MOST_BYTES:
        return
    with torch.no_grad():
        for layer, name in adapted:
            vars(layer).setdefault(_ATTRIBUTE, {})[name] = _merge(layer, name, dtype)


def merged_weight(layer: Any, name: str) -> Tensor | None:
    """Return the merged weight of the adapter ``name``, (O, I); None where ``project`` must use the factors.

    In training and under autograd the factors are used, because their gradients are asked for.
    """
    if layer.training or torch.is_grad_enabled():
        return None
    weight: Tensor | None = vars(layer).get(_ATTRIBUTE, {}).get(name)
    return weight


def _is_mergeable(layer: Any, name: str, dtype: torch.dtype) -> bool:
    """Return whether the adapter ``name`` is plain LoRA, or DoRA in float32."""
    if name not in layer.lora_variant:
        return True
    return isinstance(layer.lora_variant[name], FactoredDora) and dtype == torch.float32


def _merge(layer: Any, name: str, dtype: torch.dtype) -> Tensor:
    """Return ``W + scale * B A``, for DoRA times its gain, summed in float32 and rounded to the data type of W.

    The factors are rounded to ``dtype`` first, as unmerged products round them. PEFT does so when it loads an adapter
    onto a narrow model, so without this a trained model and the same model loaded again would answer differently.
    """
    frozen = layer.get_base_layer().weight  # (O, I)
    a, b = layer.lora_A[name].weight.to(dtype), layer.lora_B[name].weight.to(dtype)  # (R, I), (O, R)
    scale = layer.scaling[name]
    merged = torch.addmm(frozen.float(), b.float(), a.float(), alpha=scale)
    if name in layer.lora_variant:
        norm = layer.lora_variant[name].row_norm(layer, lambda: frozen, a, b, scale)  # (O,)
        merged.mul_((layer.lora_magnitude_vector[name].weight / norm)[:, None])
    return merged.to(frozen.dtype)
