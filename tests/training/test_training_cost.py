"""The cost of training is measured on real batches, and measuring changes nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.helpers import tiny_models
from whinchat.data.dataset import Split
from whinchat.models.memory import peak_memory_bytes
from whinchat.training import training_cost
from whinchat.training.training_cost import measure_training_cost


def rows(count: int) -> Split:
    return Split("train", *tiny_models.toy_rows(count))


@pytest.mark.parametrize(
    ("adapter", "loss"),
    [
        ({"method": "lora", "lora_dropout": 0.2}, "completion"),
        ({"method": "dora"}, "full"),
        ({"init": "pissa", "r": 4}, "choice"),
    ],
)
def test_measuring_leaves_model_and_random_numbers_as_they_were(
    tiny_llama: Path, adapter: dict[str, Any], loss: str
) -> None:
    recipe = tiny_models.tiny_recipe(
        tiny_llama, adapter=adapter, train={"loss": loss, "per_device_train_batch_size": 4}
    )
    backbone = tiny_models.load(tiny_llama)
    model = backbone.model
    engine = tiny_models.engine_of(backbone)
    modules = [(name, type(module), module.training) for name, module in model.named_modules()]
    weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    loaded = psutil.Process().memory_info().rss
    cost = measure_training_cost(engine, recipe, rows(30))
    assert torch.equal(torch.rand(3), wanted)
    assert [(name, type(module), module.training) for name, module in model.named_modules()] == modules
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())
    assert not hasattr(model, "peft_config")
    assert cost.seconds_per_batch > 0
    # A fresh adapter's optimizer state, and the gaps that training will leave in the heap.
    gaps = (peak_memory_bytes() - loaded) / 2
    assert 0 < cost.memory_bytes - peak_memory_bytes() - gaps < 1.5e6


def test_the_longest_and_the_median_texts_are_measured(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = tuple("word " * length for length in (1, 9, 2, 8, 3, 7, 4, 6, 5, 30))
    train = Split("train", texts, (0, 1) * 5)
    measured: list[tuple[int, ...]] = []

    def seconds(engine: Any, recipe: Any, batch: Split, limit: Any) -> float:
        measured.append(tuple(len(text) // 5 for text in batch.texts))
        return sum(measured[-1]) / 100

    monkeypatch.setattr(training_cost, "_seconds", seconds)
    recipe = tiny_models.tiny_recipe(tiny_llama, train={"per_device_train_batch_size": 2})
    cost = measure_training_cost(tiny_models.engine_of(tiny_models.load(tiny_llama)), recipe, train)
    assert measured == [(5, 6), (9, 30), (5, 6)]
    # The time is linear in the length here, so the estimate is that of the mean length.
    assert cost.seconds_per_batch == pytest.approx(2 * sum(len(text) // 5 for text in texts) / 10 / 100)


def test_fewer_rows_than_a_batch(tiny_llama: Path) -> None:
    recipe = tiny_models.tiny_recipe(tiny_llama, train={"per_device_train_batch_size": 64})
    engine = tiny_models.engine_of(tiny_models.load(tiny_llama))
    started = time.perf_counter()
    cost = measure_training_cost(engine, recipe, rows(3))
    assert 0 < cost.seconds_per_batch < time.perf_counter() - started
