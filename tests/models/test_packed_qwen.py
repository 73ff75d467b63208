"""Families of the packed pass compute what transformers and PEFT compute, one unpadded text and answer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GraniteConfig, Phi3Config, Qwen2Config, Qwen3Config

from tests.helpers import plain_forward, tiny_models
from tests.helpers.packed_families import (
    assert_same_logits,
    batch_of,
    loss_and_gradients,
    random_model,
    single_pass_logits,
    tuned_engine,
)
from whinchat.errors import ModelError
from whinchat.models.forward import Engine, answer_logits
from whinchat.models.packed.packed_forward import is_packable, packed_logits

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}

LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 600,
    "short_factor": [1.0, 1.3, 1.7, 2.4], "long_factor": [4.0, 5.0, 7.0, 9.0], "partial_rotary_factor": 0.5,
}  # fmt: skip
GRANITE = {
    "embedding_multiplier": 2.5, "attention_multiplier": 0.2, "residual_multiplier": 0.6, "logits_scaling": 1.7
}  # fmt: skip

SUPPORTED: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "granite": (GraniteConfig, GRANITE),
    "granite-biases": (GraniteConfig, {**GRANITE, "attention_bias": True, "mlp_bias": True}),
    "phi3": (Phi3Config, {}),
    "phi3-window": (Phi3Config, {"sliding_window": 24}),
    "phi3-longrope": (
        Phi3Config,
        {"hidden_size": 64, "rope_parameters": LONGROPE, "original_max_position_embeddings": 600},
    ),
    "qwen2": (Qwen2Config, {}),
    "qwen2-yarn": (Qwen2Config, {"rope_parameters": YARN}),
    "qwen2-tied-ungrouped": (Qwen2Config, {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, {"head_dim": 16}),
    "qwen3-biases": (Qwen3Config, {"head_dim": 8, "attention_bias": True}),
}
ONE_OF_EACH = ("granite", "phi3-longrope", "qwen2", "qwen3")
# Each changes a result, or may.
EVERYWHERE = {"hidden_act": "gelu"}, {"attention_dropout": 0.1}
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}
WINDOWS = {"layer_types": ["full_attention", "sliding_attention"], "use_sliding_window": True, "sliding_window": 600}
UNSUPPORTED: dict[type[Any], tuple[dict[str, Any], ...]] = {
    GraniteConfig: (*EVERYWHERE, DYNAMIC),
    Phi3Config: (*EVERYWHERE, {"resid_pdrop": 0.1}, {"embd_pdrop": 0.1}),
    Qwen2Config: (*EVERYWHERE, DYNAMIC, WINDOWS),
    Qwen3Config: (*EVERYWHERE, DYNAMIC, WINDOWS),
}


def assert_exact(engine: Engine, reference: Any) -> None:
    """Logits, loss and every gradient equal those of single passes of ``reference``, with the prefix in the batch."""
    assert is_packable(engine.model, engine.plan)
    batch = batch_of(engine)
    assert len(batch.prefix) > 10
    assert len(set(batch.lengths.tolist())) > 4
    found, wanted = packed_logits(engine.model, batch, engine.tree), single_pass_logits(reference, batch, engine.tree)
    assert_same_logits(found, wanted)
    loss, gradients = loss_and_gradients(engine.model, found)
    wanted_loss, wanted_gradients = loss_and_gradients(reference, wanted)
    torch.testing.assert_close(loss, wanted_loss, rtol=1e-5, atol=0)
    plain_forward.assert_same_gradients(gradients, wanted_gradients)


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("family", SUPPORTED)
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


@pytest.mark.parametrize("labels", ["one", "branching", "nested"])
@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_cached_prefix(tmp_path: Path, family: str, labels: str) -> None:
    kind, config = SUPPORTED[family]
    engine = tuned_engine(random_model(tmp_path, kind, **config), "dora", tiny_models.LABEL_SETS[labels])
    prefix = engine.read_prefix()
    assert prefix is not None
    batch = batch_of(engine, len(prefix.ids))
    with torch.inference_mode():
        found = answer_logits(engine.model, engine.plan, batch, engine.tree, prefix)
        wanted = single_pass_logits(engine.model, batch, engine.tree)
    assert_same_logits(found, wanted)


@pytest.mark.parametrize(("kind", "config"), [(kind, one) for kind, configs in UNSUPPORTED.items() for one in configs])
def test_what_was_not_tried_goes_the_plain_way(tmp_path: Path, kind: type[Any], config: dict[str, Any]) -> None:
    engine = tuned_engine(random_model(tmp_path, kind, **config), "lora")
    assert not is_packable(engine.model, engine.plan)


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
