"""Families of the packed pass compute what transformers and PEFT compute, one unpadded text and answer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
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

from tests.helpers import plain_forward, tiny_models
from tests.helpers.packed_families import (
    DEEP,
    assert_exact,
    assert_same_logits,
    batch_of,
    random_model,
    single_pass_logits,
    tuned_engine,
    unsaved_model,
)
from whinchat.errors import ModelError
from whinchat.models.forward import answer_logits
from whinchat.models.packed.architecture_registry import packed_architecture_of
from whinchat.models.packed.packed_forward import is_packable, packed_logits
from whinchat.models.plain_forward import autocast

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


def unsupported(family: str) -> tuple[dict[str, Any], ...]:
    """Return changes of the family's configuration of which each changes a result, or may."""
    by_type, gemma = family.startswith(("gemma3", "olmo3")), {"use_bidirectional_attention": True}
    return (
        {"hidden_activation" if family.startswith(("gemma2", "gemma3")) else "hidden_act": "gelu_new"},
        {"attention_dropout": 0.1},
        *(
            []
            if family.startswith("phi3")
            else [{"rope_parameters": {FULL: DYNAMIC, SLIDING: DEFAULT} if by_type else DYNAMIC}]
        ),
        *([{"resid_pdrop": 0.1}, {"embd_pdrop": 0.1}] if family.startswith("phi3") else []),
        *([gemma] if family.startswith("gemma") else []),
        *([{"position_embedding_type": None}, {"num_local_experts": 4}] if family == "granite4" else []),
    )


@pytest.mark.parametrize(
    ("family", "method"), [(family, "lora") for family in SUPPORTED] + [(family, "dora") for family in ONE_OF_EACH]
)
def test_packed_pass_equals_single_passes(tmp_path: Path, family: str, method: str) -> None:
    kind, config = SUPPORTED[family]
    folder = random_model(tmp_path / "model", kind, **config)
    engine = tuned_engine(folder, method)
    # The reference is transformers and PEFT alone, on a base that whinchat did not load.
    assert_exact(engine, plain_forward.plain_twin(engine.model, folder, tmp_path / "adapter"))


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_nf4(tmp_path: Path, family: str, method: str) -> None:
    kind, config = SUPPORTED[family]
    folder = random_model(tmp_path, kind, **{**config, "hidden_size": 64})
    engine = tuned_engine(folder, method, load_in="nf4", compute_dtype="float32")
    assert_exact(engine, engine.model)


@pytest.mark.parametrize("labels", [tiny_models.ONE_TOKEN, DEEP], ids=["one token", "deep"])
@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_cached_prefix_and_few_tokens(tmp_path: Path, family: str, labels: tuple[str, ...]) -> None:
    kind, config = SUPPORTED[family]
    engine = tuned_engine(random_model(tmp_path, kind, **config), "dora", labels)
    prefix = engine.read_prefix()
    assert prefix is not None
    batch, few = batch_of(engine, len(prefix.ids)), (7, 300, 4)
    with torch.inference_mode():
        wanted = single_pass_logits(engine.model, batch, engine.tree)
        assert_same_logits(answer_logits(engine.model, engine.plan, batch, engine.tree, prefix), wanted)
        found = answer_logits(engine.model, engine.plan, batch, engine.tree, prefix, few)
    torch.testing.assert_close(found, wanted[..., few], rtol=0, atol=1e-5 * max(1.0, wanted.abs().max().item()))


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_long_texts_are_scored_as_short_texts(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, config = SUPPORTED[family]
    engine = tuned_engine(random_model(tmp_path, kind, **config), "lora")
    batch = batch_of(engine)
    with torch.inference_mode():
        products = packed_logits(engine.model, batch, engine.tree)
        # From this many queries on, the fused kernel takes the place of the products.
        monkeypatch.setattr("whinchat.models.packed.attention.FUSED_FROM", 1)
        assert_same_logits(packed_logits(engine.model, batch, engine.tree), products)


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_bfloat16_is_as_close_to_float32_as_the_models_own_pass(tmp_path: Path, family: str) -> None:
    kind, config = SUPPORTED[family]
    folder = random_model(tmp_path, kind, **config)
    exact, narrow = tuned_engine(folder, "lora"), tuned_engine(folder, "lora", load_in="bfloat16")
    assert is_packable(narrow.model, narrow.plan)
    batch = batch_of(exact)
    with torch.no_grad():
        truth = packed_logits(exact.model, batch, exact.tree)
        packed = packed_logits(narrow.model, batch, narrow.tree)
        with autocast(narrow.plan):
            own = single_pass_logits(narrow.model, batch, narrow.tree)
    error, own_error = ((logits.float() - truth).square().mean().sqrt() for logits in (packed, own))
    assert error < 1.3 * own_error


@pytest.mark.parametrize(("family", "change"), [(one, change) for one in ONE_OF_EACH for change in unsupported(one)])
def test_what_was_not_tried_is_not_supported(family: str, change: dict[str, Any]) -> None:
    kind, config = SUPPORTED[family]
    model = unsaved_model(kind, **{**config, **change})
    architecture = packed_architecture_of(model)
    assert architecture is not None
    assert not architecture.supports(model)


def test_longrope_beyond_the_original_length_is_an_error(tmp_path: Path) -> None:
    kind, config = SUPPORTED["phi3-longrope"]
    limit = {"original_max_position_embeddings": 30}
    short = {**config, **limit, "rope_parameters": {**LONGROPE, **limit}}
    with pytest.raises(ModelError, match=r"max_prompt_tokens: 512 reaches past the 30 positions"):
        tuned_engine(random_model(tmp_path / "30", kind, **short), "lora")
    engine = tuned_engine(random_model(tmp_path / "600", kind, **config), "lora")
    engine.model.config.rope_parameters["original_max_position_embeddings"] = 30
    # Even a caller without an engine gets no angles that depend on the other prompts of a batch.
    with pytest.raises(ModelError, match=r"tokens reach past the 30 positions that this model was made for"):
        packed_logits(engine.model, batch_of(engine), engine.tree)
