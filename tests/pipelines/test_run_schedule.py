"""A run logs its stages and their estimated times, and corrects the estimates as it goes."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from tests.helpers import finished_runs
from whinchat import progress
from whinchat.pipelines.run import run
from whinchat.pipelines.run_schedule import EstimateBasis, PlannedStage, RunSchedule, training_steps
from whinchat.storage.predictions import read_predictions
from whinchat.storage.run_folder import RunFolder


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(progress.logger, "propagate", True)
    monkeypatch.setattr(progress.logger, "handlers", [])
    caplog.set_level(logging.INFO, "whinchat.progress")
    return caplog


def test_a_run_logs_its_stages_and_their_times(
    tiny_llama: Path, tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    source, dropout = finished_runs.write_csv(tmp_path / "texts.csv"), {"lora_dropout": 0.1}
    recipe = finished_runs.recipe_for(tiny_llama, source, adapter=dropout, evaluate={"generation_rows": 6})
    record = run(recipe, tmp_path / "run")
    lines = logged.messages
    plan = lines.index("This run will")
    assert lines[0] == "Load data and model ..."
    assert re.fullmatch(r"Load data and model: done in \d+ s", lines[plan - 1])
    assert re.fullmatch(
        r"  1\. evaluate the untrained model on 24 validation texts by label scores and by free generation of 6 of "
        r"them \(about \d+ s\)",
        lines[plan + 1],
    )
    assert "train a LoRA adapter on 56 texts, 8 steps" in lines[plan + 2]
    assert re.fullmatch(
        r"About \d+ s in all on this machine, with \d\.\d GB of memory, estimated from 32 texts and 3 training batches",
        lines[plan + 6],
    )
    ends = [line for line in lines if ": done in" in line]
    assert [line.split()[0] for line in ends] == ["Load", "Evaluate", "Train", "Evaluate", "Calibrate", "Write"]
    # The measured sample changes no result: a run without log lines gives the same adapter and metrics.
    logged.set_level(logging.WARNING, "whinchat.progress")
    silent = run(recipe, tmp_path / "silent")
    assert finished_runs.timeless(record.after.score.__dict__) == finished_runs.timeless(silent.after.score.__dict__)
    sizes = {test.mode: test.n for test in record.paired}
    assert sizes == {"calibrated": 24, "score": 24, "generate": 6, "generate_first_word": 6}
    quiet, loud = RunFolder(tmp_path / "silent"), RunFolder(tmp_path / "run")
    assert quiet.predictions.read_bytes() == loud.predictions.read_bytes()
    assert loud.read().after == record.after
    after = read_predictions(loud.predictions).after
    answered = [row for row, prediction in enumerate(after) if prediction.generated is not None]
    assert len(answered) == sum(prediction.generated_label is not None for prediction in after) == 6
    assert all(sample.after is not None for sample in record.samples[:3])
    weights = "adapter_model.safetensors"
    assert (quiet.adapter / weights).read_bytes() == (loud.adapter / weights).read_bytes()


def test_the_evaluation_before_training_corrects_the_one_after_it(logged: pytest.LogCaptureFixture) -> None:
    schedule = RunSchedule()
    planned = (("before", 100.0), ("train", 60.0), ("after", 100.0))
    schedule.plan([PlannedStage(name, name, seconds) for name, seconds in planned], EstimateBasis(8))
    with schedule.stage("before"):
        pass
    assert schedule.seconds["before"] < 0.5
    assert logged.messages[-1] == "About 1 min 00 s left"


@pytest.mark.parametrize("train", [{"num_train_epochs": 1.5}, {"gradient_accumulation_steps": 3}, {"max_steps": 5}])
def test_the_estimated_steps_equal_the_steps_of_training(
    tiny_llama: Path, tmp_path: Path, train: dict[str, float]
) -> None:
    settings = {"max_steps": -1, "eval_steps": None, "num_train_epochs": 1.0, "per_device_train_batch_size": 8} | train
    source = finished_runs.write_csv(tmp_path / "texts.csv", rows=70)
    recipe = finished_runs.recipe_for(
        tiny_llama, source, train=settings, evaluate={"generate": False, "stress_rows": 0}
    )
    record = run(recipe, tmp_path / "run")
    assert record.manifest.train_steps == training_steps(recipe, record.manifest.splits["train"].rows)
