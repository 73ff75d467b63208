"""Ctrl-C, SIGTERM and a closed terminal stop a command, and nothing that was computed is lost."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import finished_runs
from tests.helpers.command_line import Whinchat
from whinchat.pipelines.run import train_run
from whinchat.recipe.loader import load_recipe, recipe_to_yaml
from whinchat.training.checkpoints import last_checkpoint
from whinchat.training.stop_signals import on_stop_signal
from whinchat.training.trainer import AnswerTrainer

WEIGHTS = "adapter/adapter_model.safetensors"
STOPS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def recipe_file(folder: Path, model: Path, **train: Any) -> Path:
    """A recipe whose only checkpoint on schedule is the last one."""
    settings = {"max_steps": 12, "save_steps": 1000, "eval_steps": None, "gradient_accumulation_steps": 2, **train}
    source = finished_runs.write_csv(folder / "texts.csv")
    recipe = finished_runs.recipe_for(model, source, adapter={"lora_dropout": 0.2}, train=settings)
    path = folder / "recipe.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    return path


def test_a_stop_signal_amid_training_writes_a_checkpoint(
    whinchat: Whinchat, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three stops at three steps, each resumed: the same weights as in a run without a stop."""
    recipe, path = recipe_file(tmp_path, tiny_llama), tmp_path / "run"
    train_run(load_recipe(str(recipe)), tmp_path / "whole")
    training_step = AnswerTrainer.training_step
    steps = dict(zip((2, 5, 6), STOPS, strict=True))

    def stop(trainer: AnswerTrainer, *args: Any, **kwargs: Any) -> Any:
        if (number := steps.pop(trainer.state.global_step, None)) is not None:
            signal.raise_signal(number)
        return training_step(trainer, *args, **kwargs)

    monkeypatch.setattr(AnswerTrainer, "training_step", stop)
    for step, number in list(steps.items()):
        result = whinchat("train", recipe, "--out", path, "--resume")
        assert result.code == STOPS[number]
        assert "continue with the same command and --resume." in result.err
        assert f"Checkpoint of step {step + 1} saved" in result.err
        assert last_checkpoint(path / "checkpoints") == path / "checkpoints" / f"checkpoint-{step + 1}"
    monkeypatch.setattr(AnswerTrainer, "training_step", training_step)
    assert whinchat("train", recipe, "--out", path, "--resume").code == 0
    assert (path / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_sigterm_ends_a_command_outside_training(whinchat: Whinchat, monkeypatch: pytest.MonkeyPatch) -> None:
    from whinchat.pipelines import run as run_module

    def terminated(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the signal did not stop the command")

    monkeypatch.setattr(run_module, "train_run", terminated)
    handlers = [signal.getsignal(number) for number in STOPS]
    result = whinchat("train", "demo", "--overwrite")
    assert result.code == 143
    assert result.err.endswith("continue with the same command and --resume, without --overwrite.\n")
    assert [signal.getsignal(number) for number in STOPS] == handlers


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(first: signal.Signals) -> None:
    program = (
        "import sys, time\nfrom whinchat.training.stop_signals import on_stop_signal\n"
        "with on_stop_signal(lambda received: print(received.name, flush=True)):\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(first)
    assert process.stdout.readline() == f"{first.name}\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == -signal.SIGTERM


def test_ignored_signals_stay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under ``nohup``."""
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with on_stop_signal(lambda received: pytest.fail(f"{received.name} was handled")):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_a_launcher_that_passes_a_signal_on_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    received: list[signal.Signals] = []
    with on_stop_signal(received.append):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGINT]


@pytest.mark.slow
def test_a_closed_terminal_leaves_a_checkpoint(tiny_llama: Path, tmp_path: Path) -> None:
    """The process writes to a terminal that is gone when the signal comes."""
    recipe, path = recipe_file(tmp_path, tiny_llama, max_steps=100_000), tmp_path / "run"
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    command = [sys.executable, "-m", "whinchat", "train", recipe, "--out", path]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        shown, deadline = b"", time.monotonic() + 120
        while b"loss" not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([ours], [], [], 1)[0]:
                shown = shown[-2000:] + os.read(ours, 2000)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 129
    finally:
        process.kill()
    assert last_checkpoint(path / "checkpoints") is not None


def test_a_stop_that_python_drops_is_tried_again() -> None:
    class Doomed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    stops = []

    def stop(received: signal.Signals) -> None:
        stops.append(received)
        sys.exit(143)

    def wait() -> None:
        Doomed()
        time.sleep(60)

    started = time.monotonic()
    with pytest.raises(SystemExit), on_stop_signal(stop):
        wait()
    assert time.monotonic() - started < 30
    assert stops == [signal.SIGTERM] * 2
