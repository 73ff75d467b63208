"""Texts that a model has learned are noticed wherever a later command measures on them."""

from __future__ import annotations

import csv
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import finished_runs
from tests.helpers.command_line import Whinchat
from tests.helpers.finished_runs import write_csv
from whinchat.arena import run_arena as runner
from whinchat.arena.run_arena import run_arena
from whinchat.arena.spec import ArenaSpec
from whinchat.arena.trial_process import run_trial
from whinchat.arena.trials import TrialRecord
from whinchat.classifier import Classifier
from whinchat.cli.printing.reviews import print_review
from whinchat.data.learned_texts import LEARNED_TEXTS, hash_text, learned_rows, read_learned
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, HubError, RecipeError, RunError
from whinchat.export.export_run import export_run
from whinchat.hub.repository import repository_of_classifier
from whinchat.inference.prediction_jobs import classifier_fingerprint
from whinchat.models.backbone import find_model
from whinchat.pipelines.check_recipe import check_recipe
from whinchat.pipelines.evaluate_run import evaluate_run
from whinchat.pipelines.probe_layers import probe_layers
from whinchat.pipelines.push_run import push_run
from whinchat.pipelines.review_run import review_run
from whinchat.pipelines.run import run, train_run
from whinchat.pipelines.tune_data import load_tune_data
from whinchat.recipe.loader import write_recipe
from whinchat.recipe.model_config import BackboneConfig
from whinchat.recipe.schema import Recipe
from whinchat.storage.locate import find_classifier, model_files
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


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
    count = len(learned_rows(str(merged), load_corpus(recipe).validation)["validation"])
    assert 0 < count < 24
    return recipe, count


def test_a_run_stores_what_it_trained_on(first: Path, merged: Path) -> None:
    texts = load_corpus(RunFolder(first).read_recipe()).trained.texts
    stored = read_learned(first)
    assert stored is not None
    assert stored == set(map(hash_text, texts))
    assert (merged / LEARNED_TEXTS).read_bytes() == (first / LEARNED_TEXTS).read_bytes()


def test_it_is_not_published(first: Path, merged: Path) -> None:
    pushed = push_run(first, "someone/words", base_model="models/tiny", dry_run=True)
    assert LEARNED_TEXTS not in {file.path for file in pushed.files}
    assert LEARNED_TEXTS not in {file.name for file in model_files(merged)}
    with pytest.raises(HubError, match=rf"hf upload someone/words FOLDER --exclude {LEARNED_TEXTS}"):
        repository_of_classifier({}, RunFolder(merged).read_recipe(), "someone/words")


def test_a_model_is_the_same_without_it(merged: Path, tmp_path: Path) -> None:
    """Whoever gives the folder away may delete the hashes."""
    other = Path(shutil.copytree(merged, tmp_path / "other"))
    (other / LEARNED_TEXTS).unlink()
    assert find_classifier(other).folder == other
    assert classifier_fingerprint(other) == classifier_fingerprint(merged)
    same = [find_model(BackboneConfig(model=str(folder))).commit for folder in (other, merged)]
    assert same[0] == same[1]
    assert evaluate_run(other, str(write_csv(tmp_path / "rows.csv"))).learned_texts is None


def test_a_run_that_starts_from_it_says_so(
    second: tuple[Recipe, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, count = second
    record = run(recipe, tmp_path / "run")
    assert isinstance(record, RunRecord)
    assert f"has learned {count} texts of validation (rows " in caplog.text
    assert record.manifest.data_report["learned"] == {"validation": count}
    for page in ("README.md", "report.html"):
        assert f" had learned {count} texts of validation before" in (tmp_path / "run" / page).read_text()


def test_checks_and_searches_warn(second: tuple[Recipe, int], tmp_path: Path) -> None:
    recipe, count = second
    write_recipe(recipe, tmp_path)
    warning = f"has learned {count} texts of validation (rows "
    assert any(warning in line for line in check_recipe(str(tmp_path / "recipe.yaml")).warnings)
    data = load_tune_data(recipe)
    assert any(warning in line for line in data.warnings())
    assert data.learned_texts == count


def test_a_review_warns(
    second: tuple[Recipe, int], tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, _ = second
    summary, _ = review_run(recipe, tmp_path / "review", folds=2)
    assert "agrees too readily with their labels" in caplog.text
    train = load_corpus(recipe).train
    assert summary.learned_texts == len(learned_rows(recipe.backbone.model, train)["train"]) > 0
    print_review(*review_run(recipe, tmp_path / "review", folds=2, existing="resume"), tmp_path / "review.csv")
    assert f"The model had learned {summary.learned_texts} texts of these before the review" in capsys.readouterr().out


def test_a_probe_of_layers_warns(second: tuple[Recipe, int], caplog: pytest.LogCaptureFixture) -> None:
    recipe, _ = second
    assert probe_layers(recipe, rows=30).learned_texts
    assert "of the 30 probed texts before, so its layers tell their labels apart too well" in caplog.text


def arena(folder: Path, recipe: Recipe, *methods: dict[str, object]) -> ArenaSpec:
    write_recipe(recipe, folder)
    content = {"name": "one", "recipe": str(folder / "recipe.yaml"), "rows": [10], "seeds": [1], "methods": methods}
    return ArenaSpec.model_validate(content)


def test_an_arena_refuses_a_method_that_starts_from_it(second: tuple[Recipe, int], first: Path, tmp_path: Path) -> None:
    recipe, count = second
    plain = {"name": "plain", "kind": "adapter", "set": [f"backbone.model={chat_model(first)}"]}
    started = {"name": "started", "kind": "adapter"}
    fault = rf"methods: started: .* has learned {count} texts of validation before \(rows [0-9, .]+\), on which"
    with pytest.raises(DataError, match=fault):
        run_arena(arena(tmp_path, recipe, plain, started), tmp_path / "out")
    gone = {"name": "gone", "kind": "adapter", "set": [f"backbone.model={tmp_path / 'gone'}"]}
    with pytest.raises(RecipeError, match=r"one: methods: gone: .*gone"):
        run_arena(arena(tmp_path, recipe, plain, gone), tmp_path / "out")


def test_an_arena_goes_on_where_no_method_starts_from_it(
    second: tuple[Recipe, int], first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_trial_job", lambda job, folder: TrialRecord(job, None, "not run here"))
    plain = {"name": "plain", "kind": "adapter", "set": [f"backbone.model={chat_model(first)}"]}
    results = run_arena(arena(tmp_path, second[0], plain, {"name": "tfidf", "kind": "tfidf"}), tmp_path / "out")
    assert len(results.failed) == 2


def test_an_arena_says_where_a_start_knows_the_training_rows(merged: Path, first: Path, tmp_path: Path) -> None:
    """The rows are divided as they were for the start, which knows the training rows and none of the measured."""
    recipe = finished_runs.recipe_for(merged, first.parent / "texts.csv", evaluate={"split": "validation"})
    said: list[str] = []
    with pytest.raises(RunError, match="stop"):
        run_arena(arena(tmp_path, recipe, {"name": "started", "kind": "adapter"}), tmp_path / "out", notify=stop(said))
    assert re.search(r"warning: started: .* has learned \d+ texts of train before", said[0])


def test_the_results_of_an_arena_say_it_too(merged: Path, first: Path, tmp_path: Path) -> None:
    recipe = finished_runs.recipe_for(merged, first.parent / "texts.csv", evaluate={"split": "validation"})
    spec = arena(tmp_path, recipe, {"name": "zero-shot"}, {"name": "majority"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "run_trial_job", lambda job, folder: run_trial(job))
        results = run_arena(spec, tmp_path / "out")
    assert len(results.notes) == 1
    assert re.match(
        r"The model of zero-shot had learned \d+ texts of train before, so zero-shot knows", results.notes[0]
    )


def stop(said: list[str]) -> Callable[[str], None]:
    """Keep the first line of progress, and end the arena at the second."""

    def notify(line: str) -> None:
        if said:
            raise RunError("stop")
        said.append(line)

    return notify


def test_a_held_out_part_of_an_estimator(
    merged: Path, first: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (first.parent / "texts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    model = Classifier(model=str(merged), validation_fraction=0.3, num_train_epochs=0.1, random_state=5)
    model.fit([row["text"] for row in rows], [row["label"] for row in rows])
    assert re.search(r"has learned \d+ texts of validation \(rows", caplog.text)
    # What it saves knows its training texts, those of the model from which it started among them.
    pickle.loads(pickle.dumps(model)).save_pretrained(tmp_path)
    learned, earlier = read_learned(tmp_path), read_learned(merged)
    assert learned is not None
    assert earlier is not None
    assert earlier < learned
    known = sum(hash_text(row["text"]) in learned for row in rows)
    assert evaluate_run(tmp_path, str(first.parent / "texts.csv")).learned_texts == known < len(rows)
    again = tmp_path / "again"
    Classifier.from_pretrained(tmp_path).save_pretrained(again)
    assert read_learned(again) == learned
    # Of another that is saved in its place nothing is known, so nothing may stay.
    (tmp_path / LEARNED_TEXTS).unlink()
    Classifier.from_pretrained(tmp_path).save_pretrained(again)
    assert read_learned(again) is None


def test_an_estimator_of_a_run_keeps_what_the_run_learned(first: Path, tmp_path: Path) -> None:
    Classifier.from_pretrained(first).save_pretrained(tmp_path)
    assert read_learned(tmp_path) == read_learned(first) is not None


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


@pytest.mark.parametrize("change", ["texts", "labels", "case"])
def test_a_training_goes_on_with_the_same_rows_only(first: Path, tmp_path: Path, change: str) -> None:
    source = Path(shutil.copy(first.parent / "texts.csv", tmp_path))
    recipe = finished_runs.recipe_for(Path(chat_model(first)), source)
    folder, _ = train_run(recipe, tmp_path / "run")
    train_run(recipe, tmp_path / "run", "resume")
    header, *lines = source.read_text().splitlines()
    if change == "texts":
        lines = [line.replace("the", "a") for line in lines]
    elif change == "labels":
        one, other = RunFolder(first).read_recipe().task.labels[:2]
        at = max(index for index, line in enumerate(lines) if line.endswith(one))
        lines[at] = lines[at].removesuffix(one) + other
    else:
        lines = [line.replace("the", "The") for line in lines]
    source.write_text("\n".join([header, *lines]) + "\n")
    with pytest.raises(RunError, match=r"the training rows of .* have changed since this run began"):
        train_run(recipe, tmp_path / "run", "resume")
    train_run(recipe, tmp_path / "run", "overwrite")
    folder.training_rows.unlink()  # as in a run of an earlier version
    train_run(recipe, tmp_path / "run", "resume")


def chat_model(run: Path) -> str:
    return RunFolder(run).read_recipe().backbone.model
