"""The accelerator holds what was planned: no float32 copy of the output layer, quarter-size NF4, less with packing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from tests.helpers import tiny_models
from tests.helpers.device_engines import engine_on, mean_loss
from tests.helpers.packed_families import random_model
from whinchat.models.lm_head import FloatHead
from whinchat.models.plain_forward import plain_logits
from whinchat.prompts.batching import collate


def peak_of(call: object) -> int:
    """Return the bytes that ``call`` allocated at most beyond those that were allocated before."""
    assert callable(call)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def test_the_output_layer_makes_no_wide_copy_of_its_weight(cuda: str) -> None:
    linear = torch.nn.Linear(1024, 50_000, bias=False, device=cuda, dtype=torch.float16).requires_grad_(False)
    hidden = torch.randn(4, 1024, device=cuda, dtype=torch.float16)
    found: list[torch.Tensor] = []
    # The first product loads the library that computes it.
    FloatHead(linear)(hidden)
    assert peak_of(lambda: found.append(FloatHead(linear)(hidden))) < linear.weight.nbytes // 4
    wanted = hidden.double() @ linear.weight.double().T
    torch.testing.assert_close(found[0].double(), wanted, rtol=1e-4, atol=1e-3)


def test_nf4_holds_linear_layers_in_about_half_a_byte(cuda: str, nf4_device: str, tmp_path: Path) -> None:
    folder = random_model(tmp_path, LlamaConfig, hidden_size=512, intermediate_size=2048, num_hidden_layers=4)
    sizes = {}
    for load_in in ("float16", "nf4"):
        before = torch.cuda.memory_allocated()
        held = tiny_models.load(folder, device=cuda, load_in=load_in)
        torch.cuda.synchronize()
        sizes[load_in] = torch.cuda.memory_allocated() - before
        del held
    assert sizes["nf4"] < 0.4 * sizes["float16"]


def test_packing_takes_less_memory_than_padding(cuda: str, tmp_path: Path) -> None:
    folder = random_model(tmp_path, LlamaConfig, hidden_size=256, intermediate_size=1024, num_hidden_layers=6)
    engine = engine_on(cuda, folder)
    engine.model.train()
    prompts = engine.template.encode(tiny_models.TEXTS)
    batch = collate([prompt.ids for prompt in prompts], [engine.tree.tokens] * len(prompts)).to(torch.device(cuda))

    def plain() -> None:
        plain_logits(engine.model, engine.plan, batch, engine.tree).logsumexp(dim=-1).mean().backward()

    def packed() -> None:
        mean_loss(engine, "choice").backward()

    for call in (plain, packed):  # the gradients exist from here on
        call()
    assert peak_of(packed) < peak_of(plain)


@pytest.mark.parametrize("loss", ["choice", "full"])
def test_steps_leave_nothing_behind(cuda: str, tiny_llama: Path, loss: str) -> None:
    engine = engine_on(cuda, tiny_llama)
    held = []
    for _ in range(4):
        mean_loss(engine, loss).backward()
        engine.model.zero_grad()
        torch.cuda.synchronize()
        held.append(torch.cuda.memory_allocated())
    assert held[-1] == held[1]
