"""Mistral (Mistral 7B, Lite-Oute)."""

from typing import Any

from transformers import MistralForCausalLM
from transformers.models.mistral.modeling_mistral import MistralRMSNorm

from whinchat.models.packed.architecture import PackedArchitecture
from whinchat.models.packed.attention import AttentionKind


class MistralArchitecture(PackedArchitecture):
    """Mistral, which differs from Llama by its sliding window alone."""

    model_class = MistralForCausalLM
    norm_class = MistralRMSNorm

    def attention_kind(self, layer: Any) -> AttentionKind:
        """Return how ``layer`` attends: all layers have the same window."""
        return AttentionKind(layer.self_attn.scaling, window=layer.self_attn.config.sliding_window)
