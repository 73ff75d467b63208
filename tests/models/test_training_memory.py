"""The memory of training, estimated from shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from benchmarks import memory
from tests.helpers import finished_runs, tiny_models
from whinchat.models.device import Machine, plan_device
from whinchat.models.training_memory import BatchShape, estimate_training_bytes
from whinchat.recipe.model_config import AdapterConfig, BackboneConfig

CPU = Machine((), fast_bfloat16=True, fast_float16=False)


def smollm2(layers: int = 30) -> LlamaForCausalLM:
    with torch.device("meta"):
        return LlamaForCausalLM(
            LlamaConfig(
                hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
                num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True,
            )
        )  # fmt: skip


TWEETS = BatchShape(32, 46, 90)


def estimate(load_in: str, batch: BatchShape = TWEETS, layers: int = 30, **adapter: Any) -> float:
    plan = plan_device(BackboneConfig(model="m", load_in=load_in), CPU)
    return estimate_training_bytes(smollm2(layers), plan, AdapterConfig(**adapter), batch)


@pytest.mark.parametrize(
    ("load_in", "adapter", "measured"),
    [("bfloat16", {}, 3.81e9), ("float32", {}, 6.75e9), ("nf4", {}, 3.24e9), ("bfloat16", {"method": "dora"}, 4.16e9)],
)
def test_within_15_percent_of_measured_peaks(load_in: str, adapter: dict[str, str], measured: float) -> None:
    """Peaks of SmolLM2-135M on the longest 32 tweets of TweetEval; see docs/decisions.md."""
    assert estimate(load_in, **adapter) == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(
    ("layers", "transformed", "measured"), [(30, None, 4.36e9), (16, None, 3.01e9), (16, tuple(range(8, 16)), 2.19e9)]
)
def test_fewer_layers_keep_their_temporary_tensors(
    layers: int, transformed: tuple[int, ...] | None, measured: float
) -> None:
    """Peaks of SmolLM2-135M's first layers on the longest 64 tweets, cleaned; see docs/how-to/cheaper-answers.md."""
    found = estimate("bfloat16", BatchShape(64), layers, layers_to_transform=transformed)
    assert found == pytest.approx(measured, rel=0.08)


def test_what_takes_more_is_estimated_more() -> None:
    assert estimate("float32") > estimate("bfloat16") > estimate("nf4")
    assert estimate("bfloat16", BatchShape(64, 46, 90)) > 1.5 * estimate("bfloat16")
    assert estimate("bfloat16", method="dora") > estimate("bfloat16")
    assert estimate("bfloat16") > estimate("bfloat16", layers_to_transform=(20, 29)) + 1e9


def test_conv1d_counts_like_linear() -> None:
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config())
    plan = plan_device(BackboneConfig(model="m", load_in="float32"), CPU)
    one, many = (estimate_training_bytes(model, plan, AdapterConfig(), BatchShape(rows)) for rows in (1, 16))
    assert 0.66e9 + 4 * 124e6 < one < many


def test_the_benchmark_compares_with_this_process(tiny_llama: Path, tmp_path: Path) -> None:
    compared = memory.compare(finished_runs.recipe_for(tiny_llama, finished_runs.write_csv(tmp_path / "data.csv")))
    assert compared["measured_gb"] > 0.2
    assert compared["ratio"] == pytest.approx(compared["estimated_gb"] / compared["measured_gb"], abs=0.1)
    assert tiny_models.tiny_recipe(tiny_llama).name == compared["recipe"]
