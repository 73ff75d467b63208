"""Real rounds of the contestants on a tiny model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.contestants.ours import counted
from benchmarks.measure import create
from benchmarks.plan import BF16, FP32, KV, RECIPE, TRAIN, cut_to_tokens, evenly

from tests.helpers import tiny_models
from whinchat.data.dataset import Split


@pytest.fixture
def options(tiny_llama: Path) -> dict[str, Any]:
    overrides = [*TRAIN, *KV, *FP32, f"backbone.model={tiny_llama}", "train.per_device_train_batch_size=8"]
    return {"recipe": RECIPE, "overrides": overrides, "warm_up": 4}


def made(kind: str, options: dict[str, Any]) -> Any:
    """A contestant with 16 toy rows."""
    texts, labels = tiny_models.toy_rows(24)
    return create(kind, options, evenly(Split("train", texts, labels), 16))


@pytest.mark.parametrize("kind", ["whinchat-train", "whinchat-score", "seqcls-train", "seqcls-score", "generate"])
def test_a_round(kind: str, options: dict[str, Any]) -> None:
    contestant = made(kind, options)
    contestant.load()
    contestant.run(warm_up=True)
    measured = contestant.run()
    assert measured.examples == 16
    assert measured.seconds > 0
    assert measured.facts.get("steps", 2) == 2
    assert measured.facts.get("new_tokens", 16) == 16
    assert contestant.facts


@pytest.mark.skipif(find_spec("trl") is None, reason="trl is not installed; make bench installs it")
def test_a_round_of_trl(options: dict[str, Any]) -> None:
    contestant = made("trl-train", {**options, "sft": {"bf16": False}})
    contestant.load()
    assert contestant.run().facts == {"steps": 2}
    facts = contestant.facts
    assert facts["completion_only_loss"] is True
    assert facts["weights"] == "float32"
    assert facts["bf16"] is False


def test_products_of_training_are_counted_without_changing_it(options: dict[str, Any]) -> None:
    contestant = made("whinchat-train", {**options, "overrides": [*options["overrides"], *BF16]})
    contestant.load()
    before = [one.detach().clone() for one in contestant.engine.model.parameters()]
    flops = contestant.count_flops()
    assert flops is not None
    assert flops > 1e6
    after = list(contestant.engine.model.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(one.grad is None for one in after)


def test_every_kind_of_product_is_counted() -> None:
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    out = torch.zeros(3, 5)

    def program() -> None:
        torch.mm(a, b)
        out.addmm_(a, b)
        torch.addmm(out, a, b, out=torch.empty(3, 5))
        torch.nn.functional.linear(a, b.T)

    assert counted(program) == 4 * 2 * 3 * 4 * 5


def test_peak_takes_the_best_size() -> None:
    contestant = create("peak", {"dtype": "float32", "sizes": [16, 32], "seconds_a_size": 0.01})
    contestant.load()
    measured = contestant.run()
    by_size = measured.facts["gflops_by_size"]
    assert measured.examples / measured.seconds == pytest.approx(max(by_size.values()), rel=0.1, abs=0.1)
    assert measured.examples in {2 * 16**3 / 1e9, 2 * 32**3 / 1e9}


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(ValueError, match="trl: no such contestant; there are whinchat-train, "):
        create("trl", {})


def test_fewer_texts_are_as_long_as_all() -> None:
    split = Split("train", tuple("x" * (1 + row % 50) for row in range(200)), (0,) * 200)
    drawn = evenly(split, 25)
    assert len(drawn) == 25
    mean = sum(map(len, drawn.texts)) / 25
    assert mean == pytest.approx(sum(map(len, split.texts)) / 200, abs=1)
    assert evenly(split, 500) is split


def test_texts_of_a_wanted_length(tiny_llama: Path) -> None:
    tokenizer = tiny_models.load(tiny_llama).tokenizer.tokenizer
    split = Split("train", tiny_models.TEXTS, (0,) * len(tiny_models.TEXTS))
    for wanted in (5, 40):
        cut = cut_to_tokens(split, wanted, tokenizer)
        lengths = [len(ids) for ids in tokenizer(list(cut.texts), add_special_tokens=False)["input_ids"]]
        assert len(lengths) == len(tiny_models.TEXTS)
        assert all(abs(length - wanted) <= 2 for length in lengths)
