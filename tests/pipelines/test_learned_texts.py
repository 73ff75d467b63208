"""Texts that a model has learned are noticed wherever a later command measures on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers import finished_runs
from tests.helpers.command_line import Whinchat
from whinchat.arena.run_arena import run_arena
from whinchat.arena.spec import ArenaSpec
from whinchat.data.learned_texts import LEARNED_TEXTS, hash_text, learned_rows, read_learned
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, RunError
from whinchat.export.export_run import export_run
from whinchat.pipelines.check_recipe import check_recipe
from whinchat.pipelines.evaluate_run import evaluate_run
from whinchat.pipelines.push_run import push_run
from whinchat.pipelines.review_run import review_run
from whinchat.pipelines.run import run, train_run
from whinchat.pipelines.tune_data import load_tune_data
from whinchat.recipe.loader import write_recipe
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_folder import RunFolder


@pytest.fixture(scope="module")
def first(tiny_llama: Path) -> Path:
    """A finished run, to be read only."""
    return finished_runs.finished_run(tiny_llama)


@pytest.fixture(scope="module")
def merged(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier of that run without an adapter, from which others start."""
    out = tmp_path_factory.mktemp("exports") / "merged"
    export_run(first, "merged", out, tolerance=1)
    return out


@pytest.fixture(scope="module")
def second(first: Path, merged: Path) -> tuple[Recipe, int]:
    """A recipe that starts from it and divides the same rows otherwise, and how many rows it would measure wrongly."""
    recipe = finished_runs.recipe_for(
        merged,
        first.parent / "texts.csv",
        data={"split_seed": 5},
        train={"max_steps": 2, "eval_steps": None},
        evaluate={"split": "validation", "generate": False},
    )
    count = learned_rows(str(merged), load_corpus(recipe))["validation"]
    assert 0 < count < 24
    return recipe, count


def test_a_run_stores_what_it_trained_on(first: Path, merged: Path) -> None:
    texts = load_corpus(RunFolder(first).read_recipe()).trained.texts
    stored = read_learned(first)
    assert stored is not None
    assert stored == set(map(hash_text, texts))
    assert (merged / LEARNED_TEXTS).read_bytes() == (first / LEARNED_TEXTS).read_bytes()


def test_it_is_not_published(first: Path) -> None:
    pushed = push_run(first, "someone/words", base_model="models/tiny", dry_run=True)
    assert LEARNED_TEXTS not in {file.path for file in pushed.files}


def test_a_run_that_starts_from_it_says_so(
    second: tuple[Recipe, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, count = second
    record = run(recipe, tmp_path / "run")
    assert f"has learned {count} texts of validation before" in caplog.text
    assert record.manifest.data_report["learned"] == {"validation": count}
    for page in ("README.md", "report.html"):
        assert f"{count} texts of validation were among those" in (tmp_path / "run" / page).read_text()


def test_checks_and_searches_warn(second: tuple[Recipe, int], tmp_path: Path) -> None:
    recipe, count = second
    write_recipe(recipe, tmp_path)
    warning = f"has learned {count} texts of validation before"
    assert any(warning in line for line in check_recipe(str(tmp_path / "recipe.yaml")).warnings)
    assert any(warning in line for line in load_tune_data(recipe).warnings())


def test_a_review_warns(second: tuple[Recipe, int], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    review_run(second[0], tmp_path / "review", folds=2)
    assert "agrees too readily with their labels" in caplog.text


def test_an_arena_refuses_it(second: tuple[Recipe, int], first: Path, tmp_path: Path) -> None:
    recipe, count = second
    write_recipe(recipe, tmp_path)
    backbone = f"backbone.model={RunFolder(first).read_recipe().backbone.model}"
    content = {
        "name": "one",
        "recipe": str(tmp_path / "recipe.yaml"),
        "set": [backbone],
        "rows": [10],
        "seeds": [1],
        "methods": [
            {"name": "plain", "kind": "adapter"},
            {"name": "started", "kind": "adapter", "set": [f"backbone.model={recipe.backbone.model}"]},
        ],
    }
    with pytest.raises(DataError, match=rf"has learned {count} of the 24 texts of validation before"):
        run_arena(ArenaSpec.model_validate(content), tmp_path / "out")


@pytest.mark.parametrize("part", ["", "adapter"])
def test_evaluation_on_learned_texts(first: Path, whinchat: Whinchat, part: str) -> None:
    """The run's source holds its 56 training texts and the 24 of validation."""
    source = first.parent / "texts.csv"
    learned = len(set(load_corpus(RunFolder(first).read_recipe()).train.texts))
    measured = evaluate_run(first / part, str(source)).learned_texts
    assert measured is not None
    assert learned <= measured < 80
    result = whinchat("evaluate", first / part, "--data", source)
    assert f"was trained on {measured} texts of these, so all metrics are optimistic" in " ".join(result.out.split())
    own = json.loads(whinchat("evaluate", first, "--json").out)
    assert own["learned_texts"] == 0


def test_a_training_goes_on_with_the_same_texts_only(first: Path, tmp_path: Path) -> None:
    source = Path(shutil.copy(first.parent / "texts.csv", tmp_path))
    recipe = finished_runs.recipe_for(Path(RunFolder(first).read_recipe().backbone.model), source)
    train_run(recipe, tmp_path / "run")
    lines = source.read_text().splitlines()
    source.write_text("\n".join([lines[0], *(line.replace("the", "a") for line in lines[1:])]) + "\n")
    with pytest.raises(RunError, match=r"the training texts of .* have changed since this run began"):
        train_run(recipe, tmp_path / "run", "resume")
    train_run(recipe, tmp_path / "run", "overwrite")
