"""Training cases that several processes and one process can run alike: gradients, weights and log of each.

``python -m tests.helpers.train_together MODEL OUT ARGUMENTS``, started by ``accelerate launch``, trains all cases in
turn, and process 0 writes what it found to OUT; then every process runs ``whinchat ARGUMENTS``, which saves the start
of two more processes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from tests.helpers import tiny_models, tiny_questions
from whinchat import cli
from whinchat.data.dataset import Split
from whinchat.models.adapters import attach_adapter
from whinchat.models.forward import Engine
from whinchat.training import distributed
from whinchat.training.launch import process_rank, world_size
from whinchat.training.trainer import AnswerTrainer, training_arguments


@dataclass(frozen=True)
class Case:
    """A way to train.

    Attributes:
        loss: ``train.loss``, or "questions" for a task with questions.
        method: ``adapter.method``.
        attention: ``backbone.attn_implementation``: eager for the packed way, sdpa for the plain way.
        unused: give the adapter one more weight, which the forward pass does not use.
    """

    loss: str
    method: str
    attention: str
    unused: bool = False


# Every loss and every method both ways. What a method does with a loss is the same in one process.
CASES = [
    Case("completion", "lora", "eager"),
    Case("completion", "dora", "sdpa"),
    Case("choice", "dora", "eager"),
    Case("choice", "lora", "sdpa"),
    Case("full", "lora", "eager"),
    Case("full", "dora", "sdpa"),
    Case("questions", "lora", "eager"),
    Case("questions", "dora", "sdpa"),
    *(Case("completion", "lora", attention, unused=True) for attention in ("eager", "sdpa")),
]
RESUMED = [Case("choice", "dora", "eager"), Case("choice", "lora", "sdpa")]

# In batches of 4, the last batch holds three rows: two for one process and one for the other.
ROWS = 19
BATCH = 4


class KilledError(Exception):
    """Takes the place of a signal."""


class KillAt(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """End training at the beginning of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KilledError


class Gradients(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Keep the gradients of every optimizer step; clipping comes before this, so the cases turn clipping off."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        trained = {name.removeprefix("module."): one for name, one in model.named_parameters() if one.requires_grad}
        self.steps.append({name: one.grad.clone() for name, one in trained.items() if one.grad is not None})


def make_trainer(case: Case, model: Path, out: Path, *callbacks: Any) -> AnswerTrainer:
    """Return the trainer of ``case``; the processes share batches of ``BATCH`` rows."""
    labels = tiny_models.NESTED
    asks_questions = case.loss == "questions"
    sections: dict[str, Any] = {
        "backbone": {"attn_implementation": case.attention},
        "adapter": {"method": case.method},
        "train": {
            "loss": "choice" if asks_questions else case.loss,
            "class_weights": "balanced",
            "learning_rate": 1e-2,
            "num_train_epochs": 1,
            "per_device_train_batch_size": BATCH // world_size(),
            "gradient_accumulation_steps": 2,
            "max_grad_norm": 0,
            "logging_steps": 1,
            "save_steps": 2,
        },
    }
    if asks_questions:
        recipe = tiny_questions.recipe_for(model, **sections)
        rows = tiny_questions.rows_of(recipe, ROWS)
    else:
        recipe = tiny_models.tiny_recipe(model, task={"labels": labels}, **sections)
        rows = Split("train", *tiny_models.toy_rows(ROWS, labels))
    backbone = tiny_models.load(model, attn_implementation=case.attention)
    tuned = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
    if case.unused:
        backbone.model.lora_unused = nn.Parameter(torch.zeros(3))
    tiny_models.stir(tuned)
    engine = (
        Engine.build(tuned, backbone.plan, backbone.tokenizer.template(recipe))
        if asks_questions
        else tiny_models.engine_of(backbone, labels, tuned)
    )
    arguments = training_arguments(recipe, engine.plan, out)
    return AnswerTrainer(engine, recipe, rows, None, args=arguments, callbacks=list(callbacks))


def train_case(case: Case, model: Path, out: Path) -> dict[str, Any]:
    """Train ``case`` and return the gradients of each step, the weights at the end, and the logged losses."""
    gradients = Gradients()
    trainer = make_trainer(case, model, out, gradients)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"gradients": gradients.steps, "weights": weights_of(trainer), "losses": losses}


def resume_case(case: Case, model: Path, out: Path) -> dict[str, Tensor]:
    """Train ``case``, killed in the middle and resumed from its checkpoint, and return the weights at the end."""
    try:
        make_trainer(case, model, out, KillAt(2)).train()
    except KilledError:
        distributed.wait_for_everyone()
    torch.manual_seed(999)
    trainer = make_trainer(case, model, out)
    trainer.train(resume_from_checkpoint=str(out / "checkpoint-2"))
    return weights_of(trainer)


def weights_of(trainer: AnswerTrainer) -> dict[str, Tensor]:
    """Return a copy of the adapter's weights."""
    named = trainer.engine.model.named_parameters()
    return {name: weight.detach().clone() for name, weight in named if weight.requires_grad}


def main(model: Path, out: Path, arguments: list[str]) -> None:
    """Train all cases, write the results to ``out``, and run ``whinchat ARGUMENTS``."""
    torch.set_num_threads(1)
    distributed.init_processes("cpu")
    checkpoints = out.with_name("together")
    found: dict[str, Any] = {
        "trained": [train_case(case, model, checkpoints / f"case-{at}") for at, case in enumerate(CASES)],
        "resumed": [resume_case(case, model, checkpoints / f"resumed-{at}") for at, case in enumerate(RESUMED)],
    }
    if process_rank() == 0:
        torch.save(found, out)
    distributed.wait_for_everyone()
    sys.argv = ["whinchat", *arguments]
    cli.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
