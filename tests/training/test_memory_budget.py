"""A batch is computed in parts that are estimated to fit into the recipe's budget, with the gradients of the whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.helpers import tiny_models, tiny_questions
from tests.helpers.tiny_training import make, recipe_for, split, weights_of
from whinchat.errors import ModelError
from whinchat.models.adapters import attach_adapter
from whinchat.models.training_memory import BatchShape, estimate_training_bytes
from whinchat.training import memory_budget, objective
from whinchat.training.memory_budget import rows_within_budget
from whinchat.training.question_objective import make_objective

ROWS = split(16)


def budget_of(model: Path, rows: int) -> float:
    """A budget in GB for which ``rows`` rows of the training texts fit, and twice as many do not."""
    recipe = recipe_for(model, {"per_device_train_batch_size": 16})
    backbone = tiny_models.load(model)
    engine = tiny_models.engine_of(backbone)
    longest = memory_budget._longest_shape(make_objective(engine, recipe, ROWS), 16)
    shapes = (BatchShape(size, longest.prefix, longest.text) for size in (rows, 2 * rows))
    fits, is_too_much = (
        estimate_training_bytes(backbone.model, backbone.plan, recipe.adapter, shape) for shape in shapes
    )
    return (fits + is_too_much) / 2e9


def test_the_same_training_in_parts(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"per_device_train_batch_size": 16, "max_steps": 2, "loss": "choice", "save_steps": 2}
    whole = make(recipe_for(tiny_llama, settings), tmp_path / "whole", ROWS)
    whole.train()
    computed: list[int] = []
    real = objective.row_losses

    def row_losses(engine: object, loss: str, inputs: dict[str, torch.Tensor], offsets: torch.Tensor) -> torch.Tensor:
        computed.append(len(inputs["rest"]))
        return real(engine, loss, inputs, offsets)  # type: ignore[arg-type]  # the engine of the objective

    monkeypatch.setattr(objective, "row_losses", row_losses)
    recipe = recipe_for(tiny_llama, settings | {"memory_budget": budget_of(tiny_llama, 4)})
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


def test_questions_have_a_budget_as_well(tiny_llama: Path) -> None:
    recipe = tiny_questions.recipe_for(tiny_llama, train={"per_device_train_batch_size": 8, "memory_budget": 4})
    backbone = tiny_models.load(tiny_llama)
    engine = tiny_models.engine_of(backbone)
    found = make_objective(engine, recipe, tiny_questions.rows_of(recipe))
    assert rows_within_budget(backbone.model, backbone.plan, recipe, found) == 8


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
