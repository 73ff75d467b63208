"""A run that was killed is resumed, and ends with the same bits as an uninterrupted run."""

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
from tests.helpers.command_line import Whinchat
from whinchat.pipelines.run import run, train_run
from whinchat.recipe.loader import load_recipe, recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_folder import RunFolder
from whinchat.training.checkpoints import last_checkpoint

WEIGHTS = "adapter/adapter_model.safetensors"
STEPS = 240


class Command:
    """``whinchat`` in a process of its own. Its output goes to files, because a full pipe would block the process."""

    def __init__(self, *arguments: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        whinchat = [sys.executable, "-c", "from whinchat.cli import main; main()"]
        self.stdout, self.stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [*whinchat, *arguments], env=environment, stdout=self.stdout, stderr=self.stderr
        )

    def finish(self) -> str:
        """Wait for the command, which must succeed, and return its standard output."""
        assert self.process.wait(timeout=300) == 0, self.read(self.stderr)
        return self.read(self.stdout)

    def kill_when(self, ready: Callable[[], bool]) -> None:
        """Send SIGKILL as soon as ``ready`` returns true; the command must still be running then."""
        deadline = time.monotonic() + 300
        while not ready():
            assert self.process.poll() is None, self.read(self.stderr)
            if time.monotonic() > deadline:
                self.process.kill()
                pytest.fail("the command was not ready within 300 seconds")
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


def test_sigkill_and_resume_end_in_the_same_bits(tiny_llama: Path, tmp_path: Path, whinchat: Whinchat) -> None:
    recipe, path = recipe_file(tmp_path, tiny_llama), tmp_path / "run"
    Command("run", recipe, "--out", str(path)).kill_when(lambda: step_in(path) > 0)
    check_unfinished(path)
    before = (path / "before.json").read_bytes()
    whole, _ = train_run(load_recipe(recipe), tmp_path / "whole")
    # The same command with --resume runs in this process, which saves the start of a new process.
    resumed = whinchat("run", recipe, "--out", path, "--resume", "--json")
    assert resumed.code == 0
    output = json.loads(resumed.out)
    assert (path / WEIGHTS).read_bytes() == (whole.path / WEIGHTS).read_bytes()
    assert (path / "before.json").read_bytes() == before
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["resumed_from_step"] >= 20
    assert manifest["train_steps"] == STEPS
    assert output["before"] == json.loads(before)
    assert output["after"] == json.loads((path / "after.json").read_text(encoding="utf-8"))
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
    output = json.loads(Command("train", recipe, "--out", str(path), "--resume", "--json").finish())
    uninterrupted.finish()
    assert output["steps"] == STEPS
    assert (path / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def step_in(path: Path) -> int:
    checkpoint = last_checkpoint(path / "checkpoints")
    return int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0


def check_unfinished(path: Path) -> None:
    assert not (path / "adapter").exists()
    assert not (path / "manifest.json").exists()
    assert 0 < step_in(path) < STEPS


# The learning rate is constant, so that one step too many would change the weights.
CONSTANT = {"lr_scheduler_type": "constant", "max_steps": 12, "save_steps": 5, "eval_steps": None}


@pytest.mark.slow
def test_a_run_killed_while_writing_the_report_keeps_its_results(tiny_llama: Path, tmp_path: Path) -> None:
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
    assert [point.step for point in record.history] == [1, 2, 4, 5, 6, 8, 10, 12]


def test_finished_training_is_not_continued(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, tiny_llama, **CONSTANT))
    folder, _ = train_run(recipe, tmp_path / "run")
    weights, stamp = (folder.path / WEIGHTS).read_bytes(), newest(folder.checkpoints)
    # This is the state of a run that was killed after the last checkpoint and before the adapter was saved.
    shutil.rmtree(folder.adapter)
    _, training = train_run(recipe, tmp_path / "run", "resume")
    assert training.steps == 12
    assert newest(folder.checkpoints) == stamp
    assert (folder.path / WEIGHTS).read_bytes() == weights


def newest(folder: Path) -> int:
    return max(path.stat().st_mtime_ns for path in folder.rglob("*"))


# Each variant saves checkpoints at steps 4, 8 and 12 of 14. An epoch has 7 steps, so some lie within an epoch.
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
    """Copy the run to ``to``, in the state of a run that was killed after ``step``."""
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


def test_early_stopping_keeps_its_count_when_resumed(tiny_llama: Path, tmp_path: Path) -> None:
    # A rate this small changes no answer, so the first evaluation stays the best and patience runs out at step 6.
    stopping = {"early_stopping_patience": 2, "eval_steps": 2, "save_steps": 2, "learning_rate": 1e-9}
    recipe = resumable(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv"), train=stopping)
    _, whole = train_run(recipe, tmp_path / "whole")
    assert whole.steps == 6
    # Resuming a run that stopped early trains nothing more.
    _, again = train_run(recipe, tmp_path / "whole", "resume")
    assert again.steps == 6
    _, training = train_run(recipe, cut_back(tmp_path / "whole", tmp_path / "cut", 4), "resume")
    assert training.steps == 6


def test_a_damaged_checkpoint_is_skipped(tiny_llama: Path, tmp_path: Path) -> None:
    recipe = resumable(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv"))
    train_run(recipe, tmp_path / "whole")
    killed = cut_back(tmp_path / "whole", tmp_path / "torn", 12)
    (killed / "checkpoints" / "checkpoint-12" / "trainer_state.json").unlink()
    (killed / "checkpoints" / "checkpoint-8" / "trainer_state.json").write_text('{"epoch": 1.', encoding="utf-8")
    _, training = train_run(recipe, killed, "resume")
    assert training.resumed_from_step == 4
    assert (killed / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_the_evaluation_before_training_runs_once(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, path = resumable(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv")), tmp_path / "run"
    measured: list[str] = []

    from whinchat.pipelines import run as module

    real = module.evaluate

    def recorded_evaluate(engine: Any, split: Any, settings: Any, when: Any) -> Any:
        measured.append(when)
        if when == "after" and measured.count("after") == 1:
            raise KeyboardInterrupt
        return real(engine, split, settings, when)

    monkeypatch.setattr(module, "evaluate", recorded_evaluate)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, path)
    content = (path / "before.json").read_bytes()
    record = run(recipe, path, "resume")
    assert measured == ["before", "after", "after"]
    assert (path / "before.json").read_bytes() == content
    assert record.before == RunFolder(path).read().before


def test_a_moved_run_folder_keeps_its_best_checkpoint(
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


def test_the_run_folder_stores_its_recipe(tiny_llama: Path, tmp_path: Path) -> None:
    path = recipe_file(tmp_path, tiny_llama, max_steps=2)
    folder, _ = train_run(load_recipe(path, ["train.seed=5"]), tmp_path / "run")
    assert yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))["train"]["seed"] == 5
    # The run folder can now be given instead of the recipe.
    train_run(load_recipe(str(tmp_path / "run")), tmp_path / "run", "resume")
