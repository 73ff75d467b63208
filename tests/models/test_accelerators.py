"""Every path of the engine on a pretended GPU, which refuses to mix its tensors with those of the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers import plain_forward, tiny_models
from tests.helpers.packed_configs import ONE_OF_EACH, SUPPORTED
from tests.helpers.packed_families import random_model, tuned_engine
from tests.helpers.pseudo_device import move_to_pseudo_cuda, pseudo_cuda, to_pseudo_cuda, unpack_pseudo_nf4
from whinchat.data.dataset import Split
from whinchat.evaluation.generation import generate
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import is_packable
from whinchat.models.plain_forward import plain_logits
from whinchat.prompts.batching import collate
from whinchat.recipe.model_config import AdapterConfig
from whinchat.training.micro_batch import Collator, make_examples, row_losses

LABELS = [0, 1, 2, 3, 0, 1, 2, 3]
# Families that make tensors of their own: masks of windows, caps, factors, angles of several kinds.
_OWN_TENSORS = {"gemma2", "gemma3", "granite4", "ministral3", "olmo3", "phi3-longrope", "smollm3-windows"}


def cpu_engine(folder: Path, method: str = "lora", load_in: str = "float32", **adapter: Any) -> Engine:
    compute = "float32" if load_in == "nf4" else "auto"
    backbone = tiny_models.load(folder, load_in=load_in, compute_dtype=compute)
    tuned = attach_adapter(backbone.model, AdapterConfig(r=4, lora_alpha=8, method=method, **adapter), seed=3)
    tiny_models.stir(tuned)
    return tiny_models.engine_of(backbone, tiny_models.BRANCHING, tuned.eval())


def on_gpu(engine: Engine) -> Engine:
    """Move the model of ``engine`` to the pretended GPU, in place, and plan for it."""
    move_to_pseudo_cuda(engine.model)
    return replace(engine, plan=replace(engine.plan, device="cuda", attn_implementation="sdpa"))


def training_loss(engine: Engine, loss: str) -> Tensor:
    """The loss of one micro-batch, made as the trainer makes it, its tensors moved as accelerate moves them."""
    examples = make_examples(engine.template, loss, Split("train", tiny_models.TEXTS, tuple(LABELS)))
    inputs = Collator(engine, loss)(examples)
    inputs = {name: tensor.to(torch.device(engine.plan.device)) for name, tensor in inputs.items()}
    return row_losses(engine, loss, inputs, torch.zeros(len(tiny_models.BRANCHING))).mean()


@pytest.fixture(autouse=True)
def _gpu() -> Iterator[None]:
    with pseudo_cuda():
        yield


def test_the_pretended_gpu_refuses_to_mix() -> None:
    there, here = to_pseudo_cuda(torch.ones(2, 2)), torch.ones(2, 2)
    assert there.device.type == "cuda"
    assert (there @ there).device.type == "cuda"
    assert torch.zeros(2, device=there.device).device.type == "cuda"
    assert there.cpu().device.type == "cpu"
    with pytest.raises(RuntimeError, match="expected all tensors on one device"):
        there @ here
    with pytest.raises(TypeError, match="cuda device type tensor to numpy"):
        there.numpy()


@pytest.mark.parametrize(
    ("method", "load_in"), [("lora", "float32"), ("dora", "float32"), ("dora", "bfloat16"), ("lora", "float16")]
)
def test_scores(tiny_llama: Path, method: str, load_in: str) -> None:
    engine = cpu_engine(tiny_llama, method)
    prompts = engine.template.encode((*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS))
    wanted = score_prompts(engine, prompts, 5)
    gpu = on_gpu(cpu_engine(tiny_llama, method, load_in))
    assert is_packable(gpu.model, gpu.plan), "accelerators take the packed way, too"
    tolerance = 1e-4 if load_in == "float32" else 0.5
    np.testing.assert_allclose(score_prompts(gpu, prompts, 5), wanted, rtol=0, atol=tolerance)
    prefix = gpu.read_prefix()
    assert prefix is not None
    np.testing.assert_allclose(score_prompts(gpu, prompts, 5, prefix=prefix), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("loss", "adapter"),
    [
        ("choice", {}),
        ("choice", {"method": "dora"}),
        ("choice", {"lora_dropout": 0.3}),
        ("completion", {"method": "dora"}),
        ("full", {}),
    ],
)
def test_a_training_step(tiny_llama: Path, loss: str, adapter: dict[str, Any]) -> None:
    weights = []
    for place in (lambda engine: engine, on_gpu):
        engine = place(cpu_engine(tiny_llama, **adapter))
        optimizer = torch.optim.AdamW([one for one in engine.model.parameters() if one.requires_grad], lr=1e-2)
        if not adapter.get("lora_dropout"):
            training_loss(engine, loss).backward()
        else:
            engine.model.train()
            torch.manual_seed(5)
            training_loss(engine, loss).backward()
        optimizer.step()
        weights.append({name: one.detach().cpu() for name, one in engine.model.named_parameters() if one.requires_grad})
    for name, wanted in weights[0].items():
        torch.testing.assert_close(weights[1][name], wanted, rtol=1e-3, atol=1e-4)


def test_the_plain_way(tiny_llama: Path) -> None:
    engine = cpu_engine(tiny_llama, "dora")
    prompts = engine.template.encode(tiny_models.TEXTS)
    batch = collate([prompt.ids for prompt in prompts], [engine.tree.tokens] * len(prompts))
    wanted = plain_logits(engine.model, engine.plan, batch, engine.tree)
    expected = plain_forward.gradients(engine.model, wanted.square().mean())
    gpu = on_gpu(engine)
    logits = plain_logits(gpu.model, gpu.plan, batch.to(torch.device("cuda")), gpu.tree)
    torch.testing.assert_close(logits.detach().cpu(), wanted.detach(), rtol=1e-4, atol=1e-4)
    found = plain_forward.gradients(gpu.model, logits.square().mean())
    plain_forward.assert_same_gradients({name: one.cpu() for name, one in found.items()}, expected, 1e-4)


def test_generation(tiny_llama: Path) -> None:
    engine = cpu_engine(tiny_llama)
    prompts = engine.template.encode(tiny_models.TEXTS)
    wanted = generate(engine, prompts, 6, 3)
    assert generate(on_gpu(engine), prompts, 6, 3) == wanted


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_nf4(tiny_llama_wide: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = cpu_engine(tiny_llama_wide, method, "nf4")
    prompts = engine.template.encode(tiny_models.TEXTS)
    wanted = score_prompts(engine, prompts, 4)
    expected = plain_forward.gradients(engine.model, training_loss(engine, "choice"))
    gpu = on_gpu(engine)
    monkeypatch.setattr("whinchat.models.packed.linear.unpack_nf4", unpack_pseudo_nf4)
    np.testing.assert_allclose(score_prompts(gpu, prompts, 4), wanted, rtol=0, atol=1e-4)
    found = plain_forward.gradients(gpu.model, training_loss(gpu, "choice"))
    plain_forward.assert_same_gradients({name: one.cpu() for name, one in found.items()}, expected, 1e-4)


@pytest.mark.parametrize(
    "family", [pytest.param(one, marks=() if one in _OWN_TENSORS else pytest.mark.slow) for one in ONE_OF_EACH]
)
def test_families_of_the_packed_way(family: str, tmp_path: Path) -> None:
    kind, config = SUPPORTED[family]
    engine = tuned_engine(random_model(tmp_path, kind, **config), "dora", tiny_models.BRANCHING)
    prompts = engine.template.encode(tiny_models.TEXTS)
    wanted = score_prompts(engine, prompts, 8)
    expected = plain_forward.gradients(engine.model, training_loss(engine, "full"))
    gpu = on_gpu(engine)
    assert is_packable(gpu.model, gpu.plan)
    np.testing.assert_allclose(score_prompts(gpu, prompts, 8), wanted, rtol=0, atol=1e-4)
    found = plain_forward.gradients(gpu.model, training_loss(gpu, "full"))
    plain_forward.assert_same_gradients({name: one.cpu() for name, one in found.items()}, expected, 1e-4)
