"""Trackers with their real libraries get what the run folder holds, also for a run that was killed and resumed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback

from tests.helpers import finished_runs
from whinchat.errors import RecipeError
from whinchat.pipelines.run import run, train_run
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_record import RunRecord
from whinchat.storage.training_result import TrainPoint
from whinchat.training.train import callbacks

STEPS = 8
Logged = dict[str, dict[int, float]]


def recipe_for(model: Path, folder: Path, *trackers: str) -> Recipe:
    folder.mkdir(exist_ok=True)
    settings = {"max_steps": STEPS, "save_steps": 4, "eval_steps": 4, "logging_steps": 1, "report_to": trackers}
    return finished_runs.recipe_for(model, finished_runs.write_csv(folder / "texts.csv", rows=60), train=settings)


def of_history(points: tuple[TrainPoint, ...]) -> Logged:
    names = ("loss", "learning_rate", "eval_macro_f1")
    return {name: {one.step: value for one in points if (value := getattr(one, name)) is not None} for name in names}


def of_tensorboard(folder: Path) -> Logged:
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = {"loss": "train/loss", "learning_rate": "train/learning_rate", "eval_macro_f1": "eval/macro_f1"}
    logged: Logged = {}
    for name, tag in tags.items():
        scalars = events.Scalars(tag)
        logged[name] = {one.step: one.value for one in scalars}
        assert len(logged[name]) == len(scalars), "a step was logged twice"
    return logged


def of_mlflow(run_id: str) -> Logged:
    client = MlflowClient()
    names = ("loss", "learning_rate", "eval_macro_f1")
    return {name: {one.step: one.value for one in client.get_metric_history(run_id, name)} for name in names}


def headline(record: RunRecord) -> dict[str, float]:
    """The figures that trackers have at the end."""
    assert record.after.generate is not None
    assert record.reliability is not None
    return {
        "before_macro_f1": record.before.score.macro_f1,
        "after_macro_f1": record.after.score.macro_f1,
        "after_generated_accuracy": record.after.generate.accuracy,
        "calibrated_macro_recall": record.reliability.calibrated.macro_recall,
    }


def check_headline(folder: Path, record: RunRecord) -> None:
    events = EventAccumulator(str(folder))
    events.Reload()
    for name, value in headline(record).items():
        (scalar,) = events.Scalars(f"eval/{name}")
        assert scalar.step == STEPS
        assert scalar.value == pytest.approx(value, rel=1e-5), name


def steps(logged: Logged, first: int, last: int) -> Logged:
    """The figures logged for the steps from ``first`` to ``last``."""
    return {name: {at: one for at, one in values.items() if first <= at <= last} for name, values in logged.items()}


def check(logged: Logged, expected: Logged) -> None:
    for name, values in expected.items():
        assert logged[name] == pytest.approx(values, rel=1e-5), name


class Kill(TrainerCallback):  # type: ignore[misc]
    """Ends the process's training between two checkpoints."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 7:
            raise KeyboardInterrupt


def train_killed(recipe: Recipe, folder: Path, patch: pytest.MonkeyPatch) -> None:
    with patch.context() as here:
        here.setattr("whinchat.training.train.callbacks", lambda train: [*callbacks(train), Kill()])
        with pytest.raises(KeyboardInterrupt):
            train_run(recipe, folder)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database without an experiment of ours; MLflow takes seconds to make its tables."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracking(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An MLflow of this test's own."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "words")
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.end_run()
    mlflow.set_tracking_uri(None)


def test_tensorboard_of_a_killed_run(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, path = recipe_for(tiny_llama, tmp_path, "tensorboard"), tmp_path / "run"
    train_killed(recipe, path, monkeypatch)
    folder, training = train_run(recipe, path, "resume")
    assert training.resumed_from_step == 4
    expected = of_history(training.history)
    assert set(expected["loss"]) == set(range(1, STEPS + 1))
    assert set(expected["eval_macro_f1"]) == {4, 8}
    check(of_tensorboard(folder.trackers / "tensorboard"), expected)


def test_tensorboard_where_the_user_wants_it(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    folder, training = train_run(recipe_for(tiny_llama, tmp_path, "tensorboard"), tmp_path / "run")
    check(of_tensorboard(tmp_path / "logs"), of_history(training.history))
    assert not folder.trackers.exists()


@pytest.mark.usefixtures("tracking")
def test_mlflow_also_of_a_killed_run(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, path = recipe_for(tiny_llama, tmp_path, "mlflow", "tensorboard"), tmp_path / "run"
    train_killed(recipe, path, monkeypatch)
    mlflow.end_run("KILLED")  # as the end of its process would
    folder, training = train_run(recipe, path, "resume")
    expected = of_history(training.history)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("words")
    assert experiment is not None
    second, first = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    assert {one.info.run_name for one in (first, second)} == {recipe.name}
    # Each process is a run of its own there; the second goes on where the checkpoint was.
    check(steps(of_mlflow(first.info.run_id), 1, 4), steps(expected, 1, 4))
    check(of_mlflow(second.info.run_id), steps(expected, 5, STEPS))
    assert second.info.status == "FINISHED"
    assert second.data.params["learning_rate"] == str(recipe.train.learning_rate)
    check(of_tensorboard(folder.trackers / "tensorboard"), expected)


@pytest.mark.usefixtures("tracking")
def test_the_figures_of_the_whole_run(tiny_llama: Path, tmp_path: Path) -> None:
    record = run(recipe_for(tiny_llama, tmp_path, "mlflow", "tensorboard"), tmp_path / "run")
    check_headline(tmp_path / "run" / "trackers" / "tensorboard", record)
    logged = mlflow.last_active_run()
    assert logged is not None
    assert logged.info.status == "FINISHED"
    expected = {f"eval_{name}": value for name, value in headline(record).items()}
    assert {name: logged.data.metrics[name] for name in expected} == pytest.approx(expected)


def test_figures_of_a_run_that_was_killed_after_training(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    recipe, path = recipe_for(tiny_llama, tmp_path, "tensorboard"), tmp_path / "run"
    with monkeypatch.context() as here:
        here.setattr("whinchat.pipelines.run.calibrate_and_analyze", killed)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, path)
    record = run(recipe, path, "resume")
    check_headline(path / "trackers" / "tensorboard", record)
    check(of_tensorboard(path / "trackers" / "tensorboard"), of_history(record.history))


@pytest.mark.usefixtures("tracking")
def test_a_server_that_does_not_answer(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, path = recipe_for(tiny_llama, tmp_path, "mlflow"), tmp_path / "run"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    with pytest.raises(RecipeError, match=r"^train\.report_to: mlflow cannot start \(.*refused.*\); repair .*=none$"):
        train_run(recipe, path)
    silent = recipe.model_copy(update={"train": recipe.train.model_copy(update={"report_to": ()})})
    _, training = train_run(silent, path, "resume")
    assert training.steps == STEPS


@pytest.mark.usefixtures("tracking")
def test_a_tracker_that_fails_does_not_end_the_run(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(mlflow, "log_metrics", fail)
    record = run(recipe_for(tiny_llama, tmp_path, "mlflow"), tmp_path / "run")
    assert record.history[-1].step == STEPS
    # Once: it is left out, and not begun again for the last figures.
    (said,) = [one for one in caplog.messages if one.startswith("train.report_to")]
    assert said == "train.report_to: mlflow failed and gets no further figures (ConnectionError: gone); the run goes on"


def test_trackers_are_no_other_recipe(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, path = recipe_for(tiny_llama, tmp_path), tmp_path / "run"
    train_killed(silent, path, monkeypatch)
    logged = silent.model_copy(update={"train": silent.train.model_copy(update={"report_to": ("tensorboard",)})})
    folder, training = train_run(logged, path, "resume")
    expected = steps(of_history(training.history), 5, STEPS)
    check(of_tensorboard(folder.trackers / "tensorboard"), expected)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed(tiny_llama: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=rf"train\.report_to: {name} cannot be used .*needs the package {name}"):
        train_run(recipe_for(tiny_llama, tmp_path, name), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("given", "meant"), [("mlflow", ("mlflow",)), ("none", ()), (["none"], ()), ([], ())])
def test_one_or_none(tiny_llama: Path, given: Any, meant: tuple[str, ...]) -> None:
    assert finished_runs.recipe_for(tiny_llama, Path("x"), train={"report_to": given}).train.report_to == meant
