"""The table of one's own: from VADER's lines to a trained run on a model whose labels are several tokens long."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from tests.helpers.finished_runs import EVALUATE, TRAIN
from tests.helpers.programs import load_program
from whinchat.data.sources import load_corpus
from whinchat.inference.predictor import load_engine
from whinchat.pipelines.run import run
from whinchat.recipe.loader import load_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "five-labels"
RATINGS = (-2.5, -1.5, -1.0, 0.0, 0.5, 1.0, 1.6, 3.9)


def program() -> ModuleType:
    return load_program(EXAMPLE / "make_csv.py")


def table(folder: Path) -> Path:
    rated = folder / "rated.txt"
    rows = 10 * len(RATINGS)
    lines = [f'{row}\t{RATINGS[row % len(RATINGS)]}\tsaid "{row}", really\n' for row in range(rows)]
    rated.write_text("".join(lines), encoding="utf-8")
    program().write_csv(rated, folder / "tweets.csv")
    return folder / "tweets.csv"


def test_ratings_become_the_recipes_labels(tmp_path: Path) -> None:
    recipe = load_recipe(
        str(EXAMPLE / "recipe.yaml"),
        [f"data.source={table(tmp_path)}", "data.validation_rows=10", "data.test_rows=10"],
    )
    assert tuple(program().BORDERS) == recipe.task.labels
    corpus = load_corpus(recipe)
    by_text = {
        text: recipe.task.labels[label]
        for split in (corpus.train, corpus.split("validation"), corpus.split("test"))
        for text, label in zip(split.texts, split.labels, strict=True)
    }
    names = ["very negative"] * 2 + ["negative", "neutral", "neutral", "positive"] + ["very positive"] * 2
    assert [by_text[f'said "{row}", really'] for row in range(len(RATINGS))] == names


def test_the_recipe_runs(tiny_mistral: Path, tmp_path: Path) -> None:
    small = {
        **{f"train.{key}": value for key, value in TRAIN.items()},
        **{f"evaluate.{key}": value for key, value in EVALUATE.items()},
        "data.source": table(tmp_path),
        "data.validation_rows": 20,
        "data.test_rows": 20,
        "backbone.model": tiny_mistral,
    }
    recipe = load_recipe(str(EXAMPLE / "recipe.yaml"), [f"{key}={value}" for key, value in small.items()])
    record = run(recipe, tmp_path / "run")
    assert record.after.score.n == 20
    answers = load_engine(tmp_path / "run")[1].template.answers
    assert answers[0][0] == answers[4][0], "two labels begin with the same token"
    assert min(len(answers[0]), len(answers[4])) > 1
