"""SmolLM3."""

from dataclasses import replace
from typing import Any

from transformers import SmolLM3ForCausalLM
from transformers.models.smollm3.modeling_smollm3 import SmolLM3RMSNorm

from whinchat.models.packed.architecture import WindowedArchitecture
from whinchat.models.packed.attention import AttentionKind


class SmolLM3Architecture(WindowedArchitecture):
    """SmolLM3, in which some layers, every fourth by default, turn neither queries nor keys (NoPE)."""

    model_class = SmolLM3ForCausalLM
    norm_class = SmolLM3RMSNorm

    def attention_kind(self, layer: Any) -> AttentionKind:
        """Return how ``layer`` attends: with positions or without."""
        return replace(super().attention_kind(layer), rotary="default" if layer.self_attn.use_rope else None)
