"""Several processes that train together find what one finds alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import finished_runs, plain_forward, train_together
from tests.helpers.command_line import Whinchat
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError
from whinchat.pipelines.run import run, train_run
from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.schema import Recipe
from whinchat.storage.run_folder import RunFolder
from whinchat.training.prepare import prepare_training

# The recipe that both processes train: the plain way, weighted labels, batches in pairs.
TRAIN: dict[str, Any] = {
    "attention": "sdpa", "loss": "completion", "class_weights": "balanced", "gradient_accumulation_steps": 2,
}  # fmt: skip


def history(folder: Path) -> list[dict[str, Any]]:
    """What the last checkpoint has logged, without clock times."""
    last = max((folder / "checkpoints").iterdir(), key=lambda one: int(one.name.rsplit("-", 1)[-1]))
    log = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [{key: value for key, value in entry.items() if not key.endswith("runtime")} for entry in log]


def recipe_of(model: Path, source: Path, batch: int, attention: str = "eager", **train: Any) -> Recipe:
    settings = {"max_steps": -1, "num_train_epochs": 2, "logging_steps": 1, "per_device_train_batch_size": batch}
    backbone = {"attn_implementation": attention}
    return finished_runs.recipe_for(model, source, backbone=backbone, train=settings | train)


@dataclass(frozen=True)
class Together:
    """What two processes did.

    Attributes:
        found: what ``train_together`` found.
        run: the run folder of ``whinchat train``, a command that both processes ran.
        printed: standard output of both processes.
    """

    found: dict[str, Any]
    run: Path
    printed: str


@pytest.fixture(scope="module")
def together(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Together:
    """Train every case, and then a recipe, in two processes."""
    folder = tmp_path_factory.mktemp("together")
    # 59 rows to train on: the last batch of 8 holds three, two for one process and one for the other.
    source = finished_runs.write_csv(folder / "texts.csv", rows=83)
    (folder / "mine.yaml").write_text(recipe_to_yaml(recipe_of(tiny_llama, source, 4, **TRAIN)), encoding="utf-8")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    program = ["-m", "tests.helpers.train_together", tiny_llama, folder / "found.pt"]
    command = ["train", folder / "mine.yaml", "--out", folder / "run", "--json"]
    done = subprocess.run([*launch, *program, *command], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return Together(torch.load(folder / "found.pt"), folder / "run", done.stdout)


def test_gradients_weights_and_resumed_runs_of_two_processes(
    together: Together, tiny_llama: Path, tmp_path: Path
) -> None:
    """Both ways of the forward pass, both adapters, every loss; batches of unlike size, accumulated in pairs."""
    found = together.found
    cases = train_together.CASES
    for at, (case, shared) in enumerate(zip(cases, found["trained"], strict=True)):
        alone = train_together.train_case(case, tiny_llama, tmp_path / f"alone-{at}")
        assert len(shared["gradients"]) == len(alone["gradients"]) == 3
        for ours, wanted in zip(shared["gradients"], alone["gradients"], strict=True):
            plain_forward.assert_same_gradients(ours, wanted)
        assert any("unused" in name for name in alone["weights"]) == case.unused
        torch.testing.assert_close(shared["weights"], alone["weights"], rtol=0, atol=1e-5)
        assert shared["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    for case, weights in zip(train_together.RESUMED, found["resumed"], strict=True):
        whole = found["trained"][cases.index(case)]["weights"]
        assert all(torch.equal(weights[name], whole[name]) for name in whole), case


def test_two_processes_train_as_one_does(together: Together, tiny_llama: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    _, training = train_run(recipe_of(tiny_llama, together.run.parent / "texts.csv", 8, **TRAIN), alone)
    # Standard output is one JSON document: the second process says nothing.
    assert json.loads(together.printed)["steps"] == training.steps
    ours, theirs = history(together.run), history(alone)
    assert len(ours) == len(theirs) > 8
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    weights, expected = (load_file(path / "adapter" / "adapter_model.safetensors") for path in (together.run, alone))
    torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-5)
    # What they trained, one process measures.
    record = run(RunFolder(together.run).read_recipe(), together.run, "resume")
    assert record.after.score.n > 0


def test_more_processes_than_rows(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(tiny_llama, finished_runs.write_csv(tmp_path / "texts.csv", rows=30), 4)
    monkeypatch.setenv("WORLD_SIZE", "7")
    with pytest.raises(DataError, match=r"texts\.csv: has fewer training rows \(6\) than training processes \(7\)"):
        prepare_training(recipe, load_corpus(recipe))


def test_the_other_commands_run_in_one_process(
    whinchat: Whinchat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = whinchat("run", "demo", "--out", tmp_path / "run")
    assert refused.code == 2
    assert "only `whinchat train` runs in several processes" in refused.err
    assert not (tmp_path / "run").exists()
