"""Training whose numbers break stops with one error, and what is broken is never saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tests.helpers.tiny_training import make, recipe_for, split
from whinchat.errors import ModelError
from whinchat.training import objective as objective_module
from whinchat.training.checkpoints import checkpoint_step
from whinchat.training.divergence import MOST_SKIPPED, WINDOW, LossWatch
from whinchat.training.trainer import AnswerTrainer


class BreakAt(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Breaks a weight or its gradient at one optimizer step."""

    def __init__(self, what: str, step: int) -> None:
        self.what, self.step = what, step

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == self.step and self.what == "gradient":
            weight = next(weight for weight in model.parameters() if weight.requires_grad)
            weight.register_hook(lambda gradient: gradient * math.inf)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == self.step and self.what == "weight":
            with torch.no_grad():
                next(weight for weight in model.parameters() if weight.requires_grad).fill_(math.nan)


def trainer_that_breaks(model: Path, out: Path, what: str, step: int, **train: Any) -> AnswerTrainer:
    settings = {"per_device_train_batch_size": 2, "save_steps": 1, "max_steps": 60, "save_total_limit": 100, **train}
    return make(recipe_for(model, settings), out, split(40), extra=(BreakAt(what, step),))


def steps_in(folder: Path) -> list[int]:
    return sorted(checkpoint_step(path) for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize("clipping", [1.0, 0.0])
def test_gradients_that_are_not_finite_do_not_reach_the_weights(
    tiny_llama: Path, tmp_path: Path, clipping: float
) -> None:
    trainer = trainer_that_breaks(tiny_llama, tmp_path, "gradient", 3, max_grad_norm=clipping)
    with pytest.raises(ModelError, match=r"^the gradients are not finite numbers after 3 optimizer steps, on") as error:
        trainer.train()
    assert "on training rows " in str(error.value)
    assert f"the last good checkpoint is {tmp_path / 'checkpoint-3'}; set a lower train.learning_rate" in str(
        error.value
    )
    assert all(weight.isfinite().all() for weight in trainer.engine.model.parameters())


def test_weights_that_are_not_finite_are_not_saved(tiny_llama: Path, tmp_path: Path) -> None:
    trainer = trainer_that_breaks(tiny_llama, tmp_path, "weight", 2)
    with pytest.raises(ModelError, match=r"^the weights hold numbers that are not finite \(.*lora_A.*\) after 3 "):
        trainer.train()
    assert steps_in(tmp_path) == [1, 2]


def test_a_loss_that_explodes_ends_training(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the sixth step on, every loss is ten times as large."""
    trainer = trainer_that_breaks(tiny_llama, tmp_path, "nothing", 0)
    row_losses = objective_module.row_losses
    monkeypatch.setattr(
        objective_module,
        "row_losses",
        lambda *arguments: row_losses(*arguments) * (10 if trainer.state.global_step >= 5 else 1),
    )
    with pytest.raises(ModelError, match=r"^the training loss has exploded \(median of 20 steps .*, first") as error:
        trainer.train()
    # Fewer than half of the steps in the window come from before the fault.
    step = trainer.state.global_step
    assert 5 + WINDOW // 2 <= step <= 5 + WINDOW
    assert f"after {step} optimizer steps" in str(error.value)
    good = step - WINDOW
    wanted = f"the last good checkpoint is {tmp_path / f'checkpoint-{good}'};" if good else "no checkpoint was saved"
    assert wanted in str(error.value)


def test_steps_that_float16_skips(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient scaler skips a step or two while it finds its scale, but not many in a row."""
    trainer = trainer_that_breaks(tiny_llama, tmp_path, "nothing", 0)
    skipped = True
    monkeypatch.setattr(
        type(trainer.accelerator), "optimizer_step_was_skipped", property(lambda accelerator: skipped), raising=True
    )
    for _ in range(MOST_SKIPPED - 1):
        trainer.check_step()
    skipped = False
    trainer.check_step()
    skipped = True
    for _ in range(MOST_SKIPPED - 1):
        trainer.check_step()
    with pytest.raises(ModelError, match=r"^the gradients overflowed float16 in 50 steps in a row"):
        trainer.check_step()


@pytest.mark.parametrize(
    ("losses", "explodes"),
    [
        # SmolLM2-135M, choice, 5e-4: a healthy run that begins high.
        ([3.93, 3.5, 3.69, 1.29, 0.92, 1.27, 0.89, 0.84, *[1.1, 0.7, 0.5] * 20], False),
        # A first batch that was easy by chance, and a run that learns nothing.
        ([0.02, *[1.1, 1.3, 0.9] * 20], False),
        # Bad batches, but never most of a window.
        ([1.0, *([9.0] * 9 + [0.9] * 11) * 4], False),
        ([1.0, 0.8, *[11.0] * 40], True),
        ([0.02, *[4.0] * 40], True),
    ],
)
def test_what_counts_as_exploded(losses: list[float], explodes: bool) -> None:
    watch = LossWatch(3)
    assert any(watch.explosion(loss, losses[0]) for loss in losses) is explodes
