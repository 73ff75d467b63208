"""What ``whinchat review`` prints, and its error messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import finished_runs
from tests.helpers.command_line import Whinchat
from whinchat.recipe.loader import recipe_to_yaml


@pytest.fixture
def recipe_path(tiny_llama: Path, tmp_path: Path) -> Path:
    source = finished_runs.write_csv(tmp_path / "texts.csv", rows=90)
    path = tmp_path / "mine.yaml"
    recipe = finished_runs.recipe_for(tiny_llama, source, train={"max_steps": 2, "eval_steps": None})
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    return path


def test_review_prints_the_rows_to_look_at_first(whinchat: Whinchat, recipe_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "[review]"
    result = whinchat("review", recipe_path, "--out", out, "--folds", "2", "--top", "4", "--json")
    assert result.code == 0
    review = json.loads(result.out)
    assert review["rows"] == 66
    assert len(review["folds"]) == 2
    assert len(review["top"]) == 4
    assert {"accuracy", "macro_f1", "suspects", "estimated_errors", "pairs"} <= review.keys()
    shown = whinchat("review", recipe_path, "--out", out, "--folds", "2", "--top", "4", "--resume").out
    cells = " ".join(shown.replace("│", " ").split())  # a long text takes two lines of its cell
    for row in review["top"]:
        assert row["text"] in cells
    assert f"{review['suspects']} of 66 labels look wrong" in shown
    assert f"All rows: {out}/review.csv" in shown


def test_review_refuses_wrong_settings(whinchat: Whinchat, recipe_path: Path, tmp_path: Path) -> None:
    def error(*arguments: str | Path) -> str:
        result = whinchat("review", recipe_path, *arguments)
        assert result.code == 2
        assert "Traceback" not in result.err
        return result.err

    assert "--folds 1: each fold is scored by a model trained on the other folds" in error("--folds", "1")
    assert "66 training rows give 7 folds of fewer than 10 rows; use fewer folds" in error("--folds", "7")
    assert "--resume and --overwrite: exclude each other" in error("--resume", "--overwrite")
    assert "exists and is no review folder; name another with --out" in error("--out", tmp_path)
    assert "adapter.target_modules: q_prj match no linear layer" in error("--set", "adapter.target_modules=[q_prj]")
    assert not Path("runs").exists() or not Path("runs/tiny-review").exists()
