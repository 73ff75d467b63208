"""Configurations of the families of the packed pass, each of which changes a result that a wrong step would show."""

from __future__ import annotations

from typing import Any

from transformers import (
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GemmaConfig,
    GraniteConfig,
    GraniteMoeHybridConfig,
    Ministral3Config,
    MinistralConfig,
    MistralConfig,
    Olmo2Config,
    Olmo3Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
    SmolLM3Config,
)

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
# Shorter than the shared prefix, so that queries get three different factors.
SCALED = {**YARN, "original_max_position_embeddings": 16, "llama_4_scaling_beta": 0.5}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
DEFAULT = {"rope_type": "default", "rope_theta": 100.0}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 600,
    "short_factor": [1.0, 1.3, 1.7, 2.4], "long_factor": [4.0, 5.0, 7.0, 9.0], "partial_rotary_factor": 0.5,
}  # fmt: skip
FULL, SLIDING = "full_attention", "sliding_attention"
# Shorter than the answers that branch; between the lengths of the shared prefix and of the prompts; longer than all.
SHORT, MIDDLE, LONG = 2, 24, 600


def windows(window: int, first: str = SLIDING) -> dict[str, Any]:
    """Three layers, of which the first and the last have the window, or the second."""
    types = [SLIDING, FULL, SLIDING] if first == SLIDING else [FULL, SLIDING, FULL]
    return {"num_hidden_layers": 3, "layer_types": types, "sliding_window": window}


def with_vision(**text: Any) -> Gemma3Config:
    """Return the configuration of a Gemma 3 that also reads images."""
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    return Gemma3Config(text_config=Gemma3TextConfig(**text), vision_config=vision, mm_tokens_per_image=4)


GEMMA2 = {"head_dim": 16, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}
GEMMA3 = {
    "head_dim": 16, "query_pre_attn_scalar": 20, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 3.0,
    "rope_parameters": {FULL: LINEAR, SLIDING: DEFAULT},
}  # fmt: skip
GRANITE = {
    "embedding_multiplier": 2.5, "attention_multiplier": 0.2, "residual_multiplier": 0.6, "logits_scaling": 1.7
}  # fmt: skip
GRANITE4 = {
    **GRANITE, "layer_types": [FULL] * 2, "num_local_experts": 0, "shared_intermediate_size": 64,
    "position_embedding_type": "rope", "mamba_n_heads": 4,
}  # fmt: skip
SUPPORTED: dict[str, tuple[Any, dict[str, Any]]] = {
    "gemma": (GemmaConfig, {"head_dim": 16}),
    "gemma2": (Gemma2Config, {**GEMMA2, **windows(SHORT)}),
    "gemma2-middle-tied": (Gemma2Config, {**GEMMA2, **windows(MIDDLE, FULL), "tie_word_embeddings": True}),
    "gemma2-uncapped-long": (
        Gemma2Config,
        {**windows(LONG), "head_dim": 8, "attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
    "gemma3": (Gemma3TextConfig, {**GEMMA3, **windows(SHORT)}),
    "gemma3-middle": (Gemma3TextConfig, {**GEMMA3, **windows(MIDDLE, FULL)}),
    "gemma3-long-tied-biases": (
        Gemma3TextConfig,
        {**GEMMA3, **windows(LONG), "tie_word_embeddings": True, "attention_bias": True},
    ),
    "gemma3-with-vision": (with_vision, {**GEMMA3, **windows(MIDDLE)}),
    "granite": (GraniteConfig, GRANITE),
    "granite-biases": (GraniteConfig, {**GRANITE, "attention_bias": True, "mlp_bias": True}),
    "granite4": (GraniteMoeHybridConfig, GRANITE4),
    "granite4-biases": (GraniteMoeHybridConfig, {**GRANITE4, "attention_bias": True, "tie_word_embeddings": True}),
    "ministral": (MinistralConfig, {**windows(SHORT), "head_dim": 16}),
    "ministral-middle": (MinistralConfig, {**windows(MIDDLE, FULL), "head_dim": 8, "rope_parameters": YARN}),
    "ministral3": (Ministral3Config, {"sliding_window": None, "head_dim": 8, "rope_parameters": SCALED}),
    "ministral3-window": (Ministral3Config, {"sliding_window": MIDDLE, "head_dim": 8, "rope_parameters": SCALED}),
    "ministral3-within-the-original-length": (
        Ministral3Config,
        {"head_dim": 8, "rope_parameters": {**SCALED, "original_max_position_embeddings": 128}},
    ),
    "mistral": (MistralConfig, {"sliding_window": 7}),
    "mistral-middle": (MistralConfig, {"sliding_window": MIDDLE}),
    "mistral-without-window": (MistralConfig, {"sliding_window": None}),
    "olmo2": (Olmo2Config, {}),
    "olmo2-biases": (Olmo2Config, {"attention_bias": True, "num_key_value_heads": 4}),
    "olmo3": (Olmo3Config, {**windows(SHORT), "rope_parameters": {FULL: YARN, SLIDING: DEFAULT}}),
    "olmo3-middle": (Olmo3Config, {**windows(MIDDLE, FULL), "rope_parameters": {FULL: LINEAR, SLIDING: DEFAULT}}),
    "phi3": (Phi3Config, {}),
    "phi3-window": (Phi3Config, {"sliding_window": MIDDLE}),
    "phi3-longrope": (
        Phi3Config,
        {"hidden_size": 64, "rope_parameters": LONGROPE, "original_max_position_embeddings": 600},
    ),
    "qwen2": (Qwen2Config, {}),
    "qwen2-yarn": (Qwen2Config, {"rope_parameters": YARN}),
    "qwen2-tied-ungrouped": (Qwen2Config, {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "qwen2-windows": (Qwen2Config, {**windows(MIDDLE), "use_sliding_window": True}),
    "qwen3": (Qwen3Config, {"head_dim": 16}),
    "qwen3-biases": (Qwen3Config, {"head_dim": 8, "attention_bias": True}),
    "qwen3-windows": (Qwen3Config, {**windows(SHORT), "use_sliding_window": True, "head_dim": 16}),
    "smollm3": (SmolLM3Config, {"num_hidden_layers": 3, "no_rope_layers": [1, 0, 1]}),
    "smollm3-last-without-positions": (SmolLM3Config, {"no_rope_layers": [1, 0], "attention_bias": True}),
    # transformers builds its masks from the types of the layers alone.
    "smollm3-windows-by-type": (SmolLM3Config, {**windows(MIDDLE, FULL), "use_sliding_window": False}),
    "smollm3-windows": (
        SmolLM3Config,
        {**windows(MIDDLE), "no_rope_layers": [1, 0, 0], "use_sliding_window": True, "mlp_bias": True},
    ),
}
ONE_OF_EACH = (
    "gemma", "gemma2", "gemma3", "gemma3-with-vision", "granite", "granite4", "ministral", "ministral3", "mistral",
    "olmo2", "olmo3", "phi3-longrope", "qwen2", "qwen3", "smollm3-windows",
)  # fmt: skip
