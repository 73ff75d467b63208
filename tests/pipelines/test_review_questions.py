"""A review of questions judges every given answer by a model that was trained without the row."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers import tiny_models, tiny_questions
from tests.helpers.command_line import Whinchat
from tests.helpers.killed_training import Killed, kill_at_step
from whinchat.cli.printing.reviews import print_review
from whinchat.data.dataset import Split
from whinchat.data.sources import load_corpus
from whinchat.evaluation.question_review import QuestionReview, QuestionsReview, ReviewedAnswer
from whinchat.pipelines import review_run as module
from whinchat.pipelines.review_run import review_run
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.storage.review_folder import ReviewFolder

ROWS, WRONG = 200, range(0, 200, 10)
COLUMNS = ("title", "body", "feeling", "rain", "bad", "fine", "good", "tags")


def write_noisy(path: Path) -> Path:
    """Write rows whose answers follow from words; every tenth mood is wrong, and so is the tag "sea" of these rows."""
    draw = random.Random(1)
    words = dict(zip(tiny_models.BRANCHING, ("rain", "tea", "sun", "snow"), strict=True))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in range(ROWS):
            mood = draw.randrange(4)
            tags = [tag for tag in ("train", "sea") if draw.random() < 0.5]
            given = tags if row not in WRONG else sorted({"train", "sea"} & set(tags) ^ {"sea"})
            levels = [0, 0, 0]
            levels[row % 3] = 3
            if row % 5 == 1:  # raters who do not agree
                levels[(row + 1) % 3] = 1
            writer.writerow((
                words[tiny_models.BRANCHING[mood]],
                f"{' and '.join(tags)} day {row}",
                tiny_models.BRANCHING[(mood + (row in WRONG)) % 4],
                "" if row % 7 == 3 else "yes" if mood == 0 else "no",
                *levels,
                "" if row % 9 == 2 else json.dumps(given),
            ))  # fmt: skip
    return path


def recipe_for(model: Path, source: Path, **train: Any) -> Recipe:
    recipe = tiny_questions.table_recipe(model, source, **{"save_steps": 2, **train})
    answers = {"mood": "feeling", "quality": {level: level for level in ("bad", "fine", "good")}}
    data = recipe.data.model_copy(update={"answers": answers})
    return Recipe.model_validate(recipe.model_copy(update={"data": data}).model_dump())


def reviewed(recipe: Recipe, path: Path, folds: int = 2, existing: Any = "refuse") -> Any:
    review, rows = review_run(recipe, path, folds, existing)
    assert isinstance(review, QuestionsReview)
    return review, rows


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noisy(tmp_path_factory.mktemp("noisy") / "table.csv")


@pytest.fixture(scope="module")
def whole(tiny_llama: Path, noisy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished review, to be read only."""
    path = tmp_path_factory.mktemp("reviews") / "whole"
    reviewed(recipe_for(tiny_llama, noisy), path)
    return path


def test_every_single_answer_is_listed_as_the_source_gives_it(whole: Path, noisy: Path) -> None:
    with noisy.open(encoding="utf-8", newline="") as file:
        source = list(csv.DictReader(file))
    with (whole / "review.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    seen = {(row["row"], row["question"], row["option"]) for row in rows}
    assert len(seen) == len(rows)
    used = {row["row"] for row in rows}
    for number in used:
        given = source[int(number)]
        tags = json.loads(given["tags"]) if given["tags"] else None
        divided = sum(given[level] != "0" for level in ("bad", "fine", "good")) > 1
        answers = {
            ("mood", ""): given["feeling"],
            ("rain", ""): given["rain"] or None,
            ("quality", ""): None if divided else max(("bad", "fine", "good"), key=lambda level: given[level]),
            **{("tags", tag): None if tags is None else "yes" if tag in tags else "no" for tag in ("train", "sea")},
        }
        for (question, option), answer in answers.items():
            own = [row for row in rows if (row["row"], row["question"], row["option"]) == (number, question, option)]
            assert [row["label"] for row in own] == ([] if answer is None else [answer])
            assert all(row["text"] == f"{given['title']}\n\n{given['body']}" for row in own)
    strengths = [float(row["disagreement"]) for row in rows]
    assert strengths == sorted(strengths, reverse=True)
    for row in rows:
        assert (float(row["margin"]) > 0) == (row["label"] != row["model_label"])
    typed = [ReviewedAnswer(**row) for row in pq.read_table(whole / "review.parquet").to_pylist()]
    assert [(one.row, one.question, one.option or "", one.margin) for one in typed] == [
        (int(row["row"]), row["question"], row["option"], float(row["margin"])) for row in rows
    ]


def test_the_findings_can_be_recomputed_from_the_answers(whole: Path, tiny_llama: Path, noisy: Path) -> None:
    folder = ReviewFolder(whole)
    review, rows = folder.read_finished()
    assert isinstance(review, QuestionsReview)
    train = load_corpus(recipe_for(tiny_llama, noisy)).train
    assert review.rows == len(train) == sum(fold.rows for fold in review.folds)
    index = 0
    for question in review.questions:
        assert question.suspects == sum(one.suspects for one in question.decisions)
        for decision in question.decisions:
            own = [row for row in rows if (row.question, row.option) == (question.name, decision.option)]  # type: ignore[union-attr]
            answers = [given[index] for given in train.answers]
            assert decision.missing == answers.count(None)
            assert decision.shares == sum(isinstance(answer, tuple) for answer in answers)
            assert decision.rows == len(own) == len(train) - decision.missing - decision.shares
            assert decision.accuracy == pytest.approx(np.mean([row.label == row.model_label for row in own]))
            assert decision.suspects == sum(row.suspected is not None for row in own)
            for label, threshold in zip(decision.labels, decision.thresholds, strict=True):
                assert threshold == pytest.approx(np.mean([row.label_probability for row in own if row.label == label]))
            most = max(sum(row.label == label for row in own) for label in decision.labels)
            assert decision.most_frequent == pytest.approx(most / len(own))
            _check_disagreements(own, dict(zip(decision.labels, decision.thresholds, strict=True)))
            index += 1
    by_name = {question.name: question for question in review.questions}
    assert by_name["quality"].decisions[0].shares > 0
    assert by_name["rain"].decisions[0].missing > 0
    assert [one.option for one in by_name["tags"].decisions] == ["train", "sea"]
    assert by_name["tags"].answers == sum(one.rows for one in by_name["tags"].decisions)


def _check_disagreements(rows: Any, threshold_of: Any) -> None:
    """Check the order's key of two labels by hand, and its bound for more."""
    for row in rows:
        own = row.label_probability - threshold_of[row.label]
        if len(threshold_of) == 2:
            (other,) = set(threshold_of) - {row.label}
            assert row.disagreement == pytest.approx(1 - row.label_probability - threshold_of[other] - own)
        elif row.model_label != row.label:
            assert row.disagreement >= row.model_probability - threshold_of[row.model_label] - own - 1e-12


def test_flipped_answers_come_first(tiny_llama: Path, noisy: Path, tmp_path: Path) -> None:
    _, rows = reviewed(recipe_for(tiny_llama, noisy, max_steps=150, save_steps=150), tmp_path / "review")
    for question, option in (("mood", None), ("tags", "sea")):
        flipped = [row.row in WRONG for row in rows if (row.question, row.option) == (question, option)]
        assert np.mean(flipped[: sum(flipped)]) > 4 * np.mean(flipped)


def test_a_question_of_shares_alone_is_not_reviewed(tiny_llama: Path, noisy: Path) -> None:
    recipe = recipe_for(tiny_llama, noisy)
    answers = (((0.5, 0.5, 0.0, 0.0), None, 0, 0, 0), ((0.0, 0.5, 0.5, 0.0), None, 0, 0, 0))
    train = Split("train", ("a", "b"), (0, 1), answers=answers)
    mood, rows = module._review_decision(recipe.task.decisions[0], 0, train, np.zeros((2, 4)), [5, 6])
    assert (mood.rows, mood.missing, mood.shares, mood.accuracy, mood.suspects) == (0, 0, 2, None, 0)
    assert not rows
    rain, _ = module._review_decision(recipe.task.decisions[1], 1, train, np.zeros((2, 2)), [5, 6])
    assert (rain.rows, rain.missing, rain.shares) == (0, 2, 0)
    quality, rows = module._review_decision(recipe.task.decisions[2], 2, train, np.zeros((2, 3)), [5, 6])
    assert (quality.rows, quality.thresholds[1:], quality.most_frequent) == (2, (None, None), 1.0)
    assert [(row.row, row.label, row.suspected) for row in rows] == [(5, "bad", None), (6, "bad", None)]


def test_answers_that_are_all_alike_cannot_be_reviewed(
    tiny_llama: Path, noisy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_for(tiny_llama, noisy)
    train = Split("train", ("a", "b"), (0, 1), answers=((0, None, 0, 0, 0), ((0.5, 0.5, 0.0, 0.0), None, 1, 0, 1)))
    found, _ = module._review_decision(recipe.task.decisions[0], 0, train, np.zeros((2, 4)), [5, 6])
    questions = [QuestionReview.of_decisions("mood", "choice", [found])]
    print_review(QuestionsReview("", "m", None, "d", None, "f", 2, (), tuple(questions), None), (), Path("review.csv"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "mood: the reviewed answers are all alike, so a review can find none of them wrong." in printed
    assert "warning" not in printed


def test_no_model_judges_rows_that_it_was_trained_on(
    tiny_llama: Path, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []
    judged: list[str] = []
    real_train, real_score = module.train, module.score_answered

    def watched_train(recipe: Any, corpus: Any, *rest: Any) -> Any:
        trained.append(set(corpus.train.texts))
        return real_train(recipe, corpus, *rest)

    def watched_score(engines: Any, prompts: Any, split: Any, *rest: Any) -> Any:
        assert not set(split.texts) & trained[-1]
        judged.extend(split.texts)
        return real_score(engines, prompts, split, *rest)

    monkeypatch.setattr(module, "train", watched_train)
    monkeypatch.setattr(module, "score_answered", watched_score)
    review, _ = reviewed(recipe_for(tiny_llama, noisy, max_steps=1), tmp_path / "review")
    assert len(trained) == 2
    assert len(judged) == len(set(judged)) == review.rows


def test_a_killed_review_resumes_within_its_fold(
    whole: Path, tiny_llama: Path, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, path = recipe_for(tiny_llama, noisy), tmp_path / "review"
    # Each fold takes six steps. The second one is killed in its fifth step, after the checkpoint of step 4.
    calls = kill_at_step(11, monkeypatch)
    with pytest.raises(Killed):
        review_run(recipe, path, 2)
    found = reviewed(recipe, path, existing="resume")
    assert len(calls) == 11 + 2
    for name in ("review.csv", "review.parquet"):
        assert (path / name).read_bytes() == (whole / name).read_bytes()
    assert reviewed(recipe, path, existing="resume") == found
    assert len(calls) == 13


def test_an_option_that_few_rows_have_is_refused(tiny_llama: Path, tmp_path: Path, whinchat: Whinchat) -> None:
    source = write_noisy(tmp_path / "table.csv")
    text = source.read_text(encoding="utf-8").replace(",yes,", ",no,").replace(",no,", ",yes,", 2)
    source.write_text(text, encoding="utf-8")
    recipe = recipe_for(tiny_llama, source)
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"validation_rows": None, "test_rows": None})}
    )
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(recipe), encoding="utf-8")
    result = whinchat("review", tmp_path / "recipe.yaml", "--out", tmp_path / "review", "--folds", "3")
    assert result.code == 2
    assert "rain (yes) has 2 different texts in train, too few for 3 folds" in result.err
    assert not (tmp_path / "review").exists()


def test_the_command_prints_answers_and_questions(whinchat: Whinchat, whole: Path) -> None:
    recipe = whole.parent / "recipe.yaml"
    recipe.write_text(recipe_to_yaml(ReviewFolder(whole).read_plan().recipe), encoding="utf-8")
    arguments = ("review", recipe, "--out", whole, "--folds", "2", "--top", "5", "--resume")
    content = json.loads(whinchat(*arguments, "--json").out)
    assert [question["name"] for question in content["questions"]] == ["mood", "rain", "quality", "tags"]
    assert len(content["top"]) == 5
    shown = whinchat(*arguments).out
    for row in content["top"]:
        title = row["question"] if row["option"] is None else f"{row['question']}: {row['option']}"
        assert f"{title}\t{row['row']}\t{row['label']}\t" in shown
    assert "quality: " in shown
    assert "answers are shares, which a review leaves out" in shown
    assert f"All rows: {whole}/review.csv" in shown
