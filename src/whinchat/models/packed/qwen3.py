"""Qwen3 (the dense models; Qwen3-Next and Qwen3.5 have recurrent layers and other classes)."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers import Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from whinchat.models.packed.architecture import WindowedArchitecture


class Qwen3Architecture(WindowedArchitecture):
    """Qwen3, which normalizes each head of queries and keys before the rotary embedding."""

    model_class = Qwen3ForCausalLM
    norm_class = Qwen3RMSNorm

    def norms(self, model: Any) -> Iterator[nn.Module]:
        """Yield Llama's norms, and those of queries and keys."""
        yield from super().norms(model)
        for layer in model.model.layers:
            yield from (layer.self_attn.q_norm, layer.self_attn.k_norm)

    def queries(self, layer: Any, h: Tensor) -> Tensor:
        """Return the normalized queries of ``h`` (M, H), (M, K * G, D)."""
        return self.normalize(layer.self_attn.q_norm, super().queries(layer, h))

    def keys(self, layer: Any, h: Tensor) -> Tensor:
        """Return the normalized keys of ``h`` (M, H), (M, K, D)."""
        return self.normalize(layer.self_attn.k_norm, super().keys(layer, h))
