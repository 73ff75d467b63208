"""The packed forward pass equals the model's own for all layouts, adapters and data types it supports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import SeedOssConfig

from tests.helpers import tiny_models
from tests.helpers.combinations import half_of
from tests.helpers.packed_families import random_model
from tests.helpers.tuned_engines import ADAPTER_METHODS, tuned_engine
from whinchat.models import forward as engines
from whinchat.models.adapter_targets import lora_layers
from whinchat.models.forward import Engine, answer_logits
from whinchat.models.packed.autograd import Dropout
from whinchat.models.packed.batch import pack
from whinchat.models.packed.linear import project
from whinchat.models.packed.packed_forward import is_packable, packed_logits
from whinchat.models.plain_forward import plain_logits
from whinchat.prompts.answer_tree import AnswerTree
from whinchat.prompts.batching import Batch, collate


def batch_of(engine: Engine, texts: tuple[str, ...]) -> Batch:
    ids = [prompt.ids for prompt in engine.template.encode(texts)]
    return collate(ids, [engine.tree.tokens] * len(ids))


def drawn_batch(engine: Engine, lengths: list[int]) -> Batch:
    """Rests of these lengths, of any tokens, after the real prefix."""
    whole = batch_of(engine, tiny_models.TEXTS)
    rest = torch.randint(3, 400, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    nodes = whole.nodes[:1].expand(len(lengths), -1)
    return Batch(whole.prefix, rest, torch.tensor(lengths), nodes)


def weights_and_gradients(engine: Engine, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits, and every adapter weight's gradient of a sum that treats no two logits alike."""
    draw = torch.Generator().manual_seed(2)
    engine.model.zero_grad()
    (logits * torch.randn(logits.shape, generator=draw)).sum().backward()
    return logits.detach(), {
        name: weight.grad for name, weight in engine.model.named_parameters() if weight.grad is not None
    }


def assert_packed_equals_plain(engine: Engine, batch: Batch, tree: AnswerTree | None) -> None:
    assert is_packable(engine.model, engine.plan)
    found, gradients = weights_and_gradients(engine, packed_logits(engine.model, batch, tree))
    wanted, plain = weights_and_gradients(engine, plain_logits(engine.model, engine.plan, batch, tree))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert gradients.keys() == plain.keys()
    for name, gradient in plain.items():
        size = gradient.abs().max().item()
        assert (gradients[name] - gradient).abs().max() <= 2e-5 * max(size, 1.0), name


@pytest.mark.parametrize("labels", ["one", "several", "branching"])
def test_rows_of_many_lengths_are_packed_without_their_padding(tiny_model: Path, labels: str) -> None:
    engine = tuned_engine(tiny_model, labels)
    batch = batch_of(engine, tiny_models.TEXTS)
    packed = pack(batch, engine.tree)
    nodes = batch.nodes.shape[1]
    assert len(packed.tokens) == len(batch.prefix) + int(batch.lengths.sum()) + nodes * len(batch.rest)
    assert_packed_equals_plain(engine, batch, engine.tree)


@pytest.mark.parametrize("labels", ["one", "branching"])
def test_rows_of_one_length_stay_a_grid(tiny_model: Path, labels: str) -> None:
    engine = tuned_engine(tiny_model, labels)
    batch = drawn_batch(engine, [7, 7, 7])
    assert pack(batch, engine.tree).row_indices is None
    assert_packed_equals_plain(engine, batch, engine.tree)


@pytest.mark.parametrize("labels", ["one", "branching"])
@pytest.mark.parametrize("lengths", [[7, 7, 7], [4, 9, 1]])
def test_long_texts_are_scored_by_the_fused_kernel(
    tiny_model: Path, labels: str, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tuned_engine(tiny_model, labels)
    batch = drawn_batch(engine, lengths)
    with torch.inference_mode():
        products = packed_logits(engine.model, batch, engine.tree)
        monkeypatch.setattr("whinchat.models.packed.attention.FUSED_FROM", 1)
        monkeypatch.setattr(torch, "baddbmm", None)
        fused = packed_logits(engine.model, batch, engine.tree)
    torch.testing.assert_close(fused, products, rtol=1e-4, atol=1e-4)


def test_a_little_padding_is_kept_and_changes_nothing(tiny_model: Path) -> None:
    engine = tuned_engine(tiny_model)
    batch = drawn_batch(engine, [9, 9, 8, 9])
    assert pack(batch, engine.tree).row_indices is None
    assert_packed_equals_plain(engine, batch, engine.tree)


@pytest.mark.parametrize("lengths", [[4, 9, 1], [6, 6, 6], [7]])
def test_without_a_shared_prefix(tiny_model: Path, lengths: list[int]) -> None:
    engine = tuned_engine(tiny_model)
    whole = drawn_batch(engine, lengths)
    rest = torch.cat([whole.prefix.expand(len(whole.rest), -1), whole.rest], dim=1)
    batch = Batch(whole.prefix[:0], rest, whole.lengths + len(whole.prefix), whole.nodes)
    assert_packed_equals_plain(engine, batch, engine.tree)
    # The prefix saves work and moves nothing.
    torch.testing.assert_close(
        packed_logits(engine.model, batch, engine.tree),
        packed_logits(engine.model, whole, engine.tree),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("method", ADAPTER_METHODS)
def test_adapters(tiny_model: Path, method: str) -> None:
    engine = tuned_engine(tiny_model, "several", ADAPTER_METHODS[method])
    assert_packed_equals_plain(engine, batch_of(engine, tiny_models.TEXTS), engine.tree)
    engine.model.train()
    assert_packed_equals_plain(engine, batch_of(engine, tiny_models.TEXTS), engine.tree)


@pytest.mark.parametrize(
    ("tiny_model", "method", "targets"),
    half_of(tiny_models.BOTH, ("lora", "dora"), ("all-linear", ("q_proj", "v_proj"))),
    indirect=["tiny_model"],
)
def test_nf4(tiny_model: Path, method: str, targets: Any) -> None:
    adapter = {"method": method, "target_modules": targets}
    engine = tuned_engine(tiny_model, adapter=adapter, load_in="nf4", compute_dtype="float32")
    assert_packed_equals_plain(engine, batch_of(engine, tiny_models.TEXTS), engine.tree)


class OwnDropout(torch.nn.Dropout):
    """Draws what the packed pass draws, so that PEFT's layer drops the same values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Dropout.apply(x, self.p) if self.training else x


def with_own_dropout(layer: Any) -> Any:
    layer.lora_dropout = torch.nn.ModuleDict({name: OwnDropout(one.p) for name, one in layer.lora_dropout.items()})
    return layer


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_dropout_is_pefts_with_the_same_mask(tiny_llama: Path, method: str) -> None:
    engine = tuned_engine(tiny_llama, adapter={"method": method, "lora_dropout": 0.3})
    engine.model.train()
    layer = with_own_dropout(engine.model.get_base_model().model.layers[0].mlp.up_proj)
    x = torch.randn(50, layer.in_features, requires_grad=True)
    weights = [weight for weight in layer.parameters() if weight.requires_grad]
    results = []
    for way in (lambda: project(layer, x), lambda: layer(x)):
        torch.manual_seed(11)
        y = way()
        results.append((y.detach(), torch.autograd.grad(y.square().sum(), [x, *weights])))
    (found, ours), (wanted, theirs) = results
    assert (wanted - layer.eval()(x)).abs().max() > 0.01, "nothing was dropped"
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_bias(tiny_llama: Path, method: str) -> None:
    engine = tuned_engine(tiny_llama, adapter={"method": method, "lora_dropout": 0.3})
    layer = with_own_dropout(engine.model.get_base_model().model.layers[0].mlp.up_proj)
    base = layer.get_base_layer()
    base.bias = torch.nn.Parameter(torch.randn(base.out_features), requires_grad=False)
    x = torch.randn(5, layer.in_features)
    for mode in (layer.eval, layer.train):
        mode()
        torch.manual_seed(4)
        found = project(layer, x)
        torch.manual_seed(4)
        torch.testing.assert_close(found, layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tiny_model", "labels", "texts"),
    half_of(tiny_models.BOTH, tiny_models.LABEL_SETS, (tiny_models.TEXTS[:1], tiny_models.TEXTS)),
    indirect=["tiny_model"],
)
def test_a_cached_prefix(tiny_model: Path, labels: str, texts: tuple[str, ...]) -> None:
    engine = tuned_engine(tiny_model, labels, {"method": "dora"})
    prefix = engine.read_prefix()
    assert prefix is not None
    ids = [prompt.ids for prompt in engine.template.encode(texts)]
    batch = collate(ids, [engine.tree.tokens] * len(ids), len(prefix.ids))
    assert tuple(batch.prefix.tolist()) == prefix.ids
    with torch.inference_mode():
        found = packed_logits(engine.model, batch, engine.tree, prefix)
        wanted = plain_logits(engine.model, engine.plan, batch, engine.tree)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert len(pack(batch, engine.tree, prefix_cached=True).tokens) < sum(map(len, ids))


def test_switched_off_and_merged_adapters(tiny_model: Path) -> None:
    engine = tuned_engine(tiny_model)
    batch = batch_of(engine, tiny_models.TEXTS)
    with torch.no_grad():
        adapted = packed_logits(engine.model, batch, engine.tree)
        with engine.model.disable_adapter():
            bare = packed_logits(engine.model, batch, engine.tree)
            torch.testing.assert_close(
                bare, plain_logits(engine.model, engine.plan, batch, engine.tree), rtol=1e-4, atol=1e-4
            )
        assert (bare - adapted).abs().max() > 0.1
        for layer in lora_layers(engine.model):
            layer.merge()
        merged = packed_logits(engine.model, batch, engine.tree)
    torch.testing.assert_close(merged, adapted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_bfloat16_is_as_close_to_float32_as_the_plain_way(tiny_model: Path, method: str) -> None:
    exact = tuned_engine(tiny_model, adapter={"method": method})
    batch = batch_of(exact, tiny_models.TEXTS)
    narrow = tuned_engine(tiny_model, adapter={"method": method}, load_in="bfloat16")
    with torch.no_grad():
        truth = answer_logits(exact.model, exact.plan, batch, exact.tree)
        packed = packed_logits(narrow.model, batch, narrow.tree)
        plain = plain_logits(narrow.model, narrow.plan, batch, narrow.tree)
    assert packed.dtype == torch.float32
    error, plain_error = ((one - truth).square().mean().sqrt() for one in (packed, plain))
    assert error < 1.3 * plain_error


@pytest.mark.parametrize(
    ("tiny_model", "method", "load_in"),
    half_of(tiny_models.BOTH, ("lora", "dora"), ("float32", "bfloat16")),
    indirect=["tiny_model"],
)
def test_the_same_bits_with_gradients_and_without(tiny_model: Path, method: str, load_in: str) -> None:
    engine = tuned_engine(tiny_model, adapter={"method": method}, load_in=load_in)
    batch = batch_of(engine, tiny_models.TEXTS)
    with_gradients = packed_logits(engine.model, batch, engine.tree)
    assert with_gradients.requires_grad
    with torch.no_grad():
        assert torch.equal(packed_logits(engine.model, batch, engine.tree), with_gradients)


def test_no_work_below_the_lowest_adapter(tiny_llama: Path) -> None:
    engine = tuned_engine(tiny_llama, adapter={"target_modules": ("down_proj",)})
    batch = batch_of(engine, tiny_models.TEXTS)
    logits = packed_logits(engine.model, batch, engine.tree)
    reached = set()
    waiting = [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in reached:
            reached.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    # Two layers: the first one's attention and norms come before its only adapter.
    assert sum(node.name() == "RmsNormBackward" for node in reached) == 3


def test_other_architectures_and_fused_attention_go_the_plain_way(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model(tmp_path, SeedOssConfig, head_dim=8)
    asked = []
    monkeypatch.setattr(engines, "packed_logits", lambda *_: asked.append(1))
    for engine in (tuned_engine(tmp_path), tuned_engine(tiny_llama, attn_implementation="sdpa")):
        batch = batch_of(engine, tiny_models.TEXTS)
        assert not is_packable(engine.model, engine.plan)
        assert engine.read_prefix() is None
        assert answer_logits(engine.model, engine.plan, batch, engine.tree).shape[:2] == (8, 1)
    assert not asked


def test_unknown_layers_go_the_plain_way(tiny_llama: Path) -> None:
    engine = tuned_engine(tiny_llama)
    assert is_packable(engine.model, engine.plan)
    layer = lora_layers(engine.model)[0]
    layer.lora_bias["default"] = True
    assert not is_packable(engine.model, engine.plan)


def test_weights_that_train_go_the_plain_way(tiny_model: Path) -> None:
    """The packed pass gives the base no gradient, so whatever trains of it would silently stay as it is."""
    backbone = tiny_models.load(tiny_model)
    engine = tiny_models.engine_of(backbone)
    assert is_packable(engine.model, engine.plan)
    backbone.model.model.norm.weight.requires_grad_(True)
    assert not is_packable(engine.model, engine.plan)
    backbone.model.requires_grad_(True)
    answer_logits(
        engine.model, engine.plan, batch_of(engine, tiny_models.TEXTS), engine.tree
    ).square().mean().backward()
    assert all(weight.grad is not None for weight in engine.model.parameters())
    tuned = tuned_engine(tiny_model)
    assert is_packable(tuned.model, tuned.plan), "an adapter's weights may train"
    tuned.model.get_base_model().get_input_embeddings().weight.requires_grad_(True)
    assert not is_packable(tuned.model, tuned.plan)
