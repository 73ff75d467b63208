"""Families of models registered from outside take the packed forward pass and compute what transformers computes.

The example of docs/how-to/add-a-packed-architecture.md: Qwen2 needs its two classes and a supported configuration;
Qwen3 also normalizes queries and keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from tests.helpers import plain_forward, tiny_models
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine, answer_logits, plain_logits
from whinchat.models.packed.architecture import PackedArchitecture
from whinchat.models.packed.architecture_registry import (
    packed_architecture_of,
    register_packed_architecture,
    unregister_packed_architecture,
)
from whinchat.models.packed.llama import LlamaArchitecture
from whinchat.models.packed.packed_forward import is_packable
from whinchat.prompts.batching import Batch, collate
from whinchat.recipe.schema import AdapterConfig


class Qwen2Architecture(PackedArchitecture):
    """Qwen2, whose projections of queries, keys and values have biases; ``project`` adds them."""

    model_class = Qwen2ForCausalLM
    norm_class = Qwen2RMSNorm

    def supports(self, model: Any) -> bool:
        return super().supports(model) and not model.config.use_sliding_window


class Qwen3Architecture(PackedArchitecture):
    """Qwen3, which normalizes each head of queries and keys before the rotary embedding."""

    model_class = Qwen3ForCausalLM
    norm_class = Qwen3RMSNorm

    def supports(self, model: Any) -> bool:
        return super().supports(model) and not model.config.use_sliding_window

    def norms(self, model: Any) -> Iterator[nn.Module]:
        yield from super().norms(model)
        for layer in model.model.layers:
            yield from (layer.self_attn.q_norm, layer.self_attn.k_norm)

    def queries(self, layer: Any, h: Tensor) -> Tensor:
        return self.normalize(layer.self_attn.q_norm, super().queries(layer, h))

    def keys(self, layer: Any, h: Tensor) -> Tensor:
        return self.normalize(layer.self_attn.k_norm, super().keys(layer, h))


CONFIGS: dict[type[PackedArchitecture], type[Any]] = {Qwen2Architecture: Qwen2Config, Qwen3Architecture: Qwen3Config}
FAMILIES = [Qwen2Architecture(), Qwen3Architecture()]


def random_model(family: PackedArchitecture, folder: Path, **config: Any) -> Path:
    """Save a tiny random model of ``family``, biases and norms away from the values they start with."""
    tiny_models.chatml_tokenizer(folder)
    shape = {
        "vocab_size": 480, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.25,
    }  # fmt: skip
    torch.manual_seed(0)
    model = family.model_class(CONFIGS[type(family)](**shape, **config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.uniform_(0.7, 1.3)
    model.save_pretrained(folder)
    return folder


def engine_and_batch(folder: Path, method: str) -> tuple[Engine, Batch]:
    backbone = tiny_models.load(folder)
    model = attach_adapter(backbone.model, AdapterConfig(r=4, lora_alpha=8, method=method), seed=3)
    tiny_models.stir(model)
    engine = tiny_models.engine_of(backbone, tiny_models.BRANCHING, model.eval())
    ids = [prompt.ids for prompt in engine.template.encode(tiny_models.TEXTS)]
    return engine, collate(ids, [engine.tree.tokens] * len(ids))


def loss_and_gradients(engine: Engine, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy of arbitrary targets, and the gradient of every adapter weight."""
    targets = torch.arange(logits[..., 0].numel()) % logits.shape[-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)
    return loss.detach(), plain_forward.gradients(engine.model, loss)


@pytest.fixture(params=FAMILIES, ids=lambda family: family.model_class.__name__)
def family(request: pytest.FixtureRequest) -> Iterator[PackedArchitecture]:
    register_packed_architecture(request.param)
    yield request.param
    unregister_packed_architecture(request.param.model_class)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_packed_and_plain_are_equal_in_float32(family: PackedArchitecture, tmp_path: Path, method: str) -> None:
    engine, batch = engine_and_batch(random_model(family, tmp_path), method)
    assert is_packable(engine.model, engine.plan)
    packed = answer_logits(engine.model, engine.plan, batch, engine.tree)
    plain = plain_logits(engine.model, engine.plan, batch, engine.tree)
    torch.testing.assert_close(packed, plain, rtol=1e-5, atol=1e-5)
    loss, gradients = loss_and_gradients(engine, packed)
    plain_loss, plain_gradients = loss_and_gradients(engine, plain)
    torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=0)
    plain_forward.assert_same_gradients(gradients, plain_gradients)
    prefix = engine.read_prefix()
    assert prefix is not None
    with torch.inference_mode():
        ids = [prompt.ids for prompt in engine.template.encode(tiny_models.TEXTS)]
        rest = collate(ids, [engine.tree.tokens] * len(ids), len(prefix.ids))
        cached = answer_logits(engine.model, engine.plan, rest, engine.tree, prefix)
    torch.testing.assert_close(cached, plain.detach(), rtol=1e-5, atol=1e-5)


def test_what_a_family_does_not_support_goes_the_plain_way(family: PackedArchitecture, tmp_path: Path) -> None:
    for number, config in enumerate(
        ({"hidden_act": "gelu"}, {"attention_dropout": 0.1}, {"use_sliding_window": True, "max_window_layers": 0})
    ):
        engine, batch = engine_and_batch(random_model(family, tmp_path / str(number), **config), "lora")
        assert not is_packable(engine.model, engine.plan)
        assert engine.read_prefix() is None
        assert answer_logits(engine.model, engine.plan, batch, engine.tree).shape[0] == len(batch.rest)


def test_norms_and_linear_layers_of_other_classes_go_the_plain_way(family: PackedArchitecture, tmp_path: Path) -> None:
    engine, _ = engine_and_batch(random_model(family, tmp_path), "lora")
    layer = engine.model.get_base_model().model.layers[1]

    class OtherLinear(nn.Linear):
        """A subclass may compute something else."""

    for module, name, other in (
        (layer, "input_layernorm", nn.RMSNorm(32)),
        (layer.mlp, "down_proj", OtherLinear(64, 32, bias=False)),
    ):
        before = getattr(module, name)
        setattr(module, name, other.requires_grad_(False))
        assert not is_packable(engine.model, engine.plan)
        setattr(module, name, before)
        assert is_packable(engine.model, engine.plan)


def test_unregistered_families_go_the_plain_way(tmp_path: Path) -> None:
    for family in FAMILIES:
        engine, _ = engine_and_batch(random_model(family, tmp_path / family.model_class.__name__), "lora")
        assert packed_architecture_of(engine.model.get_base_model()) is None
        assert not is_packable(engine.model, engine.plan)


def test_a_class_is_registered_once() -> None:
    with pytest.raises(ValueError, match="LlamaForCausalLM: a packed architecture is registered already"):
        register_packed_architecture(LlamaArchitecture())
    with pytest.raises(KeyError):
        unregister_packed_architecture(Qwen2ForCausalLM)
