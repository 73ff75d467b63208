"""A batch is computed in parts that are estimated to fit into the recipe's budget, with the gradients of the whole."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers import tiny_models, tiny_questions
from tests.helpers.tiny_training import make, recipe_for, split, weights_of
from whinchat.errors import ModelError
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine
from whinchat.models.training_memory import BatchShape, estimate_training_bytes
from whinchat.training import memory_budget, objective
from whinchat.training.question_objective import make_objective
from whinchat.training.trainer import AnswerTrainer, training_arguments

ROWS = split(16)


def budget_of(model: Path, rows: int, loss: str) -> float:
    """A budget in GB for which ``rows`` rows of the training texts fit, and twice as many do not."""
    recipe = recipe_for(model, {"per_device_train_batch_size": 16, "loss": loss})
    backbone = tiny_models.load(model)
    engine = tiny_models.engine_of(backbone)
    longest = memory_budget._longest_shape(make_objective(engine, recipe, ROWS), 16)
    shapes = (BatchShape(size, longest.prefix, longest.text) for size in (rows, 2 * rows))
    fits, is_too_much = (
        estimate_training_bytes(backbone.model, backbone.plan, recipe.adapter, shape) for shape in shapes
    )
    return (fits + is_too_much) / 2e9


@pytest.mark.parametrize(("loss", "batches"), [("choice", 1), ("completion", 2), ("full", 1), ("full", 2)])
def test_the_same_training_in_parts(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, batches: int
) -> None:
    settings = {
        "per_device_train_batch_size": 16 // batches,
        "gradient_accumulation_steps": batches,
        "max_steps": 2,
        "loss": loss,
        "save_steps": 2,
    }
    whole = make(recipe_for(tiny_llama, settings), tmp_path / "whole", ROWS)
    whole.train()
    computed: list[int] = []
    real = objective.row_losses

    def row_losses(engine: object, loss: str, inputs: dict[str, torch.Tensor], offsets: torch.Tensor) -> torch.Tensor:
        computed.append(len(inputs["rest"]))
        return real(engine, loss, inputs, offsets)  # type: ignore[arg-type]  # the engine of the objective

    monkeypatch.setattr(objective, "row_losses", row_losses)
    recipe = recipe_for(tiny_llama, settings | {"memory_budget": budget_of(tiny_llama, 4, loss)})
    parts = make(recipe, tmp_path / "parts", ROWS)
    parts.train()
    assert computed == [4] * 8, "two steps of 16 rows"
    assert parts.batch_limit.note is None, "nothing failed"
    wanted = weights_of(whole)
    for name, weight in weights_of(parts).items():
        torch.testing.assert_close(weight, wanted[name], rtol=1e-4, atol=1e-5)


def test_the_adapter_changes_the_estimate_by_nothing(tiny_llama: Path) -> None:
    recipe, backbone = recipe_for(tiny_llama, {}), tiny_models.load(tiny_llama)
    before = estimate_training_bytes(backbone.model, backbone.plan, recipe.adapter, BatchShape(8))
    tuned = attach_adapter(backbone.model, recipe.adapter, 1)
    after = estimate_training_bytes(tuned, backbone.plan, recipe.adapter, BatchShape(8))
    adapter_bytes = 4 * sum(weight.numel() for weight in tuned.parameters() if weight.requires_grad)
    assert before <= after <= before + adapter_bytes


def test_questions_are_trained_in_the_same_parts(tiny_llama: Path, tmp_path: Path) -> None:
    def train(budget: float | None) -> AnswerTrainer:
        settings = {"per_device_train_batch_size": 6, "max_steps": 2, "learning_rate": 1e-2, "memory_budget": budget}
        recipe = tiny_questions.recipe_for(tiny_llama, train=settings)
        backbone = tiny_models.load(tiny_llama)
        tuned = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
        engine = Engine.build(tuned, backbone.plan, backbone.tokenizer.template(recipe))
        rows = tiny_questions.rows_of(recipe, 12)
        trainer = AnswerTrainer(engine, recipe, rows, None, args=training_arguments(recipe, engine.plan, tmp_path))
        trainer.train()
        return trainer

    whole = train(None)
    adapter = tiny_questions.recipe_for(tiny_llama).adapter
    shape = memory_budget._longest_shape(whole.objective, 6)
    fits, is_too_much = (
        estimate_training_bytes(whole.engine.model, whole.engine.plan, adapter, replace(shape, rows=rows))
        for rows in (2, 3)
    )
    parts = train((fits + is_too_much) / 2e9)
    assert (whole.batch_limit.rows, parts.batch_limit.rows) == (None, 2)
    wanted = weights_of(whole)
    for name, weight in weights_of(parts).items():
        torch.testing.assert_close(weight, wanted[name], rtol=1e-4, atol=1e-5)


def test_the_budget_that_a_refusal_names_is_enough(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        make(recipe_for(tiny_llama, {"memory_budget": 0.5}), tmp_path / "out", ROWS)
    found = re.search(r"less than the ([\d.]+) GB", str(caught.value))
    assert found
    make(recipe_for(tiny_llama, {"memory_budget": float(found[1])}), tmp_path / "out", ROWS)


def test_what_cannot_fit(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_for(tiny_llama, {"memory_budget": 0.5})
    with pytest.raises(
        ModelError, match=r"0\.5 GB are less than the 0\.6\d GB that one text at a time is estimated to"
    ):
        make(recipe, tmp_path / "out", ROWS)
    monkeypatch.setattr(memory_budget, "world_size", lambda: 2)
    with pytest.raises(ModelError, match=r"train\.memory_budget: goes with a single process"):
        make(recipe, tmp_path / "out", ROWS)
