"""Training on a pretended GPU: one GPU a process, pinned batches, scaled gradients of float16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments

from tests.helpers import plain_forward, tiny_models
from tests.helpers.pseudo_device import move_to_pseudo_cuda, pseudo_cuda
from whinchat.data.dataset import Split
from whinchat.errors import ModelError
from whinchat.models.adapters import attach_adapter
from whinchat.models.device import DevicePlan
from whinchat.models.forward import Engine
from whinchat.models.lm_head import FloatHead
from whinchat.models.packed.packed_forward import is_packable
from whinchat.recipe.model_config import AdapterConfig
from whinchat.training import trainer
from whinchat.training.distributed import idle_gpus_note
from whinchat.training.micro_batch import Collator, make_examples, row_losses
from whinchat.training.trainer import AnswerTrainer, length_grouped_loader, training_arguments

GPU = DevicePlan("cuda", "float32", "float32", "sdpa", double_quant=True)
CPU = replace(GPU, device="cpu", attn_implementation="eager")


@pytest.mark.parametrize(("plan", "gpus"), [(GPU, 1), (CPU, 0)])
def test_one_process_uses_one_gpu(plan: DevicePlan, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = TrainingArguments._setup_devices.func

    def with_four_gpus(args: TrainingArguments) -> torch.device:
        device = setup(args)
        args._n_gpu = 0 if args.use_cpu else 4
        return device

    four = property(with_four_gpus)
    monkeypatch.setattr(TrainingArguments, "_setup_devices", four)
    args = training_arguments(tiny_models.tiny_recipe("any"), plan, tmp_path)
    assert args.n_gpu == gpus
    assert args.train_batch_size == args.per_device_train_batch_size


@pytest.mark.parametrize(
    ("device", "dtype", "scaled"),
    [("cuda", "float16", True), ("mps", "float16", True), ("cuda", "bfloat16", False), ("cpu", "float16", False)],
)
def test_the_loss_of_float16_is_scaled_on_accelerators(device: str, dtype: Any, scaled: bool, tmp_path: Path) -> None:
    plan = replace(GPU, device=device, load_in=dtype, compute_dtype=dtype)
    args = training_arguments(tiny_models.tiny_recipe("any"), plan, tmp_path)
    assert (args.fp16, args.bf16) == (scaled, False)


def test_idle_gpus_are_named_with_the_command_that_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    note = idle_gpus_note("cuda")
    assert note is not None
    assert note.startswith("this machine has 3 GPUs, and one process trains on one of them")
    assert "accelerate launch --multi_gpu --num_processes 3 -m whinchat train" in note
    assert idle_gpus_note("cpu") is None
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert idle_gpus_note("cuda") is None, "all are in use"
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert idle_gpus_note("cuda") is None


@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("mps", False), ("cpu", False)])
def test_batches_are_pinned_for_cuda_alone(device: str, pinned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: dict[str, Any] = {}
    monkeypatch.setattr(trainer, "prepare_data_loader", lambda *args, **kw: prepared.update(kw, loader=args[0]))
    accelerator = SimpleNamespace(device=torch.device(device))
    fake: Any = SimpleNamespace(train_dataset=list(range(8)), data_collator=list, accelerator=accelerator)
    length_grouped_loader(fake, [3] * 8, tiny_models.tiny_recipe("any").train)
    assert prepared["loader"].pin_memory is pinned
    assert prepared["non_blocking"] is pinned


@pytest.mark.parametrize("loss", ["choice", "completion", "full"])
def test_a_loss_that_is_not_finite_ends_training(tiny_llama: Path, tmp_path: Path, loss: str) -> None:
    recipe = tiny_models.tiny_recipe(tiny_llama, train={"loss": loss, "max_steps": 3})
    backbone = tiny_models.load(tiny_llama)
    tuned = attach_adapter(backbone.model, recipe.adapter, 0)
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight.fill_(torch.inf)
    engine = tiny_models.engine_of(backbone, recipe.task.labels, tuned)
    rows = Split("train", *tiny_models.toy_rows(8))
    made = AnswerTrainer(engine, recipe, rows, None, args=training_arguments(recipe, engine.plan, tmp_path))
    message = (
        r"^the training loss is not a finite number after 0 optimizer steps, on training rows 0, 1, 2, 3, 4, 5, 6, 7 "
        r"\(`whinchat inspect RECIPE --row 0` shows one\); no checkpoint was saved before; "
        r"set a lower train\.learning_rate and start again with --overwrite$"
    )
    with pytest.raises(ModelError, match=message):
        made.train()


@pytest.mark.parametrize("loss", ["choice", "full"])
def test_small_gradients_of_float16_survive_on_a_cpu(tiny_llama: Path, tmp_path: Path, loss: str) -> None:
    gradients: list[dict[str, Tensor]] = []
    for dtype in (torch.float32, torch.float16):
        recipe = tiny_models.tiny_recipe(tiny_llama, train={"loss": loss})
        backbone = tiny_models.load(tiny_llama)
        if dtype == torch.float16:
            backbone.model.to(dtype).set_output_embeddings(FloatHead(backbone.model.get_output_embeddings()))
        tuned = attach_adapter(backbone.model, recipe.adapter, 0)
        tiny_models.stir(tuned)
        engine = tiny_models.engine_of(backbone, recipe.task.labels, tuned.train())
        name: Any = str(dtype).removeprefix("torch.")
        engine = replace(engine, plan=replace(CPU, load_in=name, compute_dtype=name))
        rows = Split("train", *tiny_models.toy_rows(8))
        args = training_arguments(recipe, engine.plan, tmp_path)
        made = AnswerTrainer(engine, recipe, rows, None, args=args)
        inputs = next(iter(made.get_train_dataloader()))
        # As many items as if this were a small part of a large batch.
        for _ in range(2):  # a second micro-batch is scaled no more than the first
            made.training_step(engine.model, inputs, num_items_in_batch=1_000_000)
        weights = engine.model.named_parameters()
        gradients.append({key: weight.grad.clone() for key, weight in weights if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() != set()
    for key, wanted in gradients[0].items():
        error = (gradients[1][key] - wanted).norm() / wanted.norm()
        assert error < 0.05, f"{key}: relative error {error:.3f}"


@pytest.fixture
def _gpu() -> Iterator[None]:
    with pseudo_cuda():
        yield


def engine_in(folder: Path, dtype: torch.dtype) -> Engine:
    """An engine on the pretended GPU; its adapter, as PEFT makes it, stays in float32."""
    backbone = tiny_models.load(folder)
    if dtype != torch.float32:
        backbone.model.to(dtype).set_output_embeddings(FloatHead(backbone.model.get_output_embeddings()))
    tuned = attach_adapter(backbone.model, AdapterConfig(r=4, lora_alpha=8), seed=3)
    tiny_models.stir(tuned)
    engine = tiny_models.engine_of(backbone, tiny_models.BRANCHING, tuned.train())
    move_to_pseudo_cuda(engine.model)
    name: Any = str(dtype).removeprefix("torch.")
    return replace(engine, plan=replace(GPU, load_in=name, compute_dtype=name))


def mean_loss(engine: Engine, loss: str) -> Tensor:
    rows = Split("train", tiny_models.TEXTS, (0, 1, 2, 3, 0, 1, 2, 3))
    inputs = Collator(engine, loss)(make_examples(engine.template, loss, rows))
    inputs = {name: tensor.to(torch.device("cuda")) for name, tensor in inputs.items()}
    # Divided by the number of predicted tokens, as the trainer does.
    return row_losses(engine, loss, inputs, torch.zeros(4)).sum() / (inputs["labels"] != -100).sum()


@pytest.mark.usefixtures("_gpu")
@pytest.mark.parametrize("loss", ["choice", "completion", "full"])
def test_scaled_gradients_of_float16_are_those_of_float32(tiny_llama: Path, loss: str) -> None:
    exact = engine_in(tiny_llama, torch.float32)
    wanted = plain_forward.gradients(exact.model, mean_loss(exact, loss))
    engine = engine_in(tiny_llama, torch.float16)
    assert is_packable(engine.model, engine.plan)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    trained = [weight for weight in engine.model.parameters() if weight.requires_grad]
    assert {weight.dtype for weight in trained} == {torch.float32}
    optimizer = torch.optim.SGD(trained, lr=0.1)
    scaler.scale(mean_loss(engine, loss)).backward()
    scaler.unscale_(optimizer)
    for name, weight in engine.model.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None
            error = (weight.grad.cpu() - wanted[name].cpu()).norm() / wanted[name].cpu().norm()
            assert error < 0.03, f"{name}: relative error {error:.3f}"


@pytest.mark.usefixtures("_gpu")
def test_gradients_that_overflow_are_skipped(tiny_llama: Path) -> None:
    engine = engine_in(tiny_llama, torch.float16)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    trained = [weight for weight in engine.model.parameters() if weight.requires_grad]
    optimizer, before = torch.optim.SGD(trained, lr=0.1), [weight.detach().cpu().clone() for weight in trained]
    scaler.scale(mean_loss(engine, "choice")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**39
    for weight, old in zip(trained, before, strict=True):
        assert torch.equal(weight.detach().cpu(), old)
