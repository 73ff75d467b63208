"""Three optimizer steps equal those of TRL's ``SFTTrainer`` with PEFT: losses, gradient norms and weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import plain_forward, tiny_models
from whinchat.data.dataset import Split
from whinchat.models.adapters import attach_adapter
from whinchat.training.losses import IGNORED
from whinchat.training.trainer import AnswerTrainer, training_arguments

pytestmark = pytest.mark.skipif(find_spec("trl") is None, reason="trl is not installed; make bench installs it")

LABELS = tiny_models.NESTED
# One optimizer step an epoch, so that the order of the rows does not matter.
ROWS = Split("train", *tiny_models.toy_rows(8, LABELS, seed=3))
SETTINGS: dict[str, Any] = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
}


def conversational(engine: Any) -> list[dict[str, Any]]:
    """The rows as TRL documents chat data: all turns in one list, whose every token is trained by default."""
    return [
        {"messages": [*engine.template.messages(text), {"role": "assistant", "content": LABELS[label]}]}
        for text, label in zip(ROWS.texts, ROWS.labels, strict=True)
    ]


def tokenized(engine: Any) -> list[dict[str, Any]]:
    """The rows as token ids, of which the answer and the end of turn are trained."""
    rows = []
    for prompt, label in zip(engine.template.encode(ROWS.texts), ROWS.labels, strict=True):
        answer = [*engine.template.answers[label], engine.template.end_of_turn]
        rows.append({"input_ids": [*prompt.ids, *answer], "labels": [IGNORED] * len(prompt.ids) + answer})
    return rows


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize(("loss", "rows_of"), [("full", conversational), ("completion", tokenized)])
def test_three_steps(any_model: Path, tmp_path: Path, loss: str, rows_of: Any, method: str) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    recipe = tiny_models.tiny_recipe(
        any_model,
        task={"labels": LABELS},
        adapter={"method": method},
        train={"loss": loss, **SETTINGS, "warmup_steps": 0},
    )
    backbone = tiny_models.load(any_model)
    tuned = attach_adapter(backbone.model, recipe.adapter, recipe.train.seed)
    tiny_models.stir(tuned)
    before = {name: weight.detach().clone() for name, weight in tuned.named_parameters() if weight.requires_grad}
    engine = tiny_models.engine_of(backbone, LABELS, tuned)
    twin = plain_forward.plain_twin(tuned, any_model, tmp_path / "start")
    theirs = SFTTrainer(
        model=twin,
        args=SFTConfig(output_dir=str(tmp_path / "trl"), bf16=False, use_cpu=True, report_to="none", **SETTINGS),
        train_dataset=Dataset.from_list(rows_of(engine)),
        processing_class=backbone.tokenizer.tokenizer,
    )
    ours = AnswerTrainer(engine, recipe, ROWS, None, args=training_arguments(recipe, engine.plan, tmp_path / "ours"))
    if loss == "full":
        assert [list(one.prompt.ids) for one in ours.train_dataset] == theirs.train_dataset["input_ids"]
    logs = []
    for trainer in (ours, theirs):
        trainer.train()
        logs.append([entry for entry in trainer.state.log_history if "loss" in entry])
    assert [entry["step"] for entry in logs[0]] == [entry["step"] for entry in logs[1]] == [1, 2, 3]
    for key in ("loss", "grad_norm"):
        assert [entry[key] for entry in logs[0]] == pytest.approx([entry[key] for entry in logs[1]], rel=1e-5)
    found, wanted = (dict(model.named_parameters()) for model in (tuned, twin))
    for name, start in before.items():
        assert (found[name] - start).abs().max() > 1e-3, f"{name} has not moved, so comparing it proves nothing"
        # Adam divides by the gradient's size, which magnifies the rounding of a gradient near zero.
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-4)
