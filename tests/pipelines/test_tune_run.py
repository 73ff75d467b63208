"""A search begins with the recipe, judges equal rows, uses none of test, prunes, resumes, and writes a recipe."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import finished_runs, tiny_questions
from tests.helpers.killed_training import Killed, kill_at_step
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, DivergenceError, ModelError, RunError, ScoresError
from whinchat.pipelines.tune_data import load_tune_data
from whinchat.pipelines.tune_run import tune_run
from whinchat.recipe.loader import conflicting_keys, differences, load_recipe
from whinchat.recipe.schema import Recipe
from whinchat.recipe.search_space import SearchSpace
from whinchat.storage.tune_folder import SearchLimits, TuneFolder, search_limits, search_space
from whinchat.storage.tune_record import TuneResult

# 24 validation and 10 test rows are taken out.
ROWS = 74


def recipe_for(model: Path, source: Path, **train: Any) -> Recipe:
    settings = {"max_steps": -1, "eval_steps": 0.5, "save_steps": 5, "learning_rate": 1e-3, **train}
    return finished_runs.recipe_for(model, source, data={"test_rows": 10}, train=settings)


def space_of(recipe: Recipe, epochs: Sequence[float] | None = (1,), ranks: Sequence[int] = (4,)) -> SearchSpace:
    return SearchSpace.around(recipe, (1e-6, 1e-1), ranks, epochs)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_runs.write_csv(tmp_path_factory.mktemp("tuned") / "texts.csv", rows=ROWS)


@pytest.fixture(scope="module")
def whole(tiny_llama: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search of eight trials, to be read only."""
    path, recipe = tmp_path_factory.mktemp("searches") / "whole", recipe_for(tiny_llama, source)
    tune_run(recipe, path, space_of(recipe, epochs=(1, 2), ranks=(2, 4)), trials=8)
    return path


def timeless(result: TuneResult) -> list[tuple[Any, ...]]:
    return [
        (trial.number, trial.settings, trial.state, trial.log_loss, trial.metric, trial.trained_share)
        for trial in result.trials
    ]


def test_the_first_trial_is_the_recipe_and_the_best_has_the_lowest_log_loss(whole: Path) -> None:
    result = TuneFolder(whole).read_result()
    first = result.trials[0]
    assert (first.settings.learning_rate, first.settings.r, first.settings.num_train_epochs) == (1e-3, 4, 1)
    assert [trial.number for trial in result.trials] == list(range(1, 9))
    losses = {trial.number: trial.log_loss for trial in result.trials if trial.log_loss is not None}
    assert result.best == min(losses, key=losses.__getitem__)
    assert result.best != 1, "the learning rate of the recipe is far too low"
    assert result.gain == pytest.approx(losses[1] - losses[result.best], abs=1e-5)
    assert result.gain_interval is not None
    assert result.gain_interval.low < result.gain < result.gain_interval.high
    for trial in result.trials:
        # The adapter's scale, alpha / r, is that of the recipe.
        assert trial.settings.lora_alpha == 2 * trial.settings.r
        assert 1e-6 <= trial.settings.learning_rate <= 1e-1
    assert len({trial.settings for trial in result.trials}) == 8
    assert result.ended


def test_hopeless_trainings_are_stopped_early(whole: Path) -> None:
    result = TuneFolder(whole).read_result()
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        assert trial.trained_share == 0.5
        assert trial.log_loss is None
        assert trial.number > 3, "three trials are complete before any is stopped"


def test_the_folder_holds_its_documented_files(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "plan.json", "study.journal", "trials.csv", "tune.json", "tiny-tuned.yaml", "learning_rate.png",
        "learning_rate.svg",
    }  # fmt: skip
    result = TuneFolder(whole).read_result()
    with (whole / "trials.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [trial.state for trial in result.trials]
    best = rows[(result.best or 0) - 1]
    assert float(best["log_loss"]) == min(float(row["log_loss"]) for row in rows if row["log_loss"])
    assert 0 <= float(best["macro_f1"]) <= 1


def test_the_tuned_recipe_is_the_given_one_with_the_best_settings(whole: Path, tiny_llama: Path, source: Path) -> None:
    result, recipe = TuneFolder(whole).read_result(), recipe_for(tiny_llama, source)
    path = TuneFolder(whole).recipe("tiny")
    tuned = load_recipe(str(path))
    assert result.winner is not None
    assert tuned.train.learning_rate == result.winner.settings.learning_rate
    assert (tuned.adapter.r, tuned.adapter.lora_alpha) == (result.winner.settings.r, result.winner.settings.lora_alpha)
    searched = {"name", "train.learning_rate", "train.num_train_epochs", "adapter.r", "adapter.lora_alpha"}
    assert set(differences(tuned, recipe)) <= searched
    text = path.read_text(encoding="utf-8")
    assert f"# trial {result.best}, was 0.001\n" in text
    assert "no row of a test split was used" in text
    assert f"Trial {result.best} is best: log-loss {result.winner.log_loss:.3f}" in text


def test_every_trial_sees_the_same_rows_and_none_of_test(
    tiny_llama: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whinchat.pipelines import tune_trial as module
    from whinchat.prompts.template import PromptTemplate

    recipe = recipe_for(tiny_llama, source)
    corpus = load_corpus(recipe)
    assert corpus.test is not None
    assert corpus.validation is not None
    read: set[str] = set()
    trained: list[tuple[str, int]] = []
    judged: list[tuple[str, ...]] = []
    models: list[weakref.ref[Any]] = []
    real_encode, real_train, real_judge = PromptTemplate.encode, module.train, module.score_labels

    def encode(self: Any, texts: Sequence[str], *rest: Any) -> Any:
        read.update(texts)
        return real_encode(self, texts, *rest)

    def train(own: Recipe, corpus: Any, backbone: Any, *rest: Any, **named: Any) -> Any:
        assert corpus.test is None
        trained.append((corpus.train.fingerprint(), own.train.seed))
        assert all(model() is None for model in models)
        models.append(weakref.ref(backbone.model))
        return real_train(own, corpus, backbone, *rest, **named)

    def judge(scores: Any, rows: Any, *rest: Any) -> Any:
        judged.append(rows.texts)
        return real_judge(scores, rows, *rest)

    monkeypatch.setattr(PromptTemplate, "encode", encode)
    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "score_labels", judge)
    tune_run(recipe, tmp_path / "tune", space_of(recipe, epochs=(0.5, 1)), trials=3)
    assert trained == [(corpus.train.fingerprint(), 42)] * 3
    assert judged == [corpus.validation.texts] * 3
    assert read & set(corpus.train.texts)
    assert read <= {*corpus.train.texts, *corpus.validation.texts}
    assert not read & set(corpus.test.texts)
    assert [model() for model in models[:-1]] == [None, None], "what a trial holds is freed before the next"


def test_other_labels_in_test_change_nothing_and_its_texts_are_not_judged(
    whole: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    results = []
    for name, label in (("one", "good"), ("other", "bad")):
        folder = tmp_path / name
        folder.mkdir()
        finished_runs.write_csv(folder / "train.csv", rows=40)
        finished_runs.write_csv(folder / "validation.csv", rows=24, seed=1)
        shared = (folder / "validation.csv").read_text(encoding="utf-8").splitlines()[1].rpartition(",")[0]
        lines = ("text,label", f"never seen {name},{label}", f"{shared},{label}")
        (folder / "test.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        recipe = finished_runs.recipe_for(
            tiny_llama, folder, data={"validation_rows": None}, train={"max_steps": 4, "eval_steps": None}
        )
        results.append(tune_run(recipe, tmp_path / f"tune-{name}", space_of(recipe, None), trials=2))
    assert timeless(results[0]) == timeless(results[1])
    assert results[0].validation_rows == 23, "a validation text that is in test, too, is left out"
    assert not results[0].measures_validation
    on_validation = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"split": "validation"})})
    assert any(
        "set evaluate.split=test to measure it" in warning for warning in load_tune_data(on_validation).warnings()
    )


def test_a_killed_search_resumes_within_its_trial_and_finds_the_same(
    whole: Path, tiny_llama: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, path = recipe_for(tiny_llama, source), tmp_path / "tune"
    space = space_of(recipe, epochs=(1, 2), ranks=(2, 4))
    stored = TuneFolder(whole).read_result()
    # Killed in the third trial, three steps after a checkpoint.
    steps_an_epoch = math.ceil(stored.train_rows / 4)
    before = round(sum(trial.settings.num_train_epochs for trial in stored.trials[:2])) * steps_an_epoch
    calls = kill_at_step(before + 8, monkeypatch)
    with pytest.raises(Killed):
        tune_run(recipe, path, space, trials=8)
    assert (path / "trials" / "3" / "checkpoints" / "checkpoint-5").is_dir()
    assert len(TuneFolder(path).read_result().trials) == 2
    # A kill can leave half a line in the journal, and Optuna's lock.
    with (path / "study.journal").open("ab") as file:
        file.write(b'{"op_code":7,"worker')
    (path / "study.journal.lock").touch()
    killed_at = len(calls)
    resumed = tune_run(recipe, path, space, existing="resume")
    assert resumed.most_trials == 8, "the limit of the search that is resumed"
    assert timeless(resumed) == timeless(stored)
    assert (path / "tiny-tuned.yaml").read_bytes() == (whole / "tiny-tuned.yaml").read_bytes()
    steps = sum(
        round((trial.trained_share or 0) * trial.settings.num_train_epochs * steps_an_epoch) for trial in resumed.trials
    )
    assert len(calls) - killed_at == steps - before - 5, "the third trial went on behind its checkpoint"
    assert not (path / "trials").exists()


def test_a_search_that_is_killed_while_it_judges_stops_the_same_trainings(
    whole: Path, tiny_llama: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training has ended by then, so only what was reported before the kill tells later trials of its losses."""
    from whinchat.pipelines import tune_trial as module

    recipe, path, killed = recipe_for(tiny_llama, source), tmp_path / "tune", list[int]()
    space, real, stored = space_of(recipe, epochs=(1, 2), ranks=(2, 4)), module._judge, TuneFolder(whole).read_result()

    def judge(*arguments: Any) -> Any:
        killed.append(0)
        if len(killed) == 2:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(module, "_judge", judge)
    with pytest.raises(Killed):
        tune_run(recipe, path, space, trials=8)
    assert timeless(tune_run(recipe, path, existing="resume")) == timeless(stored)
    assert reported(path) == reported(whole)


def reported(path: Path) -> list[dict[int, float]]:
    """Return the validation losses of the trials of a search that ended, by the number of the evaluation."""
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(path / "study.journal"))
    study = optuna.load_study(study_name="tune", storage=optuna.storages.JournalStorage(backend))
    return [trial.intermediate_values for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def test_a_trial_that_the_recipe_stops_early_says_so(tiny_llama: Path, source: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_llama, source, max_steps=20, eval_steps=2, save_steps=2, early_stopping_patience=1)
    # So slow that no evaluation is better than the first.
    result = tune_run(recipe, tmp_path / "tune", SearchSpace.around(recipe, (1e-9, 1e-3), (4,), None), trials=2)
    assert result.trials[1].settings.learning_rate < 1e-3
    assert min(trial.trained_share or 1 for trial in result.trials) < 1
    assert {trial.state for trial in result.trials} == {"complete"}


def test_a_finished_search_is_read_and_more_trials_continue_it(
    whole: Path, tiny_llama: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, path = recipe_for(tiny_llama, source), tmp_path / "tune"
    space = space_of(recipe, epochs=(1, 2), ranks=(2, 4))
    stored = TuneFolder(whole).read_result()
    tune_run(recipe, path, space, trials=2)
    more = tune_run(recipe, path, space, trials=3, existing="resume")
    assert search_limits(TuneFolder(path), "resume", 90, None) == SearchLimits(90, 3)
    assert search_limits(TuneFolder(path), "overwrite", None, None) == SearchLimits(60, 20)
    killed = TuneFolder(shutil.copytree(path, tmp_path / "killed in its first trial"))
    killed.result.unlink()
    assert search_limits(killed, "resume", None, None) == SearchLimits(60, 3)
    assert timeless(more) == timeless(stored)[:3]
    written = (path / "tune.json").stat().st_mtime_ns
    monkeypatch.setattr("whinchat.pipelines.tune_search.load_tune_data", None)
    assert tune_run(recipe, path, space, trials=3, existing="resume") == more
    assert (path / "tune.json").stat().st_mtime_ns == written


def test_new_limits_outlast_a_kill_and_the_figure_a_missing_end(
    tiny_llama: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whinchat.pipelines import tune_search as module

    recipe, folder = recipe_for(tiny_llama, source), TuneFolder(tmp_path / "tune")
    tune_run(recipe, folder.path, space_of(recipe), trials=2)
    kill_at_step(3, monkeypatch)
    with pytest.raises(Killed):
        tune_run(recipe, folder.path, minutes=90, trials=3, existing="resume")
    assert search_limits(folder, "resume", None, None) == SearchLimits(90, 3)
    assert search_space(recipe, folder, "resume", ranks=None) == space_of(recipe)
    assert search_space(recipe, folder, "resume", ranks=(4,)) == SearchSpace.around(recipe, ranks=(4,))
    folder.figure.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(module, "tune_figure", dying_figure)
        with pytest.raises(Killed):
            tune_run(recipe, folder.path, existing="resume")
    assert not folder.read_result().ended
    assert tune_run(recipe, folder.path, existing="resume").ended
    assert folder.figure.is_file()


def dying_figure(*arguments: object) -> None:
    raise Killed


def test_the_minutes_end_a_search(
    tiny_llama: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whinchat.pipelines import tune_search as module
    from whinchat.pipelines.tune_trial import TuneCost

    recipe = recipe_for(tiny_llama, source)
    space = space_of(recipe, epochs=(2, 3, 4, 5, 6, 7))
    real = module.make_trial

    def make_trial(*arguments: Any) -> Any:
        trial, losses = real(*arguments)
        return replace(trial, seconds=100 * trial.settings.num_train_epochs), losses

    # As if an epoch took 100 seconds.
    monkeypatch.setattr(TuneCost, "seconds", lambda self, recipe, settings: 100 * settings.num_train_epochs)
    monkeypatch.setattr(module, "make_trial", make_trial)
    with pytest.raises(RunError, match="--minutes 1: the recipe as it is takes about 1 min 40 s, and a search takes"):
        tune_run(recipe, tmp_path / "none", space, minutes=1)
    result = tune_run(recipe, tmp_path / "tune", space, minutes=5)
    assert [trial.settings.num_train_epochs for trial in result.trials] == [1, 2], "the most epochs that fit"
    assert result.ended


@pytest.mark.parametrize("fault", [DivergenceError, ScoresError])
def test_a_learning_rate_that_diverges_is_one_trial_among_others(
    fault: type[ModelError], tiny_llama: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whinchat.pipelines import tune_trial as module

    real = module.train

    def train(own: Recipe, *rest: Any, **named: Any) -> Any:
        if own.train.learning_rate > 1e-3:
            raise fault("the training loss has exploded after 3 steps; set a lower learning rate")
        return real(own, *rest, **named)

    monkeypatch.setattr(module, "train", train)
    recipe = recipe_for(tiny_llama, source, learning_rate=1e-2)
    result = tune_run(recipe, tmp_path / "tune", space_of(recipe), trials=4)
    assert result.trials[0].state == "diverged"
    assert result.best is not None
    assert result.gain is None
    assert "The recipe as it is diverged" in (tmp_path / "tune" / "tiny-tuned.yaml").read_text(encoding="utf-8")


def test_the_recipe_stays_where_nothing_beats_it(tiny_llama: Path, source: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_llama, source, learning_rate=1e-2)
    space = SearchSpace.around(recipe, (1e-2, 1e-2), (4, 2), (1, 0.5))
    result = tune_run(recipe, tmp_path / "tune", space)
    assert len(result.trials) == len({trial.settings for trial in result.trials}) == 4, "there are four settings"
    text = (tmp_path / "tune" / "tiny-tuned.yaml").read_text(encoding="utf-8")
    if result.best == 1:
        assert "None of 3 other trials has a lower log-loss" in text
        assert differences(load_recipe(str(tmp_path / "tune" / "tiny-tuned.yaml")), recipe) == ["name"]


def test_a_task_with_questions_is_tuned(tiny_llama: Path, tmp_path: Path) -> None:
    table = tiny_questions.write_table(tmp_path / "table.csv")
    recipe = tiny_questions.table_recipe(tiny_llama, table)
    result = tune_run(recipe, tmp_path / "tune", space_of(recipe, None), trials=2)
    assert [trial.state for trial in result.trials] == ["complete"] * 2
    assert all(trial.log_loss and 0 <= (trial.metric or 0) <= 1 for trial in result.trials)
    tuned = load_recipe(str(tmp_path / "tune" / "tiny-tuned.yaml"))
    assert tuned.task.questions == recipe.task.questions


def test_folders_and_settings_that_are_refused(whole: Path, tiny_llama: Path, source: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_llama, source)
    space = space_of(recipe, epochs=(1, 2), ranks=(2, 4))
    with pytest.raises(RunError, match="already holds a search; --resume continues it, --overwrite starts again"):
        tune_run(recipe, whole, space)
    with pytest.raises(RunError, match=r"holds another search.*different: the ranges \(learning rate 1e-06 to 0\.1"):
        tune_run(recipe, whole, space_of(recipe), existing="resume", trials=9)
    with pytest.raises(RunError, match=r"different: train\.seed; repeat the earlier ones, or use"):
        tune_run(recipe_for(tiny_llama, source, seed=7), whole, space, existing="resume", trials=9)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="exists and is no tune folder; name another with --out"):
        tune_run(recipe, tmp_path, space, existing="overwrite")
    with pytest.raises(RunError, match="--minutes 0: must be above 0"):
        tune_run(recipe, tmp_path / "none", space, minutes=0)
    with pytest.raises(RunError, match="--trials 1: the first trial is the recipe as it is, so give 2 or more"):
        tune_run(recipe, tmp_path / "none", space, trials=1)
    without = finished_runs.recipe_for(
        tiny_llama, source, data={"validation_rows": None, "test_rows": 10}, train={"eval_steps": None}
    )
    with pytest.raises(DataError, match=r"has no validation split to judge settings on; set data\.validation_rows"):
        tune_run(without, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_changed_data_and_a_damaged_journal_are_refused(whole: Path, tiny_llama: Path, tmp_path: Path) -> None:
    path = shutil.copytree(whole, tmp_path / "tune")
    plan = json.loads((path / "plan.json").read_text(encoding="utf-8"))
    recipe = TuneFolder(path).read_plan().recipe
    space = TuneFolder(path).read_plan().space
    assert conflicting_keys(recipe, recipe) == []
    (path / "study.journal").write_text("{}\n{}\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"study\.journal: not readable as a study \(KeyError.*start again with --over"):
        tune_run(recipe, path, space, trials=9, existing="resume")
    (path / "plan.json").write_text(json.dumps(plan | {"validation_fingerprint": "0"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"texts\.csv has changed since the search began; use --overwrite"):
        tune_run(recipe, path, space, trials=9, existing="resume")
    again = tune_run(recipe, path, space, trials=2, existing="overwrite")
    assert timeless(again) == timeless(TuneFolder(whole).read_result())[:2]


def test_without_optuna(tiny_llama: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunError, match=r"^tune: needs optuna; pip install 'whinchat\[tune\]'$"):
        tune_run(recipe_for(tiny_llama, source), tmp_path / "tune")
