"""Trainers of tiny models on toy rows, their weights and their gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from tests.helpers import tiny_models
from whinchat.data.dataset import Split
from whinchat.models.adapters import attach_adapter
from whinchat.recipe.schema import Recipe
from whinchat.training.trainer import AnswerTrainer, callbacks, training_arguments


def split(rows: int, seed: int = 0, labels: tuple[str, ...] = tiny_models.ONE_TOKEN) -> Split:
    return Split("train", *tiny_models.toy_rows(rows, labels, seed))


def recipe_for(folder: Path, train: dict[str, Any], **sections: Any) -> Recipe:
    return tiny_models.tiny_recipe(folder, train={"learning_rate": 1e-2, "logging_steps": 1, **train}, **sections)


def make(
    recipe: Recipe, out: Path, rows: Split, validation: Split | None = None, extra: tuple[Any, ...] = ()
) -> AnswerTrainer:
    backbone = tiny_models.load(recipe.backbone.model, attn_implementation=recipe.backbone.attn_implementation)
    tuned = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
    engine = tiny_models.engine_of(backbone, recipe.task.labels, tuned)
    return AnswerTrainer(
        engine,
        recipe,
        rows,
        validation,
        args=training_arguments(recipe, engine.plan, out),
        callbacks=[*callbacks(recipe.train), *extra],
    )


def weights_of(trainer: AnswerTrainer) -> dict[str, Tensor]:
    return {
        name: weight.detach().clone()
        for name, weight in trainer.engine.model.named_parameters()
        if weight.requires_grad
    }


class Gradients(TrainerCallback):  # type: ignore[misc]
    """Keeps the gradients of every optimizer step; clipping comes before, so tests turn it off."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.steps.append({name: one.grad.clone() for name, one in model.named_parameters() if one.requires_grad})
