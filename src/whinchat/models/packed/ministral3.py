"""Ministral 3 (its text models; transformers loads those with vision as another kind of model)."""

from typing import Any

from torch import Tensor
from transformers import Ministral3ForCausalLM
from transformers.models.ministral3.modeling_ministral3 import Ministral3RMSNorm, get_llama_4_attn_scale

from whinchat.models.packed.mistral import MistralArchitecture


class Ministral3Architecture(MistralArchitecture):
    """Ministral 3, which scales queries beyond the original length by their positions."""

    model_class = Ministral3ForCausalLM
    norm_class = Ministral3RMSNorm

    def query_scales(self, model: Any, x: Tensor, positions: Tensor) -> Tensor | None:
        """Return factors of rotated queries at ``positions`` (L,), (L,); None where all are 1."""
        rope = model.config.rope_parameters
        original = rope["original_max_position_embeddings"]
        if len(positions) <= original:
            return None
        scales: Tensor = get_llama_4_attn_scale(positions[None], rope["llama_4_scaling_beta"], original)  # (1, 1, L, 1)
        return scales.flatten().to(x.dtype)
