"""How many texts of a batch are computed at a time, so that training stays within ``train.memory_budget``."""

import math
from dataclasses import replace
from typing import Any

from whinchat.errors import ModelError
from whinchat.models.training_memory import BatchShape, estimate_training_bytes
from whinchat.recipe.schema import Recipe
from whinchat.training.launch import world_size
from whinchat.training.objective import Objective


def rows_within_budget(model: Any, plan: Any, recipe: Recipe, objective: Objective) -> int | None:
    """Return how many rows may be computed at a time; None for a recipe without a budget.

    The batch of the recipe is halved until its estimated memory fits. Gradients are those of the whole batch.

    Args:
        model: the model, with or without the adapter.
        plan: device and data types.
        recipe: the settings.
        objective: the training texts with their prompts.

    Raises:
        ModelError: a single text does not fit, or several processes train together, which wait for whole batches.
    """
    budget = recipe.train.memory_budget
    if budget is None:
        return None
    if world_size() > 1:
        raise ModelError("train.memory_budget: goes with a single process; lower train.per_device_train_batch_size")
    rows = recipe.train.per_device_train_batch_size
    shape = _longest_shape(objective, rows)
    while (needed := estimate_training_bytes(model, plan, recipe.adapter, replace(shape, rows=rows))) > budget * 1e9:
        if rows == 1:
            # Rounded up, so that a budget of this number is enough.
            enough = math.ceil(needed / 1e9 * 100) / 100
            raise ModelError(
                f"train.memory_budget: {budget:g} GB are less than the {enough:g} GB that one text at a time is "
                "estimated to take; raise it, or set backbone.layers, backbone.load_in=nf4 or a smaller "
                "backbone.max_prompt_tokens"
            )
        rows = (rows + 1) // 2
    return rows


def _longest_shape(objective: Objective, rows: int) -> BatchShape:
    """Return the shape of the largest part of a batch with the longest texts."""
    longest = sorted(range(len(objective.lengths)), key=lambda row: objective.lengths[row])[-max(2, rows) :]
    parts = objective.parts(objective.collate([objective.examples[row] for row in longest]))
    shapes = [(len(part["prefix"]), part["rest"].shape[1] + part["nodes"].shape[1]) for part in parts]
    prefix, text = max(shapes, key=sum)
    return BatchShape(rows, prefix, text)
