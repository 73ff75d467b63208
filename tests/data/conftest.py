"""A small recipe for any source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from whinchat.recipe.schema import Recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def make_recipe() -> MakeRecipe:
    def make(source: object, labels: tuple[str, ...] = ("negative", "neutral", "positive"), **data: Any) -> Recipe:
        return Recipe.model_validate(
            {
                "name": "small",
                "task": {"name": "small", "labels": labels, "instruction": "Say which."},
                "data": {"source": str(source), **data},
                "backbone": {"model": "none"},
            }
        )

    return make
