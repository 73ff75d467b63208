"""From a recipe to a corpus."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from whinchat.data.sources import load_corpus, reading_once, source_rows
from whinchat.errors import DataError
from whinchat.recipe.schema import Recipe

MakeRecipe = Callable[..., Recipe]
LABELS = ("negative", "neutral", "positive")


def write_csv(path: Path, count: int, prefix: str = "text") -> Path:
    lines = [f"{prefix} {i},{LABELS[i % 3]}" for i in range(count)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    return path


def test_vader(make_recipe: MakeRecipe) -> None:
    whole = load_corpus(make_recipe("package:vader-tweets", validation_rows=None))
    assert whole.train.counts(LABELS) == {"negative": 1087, "neutral": 768, "positive": 2345}
    assert (whole.validation, whole.test) == (None, None)
    assert whole.revision is not None
    assert whole.revision.startswith("vaderSentiment==3.3.2 sha256:")
    parts = load_corpus(make_recipe("package:vader-tweets", train_rows=3000, validation_rows=400, test_rows=800))
    assert [len(parts.split(name)) for name in ("train", "validation", "test")] == [3000, 400, 800]
    assert parts.split("test").counts(LABELS) == {"negative": 207, "neutral": 146, "positive": 447}
    assert parts.report.leaked == {"validation": 0, "test": 0}


def test_a_command_reads_the_data_of_a_recipe_once(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(str(write_csv(tmp_path / "my.csv", 60)))
    with reading_once():
        corpus = load_corpus(recipe)
        assert load_corpus(recipe.dated(date(2026, 1, 31))) is corpus
        assert load_corpus(make_recipe(recipe.data.source, train_rows=30)) is not corpus
    write_csv(tmp_path / "my.csv", 90)
    assert len(load_corpus(recipe).train) > len(corpus.train)


def test_file_is_one_split(make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "my.csv", 9)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    relative, home = load_corpus(make_recipe("my.csv")), load_corpus(make_recipe("~/my.csv"))
    assert relative.train == home.train
    assert relative.source == "my.csv"
    # Without a word about splits, a tenth of the rows validates, and a tenth tests.
    assert [len(relative.split(name)) for name in ("train", "validation", "test")] == [7, 1, 1]
    assert relative.split("auto") is relative.test
    assert relative.describe_splits("auto") == (
        "Rows of my.csv: train 7; validation 1 (taken out of train); test 1 (taken out of train), measured"
    )


def test_limits_apply_to_splits_that_exist(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", 9)
    write_csv(tmp_path / "val.csv", 6, "held out")
    corpus = load_corpus(make_recipe(tmp_path, train_rows=6, validation_rows=2))
    assert corpus.train.texts == tuple(f"text {i}" for i in range(6))
    assert corpus.split("validation").texts == ("held out 0", "held out 1")
    with pytest.raises(DataError, match=r"data\.validation_rows=7, but validation has 6 rows; lower it"):
        load_corpus(make_recipe(tmp_path, validation_rows=7))


def test_leaks_are_dropped_before_train_is_limited(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", 9)
    write_csv(tmp_path / "test.csv", 3, "TEXT")
    corpus = load_corpus(make_recipe(tmp_path, train_rows=6, validation_rows=None))
    assert corpus.train.texts == tuple(f"text {i}" for i in range(3, 9))
    assert (corpus.report.leaked, corpus.report.dropped_from_train) == ({"test": 3}, 3)
    assert load_corpus(make_recipe(tmp_path, drop_leaked=False)).report.dropped_from_train == 0


def test_carving_only_what_is_missing(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", 30)
    write_csv(tmp_path / "test.csv", 6, "held out")
    corpus = load_corpus(make_recipe(tmp_path, validation_rows=6, test_rows=3))
    assert (len(corpus.train), len(corpus.split("validation")), len(corpus.split("test"))) == (24, 6, 3)
    assert corpus.split("validation").counts(LABELS) == dict.fromkeys(LABELS, 2)
    again = load_corpus(make_recipe(tmp_path, validation_rows=6, test_rows=3))
    assert again.train.fingerprint() == corpus.train.fingerprint()


def test_rows_without_text_or_label_are_left_out_on_demand(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "my.csv", 9)
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, ",neutral", *rows[:5], "nothing,", *rows[5:], " , "]) + "\n")
    recipe = make_recipe(path, drop_empty=True, validation_rows=None)
    corpus = load_corpus(recipe)
    assert (len(corpus.train), corpus.report.empty) == (9, 3)
    assert corpus.describe_splits("train").endswith("train 9, measured; left out without text or label 3")
    # The index of a row in its source counts the rows that were left out.
    assert source_rows(recipe, corpus.train) == (1, 2, 3, 4, 5, 7, 8, 9, 10)
    with pytest.raises(DataError, match=r"1 row has no text.*1 row has no label.*1 row is empty"):
        load_corpus(make_recipe(path))


def test_label_without_a_row(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "my.csv", 9)
    with pytest.raises(
        DataError, match=r"no training row is labelled positive \(rows used: negative 1, neutral 1, posi"
    ):
        load_corpus(make_recipe(path, train_rows=2))


def test_strangers_name_file_and_line(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "my.csv", 9)
    with pytest.raises(DataError, match=r"'neutral' \(3 rows, first .*my\.csv:3"):
        load_corpus(make_recipe(path, labels=("negative", "positive")))


@pytest.mark.parametrize(
    ("source", "data", "message"),
    [
        ("cardiffnlp/tweet_eval", {}, r"for a hub data set write hub:cardiffnlp/tweet_eval; a source is a folder"),
        ("nowhere.csv", {}, r"^nowhere\.csv: no such file or folder in .*; a source is a folder, a \.csv"),
        ("folder/nowhere.csv", {}, r"no such file or folder in [^;]*; a source is"),
        ("owner/name", {"format": "hub"}, r"data\.format is hub, so data\.source must read hub:OWNER/NAME"),
        ("hub:owner/name", {"format": "csv"}, r"data\.format csv does not fit this source; leave it at auto"),
        ("package:vader-tweets", {"format": "csv"}, r"data\.format csv does not fit this source"),
        ("package:vader", {}, r"package:vader: not in the catalog; did you mean vader-tweets\?"),
        ("package:smollm2-135m-instruct", {}, r"is SmolLM2-135M-Instruct\.Q4_1\.gguf, not a data set; a source is"),
    ],
)
def test_what_a_source_may_be(make_recipe: MakeRecipe, source: str, data: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_corpus(make_recipe(source, **data))


def test_nothing_slow_is_imported() -> None:
    code = (
        "import sys, whinchat.data.sources\n"
        "print(*sorted({'torch', 'transformers', 'datasets', 'pyarrow', 'sklearn', 'rich'} & set(sys.modules)))"
    )
    env = {"PYTHONPATH": str(Path(sys.modules["whinchat.data.sources"].__file__ or "").parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
