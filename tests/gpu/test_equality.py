"""Scores, losses and gradients on the accelerator equal single unpadded passes of transformers and PEFT on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import plain_forward, tiny_models
from tests.helpers.device_engines import engine_on, gradients_on_cpu, mean_loss, single_pass_loss
from tests.helpers.packed_configs import ONE_OF_EACH, SUPPORTED
from tests.helpers.packed_families import random_model
from whinchat.evaluation.generation import generate
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.packed.packed_forward import is_packable
from whinchat.models.plain_forward import plain_logits
from whinchat.prompts.batching import collate

# Largest difference of log-probabilities, and largest relative difference of gradients, to float32 on the CPU. The
# random models' logits are large, so that a wrong token, mask or position changes scores by more than 1.
SCORES = {"float32": 1e-3, "bfloat16": 0.7, "float16": 0.15}
GRADIENTS = {"float32": 1e-3, "bfloat16": 0.2, "float16": 0.05}


def assert_similar(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        error = (found[name] - gradient).norm() / gradient.norm()
        assert error < tolerance, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_scores(tiny_model: Path, tmp_path: Path, device: str, dtype: str, method: str) -> None:
    reference = engine_on("cpu", tiny_model, method=method)
    engine = engine_on(device, tiny_model, dtype, reference, method=method)
    assert is_packable(engine.model, engine.plan)
    twin = plain_forward.plain_twin(reference.model, tiny_model, tmp_path)
    prompts = engine.template.encode((*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS))
    wanted = plain_forward.label_scores(twin, engine.template, [prompt.ids for prompt in prompts]).numpy()
    for prefix in (None, engine.read_prefix()):
        found = score_prompts(engine, prompts, 7, prefix=prefix)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=SCORES[dtype])
        if dtype != "float32":
            # An error that rounding cannot explain would move the mean.
            assert np.abs(found - wanted).mean() < SCORES[dtype] / 5


@pytest.mark.parametrize("loss", ["choice", "completion", "full"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_losses_and_gradients(
    tiny_llama: Path, tmp_path: Path, device: str, dtype: str, method: str, loss: str
) -> None:
    reference = engine_on("cpu", tiny_llama, method=method)
    engine = engine_on(device, tiny_llama, dtype, reference, method=method)
    twin = plain_forward.plain_twin(reference.model, tiny_llama, tmp_path)
    wanted = single_pass_loss(twin, engine, loss)
    assert mean_loss(engine, loss).item() == pytest.approx(wanted.item(), rel=GRADIENTS[dtype])
    assert_similar(gradients_on_cpu(engine, loss), plain_forward.gradients(twin, wanted), GRADIENTS[dtype])


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_packed_way_equals_the_plain_way(tiny_llama: Path, device: str, dtype: str, method: str) -> None:
    engine = engine_on(device, tiny_llama, dtype, method=method)
    prompts = engine.template.encode(tiny_models.TEXTS)
    batch = collate([prompt.ids for prompt in prompts], [engine.tree.tokens] * len(prompts)).to(torch.device(device))
    with torch.no_grad():
        plain = plain_logits(engine.model, engine.plan, batch, engine.tree).float().log_softmax(dim=-1)
    scores = score_prompts(engine, prompts, len(prompts))
    for label, path in enumerate(engine.tree.paths):
        wanted = sum(plain[:, column, token] for column, token in path)
        np.testing.assert_allclose(scores[:, label], wanted.cpu().numpy(), rtol=0, atol=SCORES[dtype])


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_families(family: str, tmp_path: Path, device: str) -> None:
    kind, config = SUPPORTED[family]
    folder = random_model(tmp_path, kind, **config)
    reference = engine_on("cpu", folder, method="dora")
    engine: Any = engine_on(device, folder, "float32", reference, method="dora")
    assert is_packable(engine.model, engine.plan)
    prompts = engine.template.encode(tiny_models.TEXTS)
    np.testing.assert_allclose(
        score_prompts(engine, prompts, 8), score_prompts(reference, prompts, 8), rtol=0, atol=SCORES["float32"]
    )
    assert_similar(gradients_on_cpu(engine, "full"), gradients_on_cpu(reference, "full"), GRADIENTS["float32"])


def test_generation(tiny_model: Path, device: str) -> None:
    reference = engine_on("cpu", tiny_model)
    engine = engine_on(device, tiny_model, "float32", reference)
    prompts = engine.template.encode(tiny_models.TEXTS)
    assert generate(engine, prompts, 6, 3) == generate(reference, prompts, 6, 3)
