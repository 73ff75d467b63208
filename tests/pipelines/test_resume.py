"""A killed run goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import yaml
from safetensors.torch import load_file

from tests.helpers import finished_runs
from whinchat.cli import main
from whinchat.pipelines.run import run, train_run
from whinchat.recipe.loader import load_recipe, recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_folder import RunFolder
from whinchat.training.checkpoints import last_checkpoint

WEIGHTS = "adapter/adapter_model.safetensors"
STEPS = 240


class Command:
    """The real ``whinchat``, in a process of its own; what it says goes to files, for a full pipe would stop it."""

    def __init__(self, *arguments: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        whinchat = [sys.executable, "-c", "from whinchat.cli import main; main()"]
        self.said, self.complaints = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*whinchat, *arguments], env=environment, stdout=self.said, stderr=self.complaints
        )

    def finish(self) -> str:
        """Wait for the command, which must succeed; what it printed on standard output."""
        assert self.process.wait(timeout=300) == 0, self.read(self.complaints)
        return self.read(self.said)

    def kill_when(self, ready: Callable[[], bool]) -> None:
        """SIGKILL, as soon as ``ready``; the command must still be at work then."""
        patience = time.monotonic() + 300
        while not ready():
            assert self.process.poll() is None, self.read(self.complaints)
            if time.monotonic() > patience:
                self.process.kill()
                pytest.fail("it never came so far")
            time.sleep(0.005)
        self.process.kill()
        assert self.process.wait(timeout=60) == -signal.SIGKILL

    @staticmethod
    def read(file: IO[bytes]) -> str:
        file.seek(0)
        return file.read().decode()


def recipe_file(folder: Path, model: Path, **train: Any) -> str:
    settings = {"max_steps": STEPS, "save_steps": 20, "eval_steps": None, "learning_rate": 5e-3, **train}
    source = finished_runs.write_csv(folder / "texts.csv")
    recipe = finished_runs.recipe_for(model, source, adapter={"lora_dropout": 0.2}, train=settings)
    path = folder / "recipe.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    return str(path)


def test_sigkill_and_resume_end_in_the_same_bits(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, path = recipe_file(tmp_path, tiny_llama), tmp_path / "run"
    Command("run", recipe, "--out", str(path)).kill_when(lambda: step_in(path) > 0)
    check_unfinished(path)
    before = (path / "before.json").read_bytes()
    whole, _ = train_run(load_recipe(recipe), tmp_path / "whole")
    capsys.readouterr()
    # The same command again, in this process to save its start.
    monkeypatch.setattr(sys, "argv", ["whinchat", "run", recipe, "--out", str(path), "--resume", "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert (path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()
    assert (path / "before.json").read_bytes() == before
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["resumed_from_step"] >= 20
    assert manifest["train_steps"] == STEPS
    assert said["before"] == json.loads(before)
    assert said["after"] == json.loads((path / "after.json").read_text(encoding="utf-8"))
    assert not (path / "checkpoints").exists()
    assert not (path / "before.parquet").exists()


@pytest.mark.slow
def test_train_alone_survives_sigkill_twice(tiny_mistral: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, tiny_mistral)
    whole, path = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = Command("train", recipe, "--out", str(whole))
    Command("train", recipe, "--out", str(path)).kill_when(lambda: step_in(path) > 0)
    first = step_in(path)
    Command("train", recipe, "--out", str(path), "--resume").kill_when(lambda: step_in(path) > first)
    check_unfinished(path)
    said = json.loads(Command("train", recipe, "--out", str(path), "--resume", "--json").finish())
    uninterrupted.finish()
    assert said["steps"] == STEPS
    assert (path / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def step_in(path: Path) -> int:
    checkpoint = last_checkpoint(path / "checkpoints")
    return int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0


def check_unfinished(path: Path) -> None:
    assert not (path / "adapter").exists()
    assert not (path / "manifest.json").exists()
    assert 0 < step_in(path) < STEPS


# A constant rate, so that one step too many would show in the weights.
CONSTANT = {"lr_scheduler_type": "constant", "max_steps": 12, "save_steps": 5, "eval_steps": None}


@pytest.mark.slow
def test_a_kill_while_publishing_loses_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    recipe, path = recipe_file(tmp_path, tiny_llama, **CONSTANT), tmp_path / "run"
    Command("run", recipe, "--out", str(path)).kill_when((path / "figures").is_dir)
    assert not (path / "manifest.json").exists()
    check_measured_without_training(path)


def test_run_measures_what_train_trained(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, tiny_llama, **CONSTANT)
    train_run(load_recipe(recipe), tmp_path / "run")
    check_measured_without_training(tmp_path / "run")
    assert (tmp_path / "run" / "before.json").is_file()


def check_measured_without_training(path: Path) -> None:
    weights = (path / WEIGHTS).read_bytes()
    record = run(RunFolder(path).read_recipe(), path, "resume")
    assert (path / WEIGHTS).read_bytes() == weights
    assert record.manifest.resumed_from_step == record.manifest.train_steps == 12
    assert record.manifest.train_examples_per_second is None
    assert [point.step for point in record.history] == [1, 2, 4, 6, 8, 10, 12]


def test_training_that_is_over_is_not_taken_up(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, tiny_llama, **CONSTANT))
    folder, _ = train_run(recipe, tmp_path / "run")
    weights, stamp = (folder.path / WEIGHTS).read_bytes(), newest(folder.checkpoints)
    # Killed after the last checkpoint and before the adapter was saved.
    shutil.rmtree(folder.adapter)
    _, training = train_run(recipe, tmp_path / "run", "resume")
    assert training.steps == 12
    assert newest(folder.checkpoints) == stamp
    assert (folder.path / WEIGHTS).read_bytes() == weights


def newest(folder: Path) -> int:
    return max(path.stat().st_mtime_ns for path in folder.rglob("*"))


# Each leaves checkpoints at 4, 8 and 12 of 14 steps, some of them in the middle of an epoch of 7.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "accumulated": {"train": {"gradient_accumulation_steps": 2, "lr_scheduler_type": "cosine"}},
    "choice": {"train": {"loss": "choice", "class_weights": "balanced"}},
    "dora": {"adapter": {"method": "dora", "init": "pissa"}},
    "nf4": {"backbone": {"load_in": "nf4"}},
    "best": {"train": {"keep": "best", "eval_steps": 4}},
}


def resumable(model: Path, source: Path, **sections: dict[str, Any]) -> Recipe:
    train = {
        "max_steps": 14, "per_device_train_batch_size": 8, "save_steps": 4, "save_total_limit": 9, "eval_steps": None,
        "learning_rate": 1e-2,
    }  # fmt: skip
    sections = {"adapter": {}, "backbone": {}, "train": {}, **sections}
    return finished_runs.recipe_for(
        model,
        source,
        adapter={"lora_dropout": 0.2, **sections["adapter"]},
        backbone=sections["backbone"],
        train=train | sections["train"],
    )


def cut_back(path: Path, to: Path, step: int) -> Path:
    """A copy of the run as a kill after ``step`` leaves it."""
    shutil.copytree(path, to)
    shutil.rmtree(to / "adapter")
    for checkpoint in (to / "checkpoints").iterdir():
        if int(checkpoint.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(checkpoint)
        state = checkpoint / "trainer_state.json"
        if state.is_file():
            state.write_text(state.read_text(encoding="utf-8").replace(str(path), str(to)), encoding="utf-8")
    return to


@pytest.mark.parametrize("sections", VARIANTS.values(), ids=VARIANTS.keys())
def test_resumed_training_is_bit_identical(
    tiny_llama_wide: Path, tmp_path: Path, sections: dict[str, dict[str, Any]]
) -> None:
    recipe = resumable(tiny_llama_wide, finished_runs.write_csv(tmp_path / "texts.csv"), **sections)
    _, whole = train_run(recipe, tmp_path / "whole")
    for step in (4, 8):
        killed = cut_back(tmp_path / "whole", tmp_path / f"from-{step}", step)
        _, training = train_run(recipe, killed, "resume")
        assert training.resumed_from_step == step
        assert training.steps == whole.steps == 14
        assert training.history == whole.history
        assert (killed / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_early_stopping_counts_on_after_a_kill(tiny_llama: Path, tmp_path: Path) -> None:
    # A rate this small changes no answer, so the first evaluation stays the best and patience runs out at step 6.
    stopping = {"early_stopping_patience": 2, "eval_steps": 2, "save_steps": 2, "learning_rate": 1e-9}
    recipe = resumable(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv"), train=stopping)
    _, whole = train_run(recipe, tmp_path / "whole")
    assert whole.steps == 6
    # Stopped is stopped: nothing more is trained once it is done.
    _, again = train_run(recipe, tmp_path / "whole", "resume")
    assert again.steps == 6
    _, training = train_run(recipe, cut_back(tmp_path / "whole", tmp_path / "cut", 4), "resume")
    assert training.steps == 6


def test_a_torn_checkpoint_is_passed_over(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = resumable(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv"))
    train_run(recipe, tmp_path / "whole")
    killed = cut_back(tmp_path / "whole", tmp_path / "torn", 12)
    (killed / "checkpoints" / "checkpoint-12" / "trainer_state.json").unlink()
    (killed / "checkpoints" / "checkpoint-8" / "trainer_state.json").write_text('{"epoch": 1.', encoding="utf-8")
    _, training = train_run(recipe, killed, "resume")
    assert training.resumed_from_step == 4
    assert (killed / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_before_is_measured_once(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, path = resumable(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv")), tmp_path / "run"
    measured: list[str] = []

    from whinchat.pipelines import run as module

    real = module.evaluate

    def watched(engine: Any, split: Any, settings: Any, when: Any) -> Any:
        measured.append(when)
        if when == "after" and measured.count("after") == 1:
            raise KeyboardInterrupt
        return real(engine, split, settings, when)

    monkeypatch.setattr(module, "evaluate", watched)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, path)
    content = (path / "before.json").read_bytes()
    record = run(recipe, path, "resume")
    assert measured == ["before", "after", "after"]
    assert (path / "before.json").read_bytes() == content
    assert record.before == RunFolder(path).read().before


def test_a_run_keeps_its_best_wherever_its_folder_goes(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = resumable(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv"), **VARIANTS["best"])
    monkeypatch.chdir(tmp_path)
    train_run(recipe, Path("runs/one"))
    weights = load_file(tmp_path / "runs/one" / WEIGHTS)
    Path("runs").rename("moved")
    monkeypatch.chdir("moved")
    shutil.rmtree("one/adapter")
    train_run(recipe, Path("one"), "resume")
    resumed = load_file(Path("one") / WEIGHTS)
    assert all((weights[name] == resumed[name]).all() for name in weights)


def test_recipe_in_the_folder_is_the_recipe_of_the_run(tiny_llama: Path, tmp_path: Path) -> None:
    path = recipe_file(tmp_path, tiny_llama, max_steps=2)
    folder, _ = train_run(load_recipe(path, ["train.seed=5"]), tmp_path / "run")
    assert yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))["train"]["seed"] == 5
    # The folder itself names the recipe from now on.
    train_run(load_recipe(str(tmp_path / "run")), tmp_path / "run", "resume")
