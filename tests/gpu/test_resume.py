"""A run that was stopped on the accelerator continues to the same adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers import tiny_models
from tests.helpers.train_together import KillAt, KilledError
from whinchat.data.dataset import Split
from whinchat.models.adapters import attach_adapter
from whinchat.training.trainer import AnswerTrainer, training_arguments


def made(folder: Path, out: Path, device: str, dtype: str, *callbacks: KillAt) -> AnswerTrainer:
    train = {"max_steps": 6, "save_steps": 1, "logging_steps": 1, "learning_rate": 1e-2}
    recipe = tiny_models.tiny_recipe(
        folder, backbone={"device": device, "load_in": dtype}, adapter={"lora_dropout": 0.2}, train=train
    )
    backbone = tiny_models.load(folder, device=device, load_in=dtype)
    tuned = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
    engine = tiny_models.engine_of(backbone, recipe.task.labels, tuned)
    rows = Split("train", *tiny_models.toy_rows(40))
    args = training_arguments(recipe, engine.plan, out)
    return AnswerTrainer(engine, recipe, rows, None, args=args, callbacks=list(callbacks))


def weights_of(trainer: AnswerTrainer) -> dict[str, Tensor]:
    return {name: one.detach().cpu() for name, one in trainer.model.named_parameters() if one.requires_grad}


def test_a_stopped_run_continues(tiny_llama: Path, tmp_path: Path, device: str, dtype: str) -> None:
    whole = made(tiny_llama, tmp_path / "whole", device, dtype)
    whole.train()
    with pytest.raises(KilledError):
        made(tiny_llama, tmp_path / "cut", device, dtype, KillAt(3)).train()
    resumed = made(tiny_llama, tmp_path / "cut", device, dtype)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6
    found, wanted = weights_of(resumed), weights_of(whole)
    for name, weight in wanted.items():
        # Kernels may add in another order, and Adam turns the last digits of a gradient near zero into a step.
        assert (found[name] - weight).abs().mean() < 1e-3, name
    assert not all(torch.equal(weight, torch.zeros_like(weight)) for weight in wanted.values())
