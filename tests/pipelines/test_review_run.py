"""A review scores each row with a model that was trained without it, can be resumed, and finds flipped labels."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers import finished_runs, tiny_models
from tests.helpers.killed_training import Killed, kill_at_step
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, RunError
from whinchat.evaluation.label_noise import ReviewedRow
from whinchat.pipelines.review_run import review_run
from whinchat.recipe.schema import Recipe
from whinchat.storage.review_folder import ReviewFolder

ROWS, WRONG = 180, range(0, 180, 9)


def write_noisy(path: Path) -> Path:
    """Write toy rows of which every ninth has a wrong label."""
    texts, targets = tiny_models.toy_rows(ROWS)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for row, (text, target) in enumerate(zip(texts, targets, strict=True)):
            # The number makes every text unique, so that a text identifies its row.
            writer.writerow((f"{text} {row}", tiny_models.ONE_TOKEN[(target + (row in WRONG)) % 3]))
    return path


def recipe_for(model: Path, source: Path, **train: Any) -> Recipe:
    settings = {"max_steps": 6, "save_steps": 2, "eval_steps": None, "learning_rate": 1e-2, **train}
    return finished_runs.recipe_for(model, source, train=settings)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noisy(tmp_path_factory.mktemp("noisy") / "texts.csv")


@pytest.fixture(scope="module")
def whole(tiny_llama: Path, noisy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished review, to be read only."""
    path = tmp_path_factory.mktemp("reviews") / "whole"
    review_run(recipe_for(tiny_llama, noisy), path)
    return path


def test_the_review_folder_holds_its_documented_files(whole: Path, tiny_llama: Path, noisy: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "plan.json", "review.json", "review.csv", "review.parquet", "folds",
    }  # fmt: skip
    review = ReviewFolder(whole).read()
    corpus = load_corpus(recipe_for(tiny_llama, noisy))
    assert review.rows == len(corpus.train) == ROWS - 24
    assert review.train_fingerprint == corpus.train.fingerprint()
    assert sum(fold.rows for fold in review.folds) == review.rows
    assert all(fold.trained_on == review.rows - fold.rows and fold.steps == 6 for fold in review.folds)
    assert review.seconds == pytest.approx(sum(fold.seconds or 0 for fold in review.folds))
    # Checkpoints and adapters are removed; scores are kept.
    assert {path.name for path in (whole / "folds" / "2").iterdir()} == {"scores.npy", "fold.json"}


def test_every_row_is_listed_with_its_index_in_the_source(whole: Path, noisy: Path) -> None:
    with noisy.open(encoding="utf-8", newline="") as file:
        source = list(csv.DictReader(file))
    with (whole / "review.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == ROWS - 24 == len({row["row"] for row in rows})
    for row in rows:
        source_row = source[int(row["row"])]
        assert (source_row["text"], source_row["label"]) == (row["text"], row["label"])
        assert float(row["label_probability"]) <= float(row["model_probability"]) <= 1
        assert (float(row["margin"]) > 0) == (row["label"] != row["model_label"])
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins, reverse=True)
    typed = [ReviewedRow(**row) for row in pq.read_table(whole / "review.parquet").to_pylist()]
    assert [str(row.row) for row in typed] == [row["row"] for row in rows]
    assert [row.margin for row in typed] == margins


def test_the_findings_can_be_recomputed_from_the_rows(whole: Path) -> None:
    folder = ReviewFolder(whole)
    review, rows = folder.read(), folder.read_rows()
    assert review.accuracy == pytest.approx(np.mean([row.label == row.model_label for row in rows]))
    assert review.suspects == sum(row.suspected is not None for row in rows) == sum(pair.rows for pair in review.pairs)
    for pair in review.pairs:
        assert pair.rows == sum((row.label, row.suspected) == (pair.given, pair.suspected) for row in rows)
    for label, threshold in zip(review.labels, review.thresholds, strict=True):
        assert threshold == pytest.approx(np.mean([row.label_probability for row in rows if row.label == label]))


def test_flipped_labels_come_first(tiny_llama: Path, noisy: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_llama, noisy, max_steps=90, save_steps=90)
    review, rows = review_run(recipe, tmp_path / "review", folds=2)
    flipped = [row.row in WRONG for row in rows]
    base = np.mean(flipped)
    assert np.mean(flipped[: sum(flipped)]) > 4 * base
    assert review.accuracy > 0.6


def test_no_model_scores_rows_that_it_was_trained_on(
    tiny_llama: Path, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whinchat.pipelines import review_run as module

    trained: list[set[str]] = []
    real_train, real_score = module.train, module.score_prompts
    judged: list[str] = []

    def watched_train(recipe: Any, corpus: Any, *rest: Any) -> Any:
        trained.append(set(corpus.train.texts))
        return real_train(recipe, corpus, *rest)

    def watched_score(engine: Any, prompts: Any, *rest: Any, **settings: Any) -> Any:
        encoded = {tuple(prompt.ids) for prompt in prompts}
        seen = {tuple(prompt.ids) for prompt in engine.template.encode(sorted(trained[-1]))}
        assert not encoded & seen
        judged.extend(map(str, encoded))
        return real_score(engine, prompts, *rest, **settings)

    monkeypatch.setattr(module, "train", watched_train)
    monkeypatch.setattr(module, "score_prompts", watched_score)
    review, _ = review_run(recipe_for(tiny_llama, noisy, max_steps=1), tmp_path / "review", folds=2)
    assert len(trained) == 2
    assert len(set(judged)) == review.rows


def test_a_killed_review_resumes_within_its_fold(
    whole: Path, tiny_llama: Path, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, path = recipe_for(tiny_llama, noisy), tmp_path / "review"
    # The first fold takes six steps. The second fold is killed in its fifth step, after the checkpoint of step 4.
    calls = kill_at_step(11, monkeypatch)
    with pytest.raises(Killed):
        review_run(recipe, path)
    assert (path / "folds" / "1" / "fold.json").is_file()
    assert (path / "folds" / "2" / "checkpoints" / "checkpoint-4").is_dir()
    assert not (path / "review.json").exists()
    review, rows = review_run(recipe, path, existing="resume")
    # Two steps of the second fold were left, and six of the third.
    assert len(calls) == 11 + 2 + 6
    assert review.folds[0].seconds is not None
    assert review.folds[1].seconds is None
    assert review.seconds is None
    assert (path / "review.csv").read_bytes() == (whole / "review.csv").read_bytes()
    monkeypatch.undo()
    # A finished review is read from its folder.
    assert review_run(recipe, path, existing="resume") == (review, rows)
    assert len(calls) == 19


def test_stored_scores_need_no_model(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from whinchat.pipelines import review_run as module

    path = shutil.copytree(whole, tmp_path / "review")
    (path / "review.json").unlink()
    monkeypatch.setattr(module, "prepare_training", None)
    review_run(ReviewFolder(path).read_plan().recipe, path, existing="resume")
    assert (path / "review.json").read_bytes() == (whole / "review.json").read_bytes()


def test_a_source_without_validation_can_be_reviewed(tiny_llama: Path, noisy: Path, tmp_path: Path) -> None:
    recipe = finished_runs.recipe_for(
        tiny_llama, noisy, data={"validation_rows": None}, train={"max_steps": 1, "eval_steps": None}
    )
    review, _ = review_run(recipe, tmp_path / "review", folds=2)
    assert review.rows == ROWS


def test_overwrite_keeps_files_of_the_user(whole: Path, tiny_llama: Path, noisy: Path, tmp_path: Path) -> None:
    path = shutil.copytree(whole, tmp_path / "review")
    (path / "notes.txt").write_text("mine", encoding="utf-8")
    recipe = recipe_for(tiny_llama, noisy, max_steps=1)
    review, _ = review_run(recipe, path, folds=2, existing="overwrite")
    assert len(review.folds) == 2
    assert not (path / "folds" / "3").exists()
    assert (path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_folders_and_settings_that_are_refused(whole: Path, tiny_llama: Path, noisy: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_llama, noisy)
    with pytest.raises(RunError, match="already holds a review; --resume continues it, --overwrite starts again"):
        review_run(recipe, whole)
    with pytest.raises(RunError, match=r"holds another review.*different: --folds \(3 there, 4 now\); repeat"):
        review_run(recipe, whole, folds=4, existing="resume")
    with pytest.raises(RunError, match=r"different: train\.max_steps; repeat the earlier ones, or use another --out"):
        review_run(recipe_for(tiny_llama, noisy, max_steps=7), whole, existing="resume")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "recipe.yaml").write_text("a run's", encoding="utf-8")
    for existing in ("refuse", "resume", "overwrite"):
        with pytest.raises(RunError, match="exists and is no review folder; name another with --out"):
            review_run(recipe, tmp_path / "photos", existing=existing)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="--folds 1: each fold is scored by a model trained on the other folds"):
        review_run(recipe, tmp_path / "new", folds=1)
    with pytest.raises(DataError, match="156 training rows give 20 folds of fewer than 10 rows"):
        review_run(recipe, tmp_path / "new", folds=20)
    assert not (tmp_path / "new").exists()


def test_damaged_files_are_named(whole: Path, tiny_llama: Path, noisy: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_llama, noisy)
    path = shutil.copytree(whole, tmp_path / "review")
    (path / "review.json").unlink()
    scores = path / "folds" / "2" / "scores.npy"
    scores.write_bytes(b"torn")
    with pytest.raises(RunError, match=r"scores\.npy: not readable .*; delete .*folds/2 and repeat the fold"):
        review_run(recipe, path, existing="resume")
    np.save(scores, np.zeros((3, 3), np.float32))
    with pytest.raises(RunError, match="3 rows of scores, but the fold has 52"):
        review_run(recipe, path, existing="resume")
    (path / "plan.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match=r"plan\.json: not what this version of whinchat writes"):
        review_run(recipe, path, existing="resume")


def test_changed_data_is_refused(whole: Path, tiny_llama: Path, noisy: Path, tmp_path: Path) -> None:
    source = shutil.copy(noisy, tmp_path / "texts.csv")
    path = shutil.copytree(whole, tmp_path / "review")
    plan = json.loads((path / "plan.json").read_text(encoding="utf-8"))
    plan["recipe"]["data"]["source"] = str(source)
    (path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (path / "review.json").unlink()
    Path(source).write_text(Path(source).read_text(encoding="utf-8").replace("the ", "a "), encoding="utf-8")
    with pytest.raises(RunError, match=r"texts\.csv has changed since the review began; use --overwrite"):
        review_run(recipe_for(tiny_llama, Path(source)), path, existing="resume")
