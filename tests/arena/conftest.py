"""Small arenas over toy rows; trials run in this process unless a test is about theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import finished_runs, tiny_questions
from tests.helpers.arenas import MakeSpec
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.schema import Recipe


def spec_writer(recipe: Recipe, folder: Path) -> MakeSpec:
    """Return a function that writes an arena on ``recipe`` into ``folder``; its arguments replace fields."""
    (folder / "recipe.yaml").write_text(recipe_to_yaml(recipe), encoding="utf-8")

    def write(**fields: Any) -> Path:
        content = {
            "name": "toy",
            "recipe": str(folder / "recipe.yaml"),
            "rows": [20, 40],
            "seeds": [1, 2, 3],
            "methods": ["majority", "lora"],
            **fields,
        }
        path = folder / "arena.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def spec_file(tiny_llama_wide: Path, tmp_path: Path) -> MakeSpec:
    """Write an arena over 120 toy rows, of which 24 are measured on; fields replace its own."""
    recipe = finished_runs.recipe_for(
        tiny_llama_wide,
        finished_runs.write_csv(tmp_path / "texts.csv", rows=120),
        data={"validation_rows": 24},
        train={"max_steps": 2, "eval_steps": None},
    )
    return spec_writer(recipe, tmp_path)


@pytest.fixture
def questions_file(tiny_llama_wide: Path, tmp_path: Path) -> MakeSpec:
    """Write an arena over 140 toy rows with a question of each type, of which 20 are measured on."""
    table = tiny_questions.write_table(tmp_path / "table.csv", rows=140)
    return spec_writer(tiny_questions.table_recipe(tiny_llama_wide, table, max_steps=2), tmp_path)
