"""Families of models registered from outside take the packed forward pass and compute what transformers computes.

The example of docs/how-to/add-a-packed-architecture.md: Seed-OSS needs its two classes and a supported configuration;
EXAONE 4 has windows, layers without positions, and its norms in other places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Exaone4Config, Exaone4ForCausalLM, SeedOssConfig, SeedOssForCausalLM
from transformers.models.exaone4.modeling_exaone4 import Exaone4RMSNorm
from transformers.models.seed_oss.modeling_seed_oss import SeedOssRMSNorm

from tests.helpers import plain_forward, tiny_models
from tests.helpers.packed_families import (
    assert_same_logits,
    batch_of,
    loss_and_gradients,
    random_model,
    single_pass_logits,
    tuned_engine,
)
from whinchat.models.forward import answer_logits
from whinchat.models.packed.architecture import PackedArchitecture, WindowedArchitecture
from whinchat.models.packed.architecture_registry import (
    packed_architecture_of,
    register_packed_architecture,
    unregister_packed_architecture,
)
from whinchat.models.packed.attention import AttentionKind
from whinchat.models.packed.llama import LlamaArchitecture
from whinchat.models.packed.packed_forward import is_packable


class SeedOssArchitecture(PackedArchitecture):
    """Seed-OSS: its projections may have biases, which ``project`` adds; its residual stream may have dropout."""

    model_class = SeedOssForCausalLM
    norm_class = SeedOssRMSNorm

    def supports(self, model: Any) -> bool:
        return super().supports(model) and not model.config.residual_dropout


class Exaone4Architecture(WindowedArchitecture):
    """EXAONE 4, which normalizes what a block adds, instead of what it reads, and each head of queries and keys."""

    model_class = Exaone4ForCausalLM
    norm_class = Exaone4RMSNorm

    def norms(self, model: Any) -> Iterator[nn.Module]:
        yield model.model.norm
        for layer in model.model.layers:
            yield from (layer.post_attention_layernorm, layer.post_feedforward_layernorm)
            yield from (layer.self_attn.q_norm, layer.self_attn.k_norm)

    def attention_kind(self, layer: Any) -> AttentionKind:
        attention = layer.self_attn
        turns = attention.sliding_window is None or attention.is_sliding
        return replace(super().attention_kind(layer), rotary="default" if turns else None)

    def attention_input(self, layer: Any, x: Tensor) -> Tensor:
        return x

    def queries(self, layer: Any, h: Tensor) -> Tensor:
        return self.normalize(layer.self_attn.q_norm, super().queries(layer, h))

    def keys(self, layer: Any, h: Tensor) -> Tensor:
        return self.normalize(layer.self_attn.k_norm, super().keys(layer, h))

    def attention_output(self, layer: Any, mixed: Tensor) -> Tensor:
        return self.normalize(layer.post_attention_layernorm, super().attention_output(layer, mixed))

    def feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        return self.normalize(layer.post_feedforward_layernorm, self.gated_projection(layer, x))


CONFIGS: dict[type[PackedArchitecture], tuple[type[Any], dict[str, Any]]] = {
    SeedOssArchitecture: (SeedOssConfig, {"head_dim": 8, "attention_dropout": 0.0, "residual_dropout": 0.0}),
    Exaone4Architecture: (
        Exaone4Config,
        {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8},
    ),
}
UNSUPPORTED: dict[type[PackedArchitecture], dict[str, Any]] = {
    SeedOssArchitecture: {"residual_dropout": 0.1},
    Exaone4Architecture: {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
}
FAMILIES = [SeedOssArchitecture(), Exaone4Architecture()]


def model_of(family: PackedArchitecture, folder: Path, **config: Any) -> Path:
    kind, supported = CONFIGS[type(family)]
    return random_model(folder, kind, **{**supported, **config})


@pytest.fixture(params=FAMILIES, ids=lambda family: family.model_class.__name__)
def family(request: pytest.FixtureRequest) -> Iterator[PackedArchitecture]:
    register_packed_architecture(request.param)
    yield request.param
    unregister_packed_architecture(request.param.model_class)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_packed_pass_equals_single_passes(family: PackedArchitecture, tmp_path: Path, method: str) -> None:
    engine = tuned_engine(model_of(family, tmp_path), method)
    assert is_packable(engine.model, engine.plan)
    batch = batch_of(engine)
    packed = answer_logits(engine.model, engine.plan, batch, engine.tree)
    single = single_pass_logits(engine.model, batch, engine.tree)
    assert_same_logits(packed, single)
    loss, gradients = loss_and_gradients(engine.model, packed)
    single_loss, single_gradients = loss_and_gradients(engine.model, single)
    torch.testing.assert_close(loss, single_loss, rtol=1e-5, atol=0)
    plain_forward.assert_same_gradients(gradients, single_gradients)
    prefix = engine.read_prefix()
    assert prefix is not None
    with torch.inference_mode():
        cached = answer_logits(engine.model, engine.plan, batch_of(engine, len(prefix.ids)), engine.tree, prefix)
    assert_same_logits(cached, single.detach())


def test_what_a_family_does_not_support_goes_the_plain_way(family: PackedArchitecture, tmp_path: Path) -> None:
    for number, config in enumerate(({"hidden_act": "gelu"}, {"attention_dropout": 0.1}, UNSUPPORTED[type(family)])):
        engine = tuned_engine(model_of(family, tmp_path / str(number), **config), "lora")
        assert not is_packable(engine.model, engine.plan)
        logits = answer_logits(engine.model, engine.plan, batch_of(engine), engine.tree)
        assert len(logits) == len(tiny_models.TEXTS)


def test_norms_and_linear_layers_of_other_classes_go_the_plain_way(family: PackedArchitecture, tmp_path: Path) -> None:
    engine = tuned_engine(model_of(family, tmp_path), "lora")
    layer = engine.model.get_base_model().model.layers[1]

    class OtherLinear(nn.Linear):
        """A subclass may compute something else."""

    for module, name, other in (
        (layer, "post_attention_layernorm", nn.RMSNorm(32)),
        (layer.mlp, "down_proj", OtherLinear(64, 32, bias=False)),
    ):
        before = getattr(module, name)
        setattr(module, name, other.requires_grad_(False))
        assert not is_packable(engine.model, engine.plan)
        setattr(module, name, before)
        assert is_packable(engine.model, engine.plan)


def test_unregistered_families_go_the_plain_way(tmp_path: Path) -> None:
    for family in FAMILIES:
        engine = tuned_engine(model_of(family, tmp_path / family.model_class.__name__), "lora")
        assert packed_architecture_of(engine.model.get_base_model()) is None
        assert not is_packable(engine.model, engine.plan)


def test_a_class_is_registered_once() -> None:
    with pytest.raises(ValueError, match="LlamaForCausalLM: a packed architecture is registered already"):
        register_packed_architecture(LlamaArchitecture())
    with pytest.raises(KeyError):
        unregister_packed_architecture(SeedOssForCausalLM)
