"""Every method trains on the accelerator and lowers its loss; NF4 computes what its own dequantized weights say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import tiny_models
from tests.helpers.device_engines import engine_on, gradients_on_cpu
from whinchat.data.dataset import Split
from whinchat.evaluation.scoring import label_log_probs, score_prompts
from whinchat.models.adapters import attach_adapter
from whinchat.models.packed.packed_forward import is_packable
from whinchat.models.plain_forward import plain_logits
from whinchat.prompts.batching import collate
from whinchat.training.trainer import AnswerTrainer, training_arguments

METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora-dropout": {"lora_dropout": 0.1},
    "dora": {"method": "dora"},
    "rslora": {"method": "rslora"},
    "pissa": {"init": "pissa"},
}


def losses_of_training(folder: Path, out: Path, device: str, load_in: str, adapter: dict[str, Any]) -> list[float]:
    """Train for 30 steps, and return the loss of each."""
    recipe = tiny_models.tiny_recipe(
        folder,
        backbone={"device": device, "load_in": load_in},
        adapter=adapter,
        train={"max_steps": 30, "learning_rate": 1e-2, "logging_steps": 1, "per_device_train_batch_size": 16},
    )
    backbone = tiny_models.load(folder, device=device, load_in=load_in)
    tuned = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
    engine = tiny_models.engine_of(backbone, recipe.task.labels, tuned)
    rows = Split("train", *tiny_models.toy_rows(128))
    trainer = AnswerTrainer(engine, recipe, rows, None, args=training_arguments(recipe, engine.plan, out))
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_loss(name: str, tiny_llama: Path, tmp_path: Path, device: str, dtype: str) -> None:
    losses = losses_of_training(tiny_llama, tmp_path, device, dtype, METHODS[name])
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


@pytest.mark.parametrize("name", METHODS)
def test_training_on_nf4_lowers_the_loss(name: str, tiny_llama_wide: Path, tmp_path: Path, nf4_device: str) -> None:
    losses = losses_of_training(tiny_llama_wide, tmp_path, nf4_device, "nf4", METHODS[name])
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_nf4_scores_equal_those_of_bitsandbytes_own_products(
    tiny_llama_wide: Path, nf4_device: str, method: str
) -> None:
    engine = engine_on(nf4_device, tiny_llama_wide, "nf4", method=method)
    assert is_packable(engine.model, engine.plan)
    prompts = engine.template.encode(tiny_models.TEXTS)
    batch = collate([prompt.ids for prompt in prompts], [engine.tree.tokens] * len(prompts))
    batch = batch.to(torch.device(nf4_device))
    with torch.no_grad():
        wanted = label_log_probs(plain_logits(engine.model, engine.plan, batch, engine.tree).float(), engine.tree)
    tolerance = {"float32": 1e-3, "bfloat16": 1.0, "float16": 0.2}[engine.plan.compute_dtype]
    np.testing.assert_allclose(score_prompts(engine, prompts, 8), wanted.cpu().numpy(), rtol=0, atol=tolerance)
    assert all(gradient.isfinite().all() for gradient in gradients_on_cpu(engine, "choice").values())
