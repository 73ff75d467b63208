"""What ``whinchat tune`` takes and prints, and its error messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import finished_runs
from tests.helpers.command_line import Whinchat
from whinchat.cli.number_lists import repeat_options
from whinchat.recipe.loader import load_recipe, recipe_to_yaml


@pytest.fixture
def recipe_path(tiny_llama: Path, tmp_path: Path) -> Path:
    source = finished_runs.write_csv(tmp_path / "texts.csv", rows=70)
    path = tmp_path / "mine.yaml"
    recipe = finished_runs.recipe_for(tiny_llama, source, train={"max_steps": 2, "eval_steps": None})
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    return path


def test_an_option_takes_all_numbers_that_follow() -> None:
    options = {"--ranks", "--epochs"}
    given, expected = (
        "mine.yaml --ranks 8 16 32 --epochs 1 0.5 2e0 --trials 4 -o 3",
        "mine.yaml --ranks 8 --ranks 16 --ranks 32 --epochs 1 --epochs 0.5 --epochs 2e0 --trials 4 -o 3",
    )
    assert " ".join(repeat_options(given.split(), options)) == expected
    assert " ".join(repeat_options(expected.split(), options)) == expected
    assert repeat_options(["--ranks", "8", "mine.yaml", "9"], options) == ["--ranks", "8", "mine.yaml", "9"]
    assert repeat_options(["--ranks", "8", "--", "9"], options) == ["--ranks", "8", "--", "9"]


def test_tune_prints_the_trials_and_the_recipe(whinchat: Whinchat, recipe_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "[tune]"
    ranges = ("--ranks", "2", "8", "--learning-rate", "1e-3", "0.1")
    arguments = ("tune", recipe_path, "--out", out, "--trials", "2", *ranges)
    result = whinchat(*arguments, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["space"] == {"learning_rate": [5e-4, 0.1], "ranks": [2, 4, 8], "epochs": [1.0]}
    assert [trial["number"] for trial in found["trials"]] == [1, 2]
    assert found["tuned_recipe"] == str(out / "tiny-tuned.yaml")
    assert load_recipe(found["tuned_recipe"]).name == "tiny-tuned"
    assert "no row of a test split is used" in result.err
    assert "A trial with the recipe as it is takes about" in result.err
    assert "of memory" in result.err
    assert "Trial 1 of at most 2: learning rate 0.0005, rank 4, alpha 8, 1 epoch: done in" in result.err
    again = whinchat("tune", recipe_path, "--out", out, "--resume")
    assert again.code == 0
    assert "the search is finished; more --minutes or --trials continue it" in again.err
    assert found["sentences"][0] in again.out
    assert f"train it with `whinchat run {out / 'tiny-tuned.yaml'}`" in again.out
    assert "1 (as it is" in again.out


def test_tune_refuses_wrong_settings(
    whinchat: Whinchat, recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def error(*arguments: str | Path) -> str:
        result = whinchat("tune", recipe_path, *arguments)
        assert result.code == 2
        assert "Traceback" not in result.err
        return result.err

    assert "--learning-rate 0.1 0.01: must be above 0 and at most 1" in error("--learning-rate", "0.1", "0.01")
    assert "--ranks: 0, 5000 out of range; 1 to 1,024" in error("--ranks", "0", "5000")
    assert "--epochs: train.max_steps=2 ends training whatever the epochs" in error("--epochs", "1", "2")
    assert "--minutes -1: must be above 0" in error("--minutes", "-1")
    assert "--trials 1: the first trial is the recipe as it is" in error("--trials", "1")
    assert "--resume and --overwrite: exclude each other" in error("--resume", "--overwrite")
    assert "exists and is no tune folder; name another with --out" in error("--out", tmp_path)
    assert "has no validation split to judge settings on" in error("--set", "data.validation_rows=null")
    assert not Path("runs").exists()
