"""Merged weights give the scores of the adapter's own products, and leave every other use of the model as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # the name that PyTorch code uses
from numpy.typing import NDArray

from tests.helpers import tiny_models
from tests.helpers.tuned_engines import ADAPTER_METHODS, tuned_engine
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import adapter_layers, adapters_disabled, load_adapter, save_adapter
from whinchat.models.forward import Engine
from whinchat.models.packed import linear, merged_weights
from whinchat.models.packed.packed_forward import keep_merged_weights


def scores_of(engine: Engine) -> NDArray[np.float32]:
    return score_prompts(engine, engine.template.encode(tiny_models.TEXTS), 4)


@pytest.fixture
def low_rank_products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rank of each low-rank product that was computed since."""
    found: list[int] = []
    apply = linear.AdaptedLinear.apply

    def counted(x: Any, a: Any, *others: Any) -> Any:
        found.append(len(a))
        return apply(x, a, *others)

    monkeypatch.setattr(linear.AdaptedLinear, "apply", counted)
    return found


@pytest.mark.parametrize("method", ADAPTER_METHODS.values(), ids=ADAPTER_METHODS.keys())
def test_the_scores_are_those_of_the_adapter(
    tiny_model: Path, method: dict[str, Any], low_rank_products: list[int]
) -> None:
    engine = tuned_engine(tiny_model, "branching", method)
    wanted = scores_of(engine)
    assert low_rank_products
    low_rank_products.clear()
    keep_merged_weights(engine.model, engine.plan)
    np.testing.assert_allclose(scores_of(engine), wanted, rtol=1e-5, atol=1e-5)
    assert not low_rank_products


def test_in_bfloat16_each_weight_is_rounded_once(tiny_llama_wide: Path, low_rank_products: list[int]) -> None:
    engine = tuned_engine(tiny_llama_wide, "branching", load_in="bfloat16")
    keep_merged_weights(engine.model, engine.plan)
    scores_of(engine)
    assert not low_rank_products
    layer = engine.model.get_base_model().model.layers[0].mlp.up_proj
    a, b = (factor["default"].weight.bfloat16().float() for factor in (layer.lora_A, layer.lora_B))
    x = torch.randn(3, a.shape[1], generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = (layer.base_layer.weight.float() + 2 * b @ a).bfloat16()
    with torch.inference_mode():
        torch.testing.assert_close(linear.project(layer, x), F.linear(x, exact), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("method", "backbone"),
    [({"method": "dora"}, {"load_in": "bfloat16"}), ({}, {"load_in": "nf4", "compute_dtype": "float32"})],
)
def test_what_rounding_would_change_is_not_merged(
    tiny_llama_wide: Path, method: dict[str, Any], backbone: dict[str, Any]
) -> None:
    engine = tuned_engine(tiny_llama_wide, "branching", method, **backbone)
    wanted = scores_of(engine)
    keep_merged_weights(engine.model, engine.plan)
    np.testing.assert_array_equal(scores_of(engine), wanted)


def test_models_beyond_the_limit_are_not_merged(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tuned_engine(tiny_llama, "branching")
    frozen = sum(layer.get_base_layer().weight.nbytes for layer in adapter_layers(engine.model))
    layer = engine.model.get_base_model().model.layers[0].mlp.up_proj
    monkeypatch.setattr(merged_weights, "MOST_BYTES", frozen - 1)
    keep_merged_weights(engine.model, engine.plan)
    with torch.inference_mode():
        assert merged_weights.merged_weight(layer, "default") is None
        monkeypatch.setattr(merged_weights, "MOST_BYTES", frozen)
        keep_merged_weights(engine.model, engine.plan)
        assert merged_weights.merged_weight(layer, "default") is not None


def test_adapters_are_still_disabled_and_switched(tiny_llama: Path, tmp_path: Path) -> None:
    engine = tuned_engine(tiny_llama, "branching")
    model: Any = engine.model
    layers = adapter_layers(model)
    save_adapter(model, tmp_path / "first", str(tiny_llama))
    tiny_models.stir(model)
    load_adapter(model, tmp_path / "first", "other")

    def all_scores() -> list[NDArray[np.float32]]:
        model.set_adapter("other")
        other = scores_of(engine)
        model.set_adapter("default")
        with adapters_disabled(layers):
            before = scores_of(engine)
        return [scores_of(engine), other, before]

    wanted = all_scores()
    assert all(np.abs(one - two).max() > 0.01 for one, two in zip(wanted, [*wanted[1:], wanted[0]], strict=True))
    keep_merged_weights(model, engine.plan)
    found = all_scores()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[2], wanted[2])


def test_gradients_come_from_the_factors(tiny_llama: Path, low_rank_products: list[int]) -> None:
    engine = tuned_engine(tiny_llama, "branching")
    keep_merged_weights(engine.model, engine.plan)
    layer = engine.model.get_base_model().model.layers[0].mlp.up_proj
    linear.project(layer, torch.ones(2, layer.in_features)).sum().backward()
    assert low_rank_products == [4]
    assert layer.lora_B["default"].weight.grad.abs().sum() > 0
