"""A batch that does not fit into memory is computed in halves, with the same result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers import finished_runs, tiny_models
from tests.helpers.tiny_training import Gradients, make, recipe_for, split, weights_of
from whinchat.errors import ModelError
from whinchat.evaluation import generation, scoring
from whinchat.evaluation.generation import generate
from whinchat.evaluation.scoring import score_prompts
from whinchat.models.batch_limit import BatchLimit, is_out_of_memory
from whinchat.pipelines.run import run
from whinchat.training import objective as objective_module
from whinchat.training.trainer import AnswerTrainer

CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8000000000 bytes. Error code 12 (Cannot allocate memory)"
)
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    RuntimeError(CPU_MESSAGE),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:20])
def test_errors_that_mean_too_little_memory(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def fail_above(rows: int, trainer: AnswerTrainer, monkeypatch: pytest.MonkeyPatch, amid: str) -> list[int]:
    """Let micro-batches of more than ``rows`` rows fail in the forward pass, or amid the backward pass."""
    tried: list[int] = []
    row_losses = objective_module.row_losses
    first = next(weight for weight in trainer.engine.model.parameters() if weight.requires_grad)

    def check(_: Any) -> None:
        # The first layer comes last, so all other layers have added their gradients by now.
        if tried[-1] > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def losses(engine: Any, loss: str, inputs: Any, offsets: Any) -> Any:
        tried.append(len(inputs["rest"]))
        if amid == "forward":
            check(None)
        return row_losses(engine, loss, inputs, offsets)

    monkeypatch.setattr(objective_module, "row_losses", losses)
    if amid == "backward":
        first.register_hook(check)
    return tried


@pytest.mark.parametrize(
    ("loss", "attention", "amid"),
    [
        ("choice", "eager", "backward"),
        ("completion", "sdpa", "backward"),
        ("full", "eager", "forward"),
        pytest.param("full", "sdpa", "backward", marks=pytest.mark.slow),
        pytest.param("completion", "eager", "backward", marks=pytest.mark.slow),
        pytest.param("choice", "sdpa", "forward", marks=pytest.mark.slow),
    ],
)
def test_halved_batches_have_the_losses_and_gradients_of_whole_ones(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, attention: str, amid: str
) -> None:
    """Batches of 11 rows, accumulated in pairs, of which 3 rows fit; by the packed and by the plain way."""
    recipe = recipe_for(
        tiny_llama,
        {
            "loss": loss, "class_weights": "balanced", "max_steps": 2, "max_grad_norm": 0, "optim": "sgd",
            "per_device_train_batch_size": 11, "gradient_accumulation_steps": 2,
        },
        task={"labels": tiny_models.NESTED},
        backbone={"attn_implementation": attention},
    )  # fmt: skip
    results = []
    for halved in (False, True):
        watch = Gradients()
        trainer = make(recipe, tmp_path / str(halved), split(44, labels=tiny_models.NESTED), extra=(watch,))
        tiny_models.stir(trainer.engine.model)
        with monkeypatch.context() as patch:
            tried = fail_above(3 if halved else 99, trainer, patch, amid)
            trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        results.append((watch.steps, weights_of(trainer), losses))
        if halved:
            # Halved twice at the first batch; the limit holds for the batches after it.
            assert tried == [11, 6, 3, 3, 3, 2, *[3, 3, 3, 2] * 3]
            assert trainer.batch_limit.note == (
                "batches of 6 texts did not fit into memory in training, so 3 were computed at a time, with the same "
                "effective batch"
            )
    (whole, whole_weights, whole_losses), (parts, weights, losses) = results
    assert losses == pytest.approx(whole_losses, rel=1e-5)
    for ours, wanted in zip(parts, whole, strict=True):
        for name, gradient in wanted.items():
            assert (ours[name] - gradient).abs().max() <= 3e-6 * max(1.0, gradient.abs().max().item()), name
    for name, weight in whole_weights.items():
        assert (weights[name] - weight).abs().max() <= 1e-6


def test_one_text_that_does_not_fit_is_one_error(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(recipe_for(tiny_llama, {"max_steps": 2}), tmp_path, split(8))
    fail_above(0, trainer, monkeypatch, "forward")
    with pytest.raises(ModelError, match=r"^one text does not fit into memory in training \(CUDA out of memory.*; set"):
        trainer.train()


def test_processes_that_train_together_do_not_halve() -> None:
    def fails(rows: slice) -> None:
        raise MemoryError

    with pytest.raises(ModelError, match=r"^8 texts do not fit .* set a smaller batch size, a smaller backbone\.max"):
        BatchLimit("training").compute(8, fails, can_split=False)


def test_other_errors_pass() -> None:
    def fails(rows: slice) -> None:
        raise RuntimeError("another fault")

    with pytest.raises(RuntimeError, match="another fault"):
        BatchLimit("training").compute(8, fails)


def test_scoring_and_generation_halve(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = tiny_models.engine_of(tiny_models.load(tiny_model))
    prompts = engine.template.encode(tiny_models.TEXTS)
    scores, answers = score_prompts(engine, prompts, 8), generate(engine, prompts, 3, 8)

    def at_most(rows: int, function: Callable[..., Any], count: Callable[..., int]) -> Callable[..., Any]:
        def limited(*arguments: Any, **named: Any) -> Any:
            if count(*arguments, **named) > rows:
                raise RuntimeError(CPU_MESSAGE)
            return function(*arguments, **named)

        return limited

    engine = tiny_models.engine_of(tiny_models.load(tiny_model))
    logits = at_most(3, scoring.answer_logits, lambda model, plan, batch, *_: len(batch.rest))
    monkeypatch.setattr(scoring, "answer_logits", logits)
    with caplog.at_level(logging.WARNING, "whinchat"):
        np.testing.assert_allclose(score_prompts(engine, prompts, 8), scores, atol=2e-5)
    assert engine.batch_limit.rows == 2
    assert "batches of 4 texts did not fit into memory in evaluation, so 2 were computed at a time" in caplog.messages

    engine = tiny_models.engine_of(tiny_models.load(tiny_model))
    padded = at_most(3, generation._pad_in_the_middle, lambda batch: len(batch.rest))
    monkeypatch.setattr(generation, "_pad_in_the_middle", padded)
    assert generate(engine, prompts, 3, 8) == answers
    assert engine.batch_limit.rows == 2


def test_the_record_says_that_batches_were_halved(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_losses = objective_module.row_losses

    def limited(engine: Any, loss: str, inputs: Any, offsets: Any) -> Any:
        if len(inputs["rest"]) > 2:
            raise MemoryError
        return row_losses(engine, loss, inputs, offsets)

    monkeypatch.setattr(objective_module, "row_losses", limited)
    source = finished_runs.write_csv(tmp_path / "texts.csv")
    record = run(finished_runs.recipe_for(tiny_llama, source, train={"max_steps": 2}), tmp_path / "run")
    (note,) = record.manifest.device_notes
    assert note.startswith("batches of 4 texts did not fit into memory in training, so 2 were computed at a time")
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert f"The device did not follow the recipe: {note}." in card
