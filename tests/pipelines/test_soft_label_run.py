"""A classifier whose answers teach another one: from `whinchat predict` to a finished run of the pupil."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.helpers import finished_runs, tiny_models
from whinchat.arena.spec import ArenaSpec, resolve_arena
from whinchat.cli.early_checks import check_export
from whinchat.data.dataset import SOFT_SPLIT
from whinchat.data.sources import load_corpus
from whinchat.errors import RecipeError, RunError
from whinchat.inference.predict_file import predict_file
from whinchat.pipelines.calibrate_run import calibrate_run
from whinchat.pipelines.distill_run import distill_run
from whinchat.pipelines.evaluate_run import RunEvaluation, evaluate_run
from whinchat.pipelines.run import run
from whinchat.recipe.loader import write_recipe
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_folder import RunFolder


@pytest.fixture(scope="module")
def taught(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Recipe]:
    """A run with soft labels, the table that holds them, and the recipe."""
    teacher, folder = finished_runs.finished_run(tiny_llama), tmp_path_factory.mktemp("taught")
    texts, _ = tiny_models.toy_rows(60, tiny_models.ONE_TOKEN, seed=7)
    with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text",), *((f"{text} {row}",) for row, text in enumerate(texts))])
    answers = folder / "answers.csv"
    predict_file(teacher, folder / "texts.csv", answers)
    recipe = finished_runs.recipe_for(
        tiny_llama,
        teacher.parent / "texts.csv",
        data={"soft_labels": str(answers)},
        train={"loss": "choice", "max_steps": -1, "num_train_epochs": 1},
        evaluate={"generate": False},
    )
    run(recipe, folder / "run")
    return folder / "run", answers, recipe


def test_the_run_trains_on_both_and_says_so(taught: tuple[Path, Path, Recipe]) -> None:
    path, answers, recipe = taught
    folder = RunFolder(path)
    manifest, corpus = folder.read_manifest(), load_corpus(recipe)
    assert corpus.soft is not None
    assert manifest.splits[SOFT_SPLIT].rows == len(corpus.soft) == 60
    assert manifest.train_steps == -(-len(corpus.trained) // 4)
    card = (path / "README.md").read_text()
    assert f"60 texts with soft labels of {answers.name}" in card
    assert str(answers.parent) not in card.partition("```yaml")[0]


def test_a_student_needs_no_further_texts(taught: tuple[Path, Path, Recipe]) -> None:
    """It learns from the texts with soft labels, and is tested on validation."""
    path, _, recipe = taught
    facts = distill_run(path, agreement=0.5, delta=0.3)
    assert facts.held_out == "validation"
    assert facts.training_texts == len(set(load_corpus(recipe).trained.texts))


def test_another_table_is_noticed_by_what_trains_on_it(taught: tuple[Path, Path, Recipe]) -> None:
    path, answers, _ = taught
    before = answers.read_text()
    try:
        answers.write_text("\n".join(before.splitlines()[:-5]) + "\n")
        with pytest.raises(RunError, match=r"has changed since this run was evaluated \(rows of soft labels\)"):
            distill_run(path)
    finally:
        answers.write_text(before)


def test_measuring_needs_no_table(taught: tuple[Path, Path, Recipe], tmp_path: Path) -> None:
    path, answers, _ = taught
    kept = answers.rename(tmp_path / "answers.csv")
    try:
        assert isinstance(evaluate_run(path), RunEvaluation)
        check_export(path, "classifier", tmp_path / "export", None, None)
        calibrate_run(path)
    finally:
        kept.rename(answers)


def test_an_arena_refuses_them(taught: tuple[Path, Path, Recipe], tmp_path: Path) -> None:
    write_recipe(taught[2], tmp_path)
    spec = ArenaSpec.model_validate(
        {"name": "one", "recipe": str(tmp_path / "recipe.yaml"), "rows": [10], "seeds": [1], "methods": ["lora"]}
    )
    with pytest.raises(RecipeError, match=r"data\.soft_labels would teach some methods only"):
        resolve_arena(spec)
