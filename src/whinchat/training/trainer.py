"""``transformers.Trainer`` with whinchat's batches and loss; everything else is the library's own.

B: rows of a batch. N: answer nodes. K: labels.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from whinchat.data.dataset import Split
from whinchat.errors import ModelError
from whinchat.models.batch_limit import BatchLimit
from whinchat.models.device import DevicePlan
from whinchat.models.forward import Engine
from whinchat.output_files import synchronize, writing
from whinchat.prompts.batching import LengthGroupedBatchSampler
from whinchat.recipe.schema import Recipe, TrainConfig
from whinchat.training import distributed
from whinchat.training.divergence import (
    MOST_SKIPPED,
    WINDOW,
    LossWatch,
    divergence_error,
    last_good_checkpoint,
    not_finite,
)
from whinchat.training.flat_loss import FlatLossWarning
from whinchat.training.launch import process_rank, world_size
from whinchat.training.losses import IGNORED, weighted_mean
from whinchat.training.memory_budget import rows_within_budget
from whinchat.training.micro_batch import take_rows
from whinchat.training.question_objective import make_objective

# Keys of the recipe's ``train`` section that ``TrainingArguments`` has under the same names.
_SHARED_KEYS = {
    "learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "optim", "weight_decay", "max_grad_norm", "seed",
    "logging_steps", "eval_steps", "save_total_limit",
}  # fmt: skip


# Lifts the gradients of float16 activations over float16's smallest number on CPUs, for which Trainer has no scaler.
_GRADIENT_SCALE = 1024.0


class AnswerTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Train the adapter of an engine to give the right answers.

    A batch that does not fit into memory is computed in halves, with the same gradients; ``batch_limit`` says so.
    Training stops with an error where loss, gradients or weights are no finite numbers, or the loss has exploded.

    The loss of a step is the mean over all examples (``choice``) or predicted tokens (``completion``, ``full``) of the
    whole accumulated batch, so gradient accumulation changes only the memory that a step takes.

    Args:
        engine: the model with its prompts.
        recipe: the settings.
        train: the training rows.
        validation: rows to score during training, used where ``train.eval_steps`` asks for it.
        **kwargs: further arguments of ``transformers.Trainer``.

    Raises:
        ModelError: a whole conversation, which ``full`` predicts, exceeds the model's positions.
    """

    # compute_loss divides by the size of the whole accumulated batch; Trainer must not divide again.
    loss_is_scaled_for_ga = True

    def __init__(self, engine: Engine, recipe: Recipe, train: Split, validation: Split | None, **kwargs: Any) -> None:
        self.engine, self.recipe = engine, recipe
        scored = None
        if validation is not None and recipe.train.eval_steps is not None:
            scored = validation.head(recipe.train.eval_rows)
        objective = self.objective = make_objective(engine, recipe, train, scored)
        super().__init__(
            model=engine.model,
            train_dataset=objective.examples,
            # Trainer wants a data set wherever it is to evaluate; ``evaluate`` does not look at it.
            eval_dataset=[scored] if scored else None,
            data_collator=objective.collate,
            **kwargs,
        )
        rows = rows_within_budget(engine.model, engine.plan, recipe, objective)
        self.batch_limit = BatchLimit("training", rows)
        self._watch = LossWatch(objective.classes)
        self._step_loss, self._step_rows, self._skipped_steps = 0.0, list[int](), 0
        self.add_callback(_WatchNumbers(self))
        self.add_callback(FlatLossWarning(objective.constant_loss, recipe.train.learning_rate))
        self._scales_gradients = engine.plan.compute_dtype == "float16" and engine.plan.device == "cpu"
        # It prints raw numbers, which TrainingProgress shows as well.
        self.remove_callback(PrinterCallback)
        # Trainer derives these from the signature of the model's forward method, which the loss does not call.
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = False

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return batches of similar length, in an order that depends only on the seed and the epoch."""
        return length_grouped_loader(self, self.objective.lengths, self.recipe.train)

    def create_optimizer(self, model: Any = None) -> Any:
        """Return Trainer's optimizer, or PEFT's for LoRA+ if ``train.loraplus_lr_ratio`` is not 1.

        Source: LoRA+, Hayou et al. 2024 (arXiv:2402.12354).
        """
        ratio = self.recipe.train.loraplus_lr_ratio
        if ratio == 1 or self.optimizer is not None:  # type: ignore[has-type]  # Trainer is not typed
            return super().create_optimizer(model)
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = create_loraplus_optimizer(
            self.model, kind, loraplus_lr_ratio=ratio, loraplus_weight_decay=self.args.weight_decay, **settings
        )
        return self.optimizer

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint, and wait until it has reached the disk.

        Raises:
            OutputError: it cannot be written.
        """
        folder = Path(self.args.output_dir)
        with writing(folder):
            super()._save_checkpoint(model, trial)
            synchronize(folder / f"checkpoint-{self.state.global_step}")

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Add the gradients of one micro-batch to those of the adapter's weights, and return its loss.

        Raises:
            ModelError: a single row does not fit into memory, or the loss is not finite.
        """
        # The halves of a batch are divided by the items of the whole.
        items = num_items_in_batch if num_items_in_batch is not None else (inputs["labels"] != IGNORED).sum()
        losses: list[Tensor] = []
        for part in self.objective.parts(inputs):
            losses += self.batch_limit.compute(
                len(part["rest"]),
                partial(self._add_gradients, model, part, items),
                can_split=world_size() == 1,
            )
        loss = torch.stack(losses).sum()
        self._step_loss += float(loss)
        self._step_rows += inputs["indices"].tolist()
        return loss

    def _add_gradients(self, model: nn.Module, part: dict[str, Tensor], items: Tensor | int, rows: slice) -> Tensor:
        """Add the gradients of some rows, or none at all where memory is too small for them; return their loss."""
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        earlier = [None if weight.grad is None else weight.grad.clone() for weight in trained]
        try:
            return self._backward(model, take_rows(part, rows), items)
        except (RuntimeError, MemoryError):
            for weight, gradient in zip(trained, earlier, strict=True):
                weight.grad = gradient
            raise

    def _backward(self, model: nn.Module, inputs: dict[str, Tensor], items: Tensor | int) -> Tensor:
        weights = [weight for weight in model.parameters() if weight.requires_grad] if self._scales_gradients else []
        hooks = [weight.register_hook(lambda gradient: gradient / _GRADIENT_SCALE) for weight in weights]
        try:
            loss: Tensor = super().training_step(model, inputs, items)
        finally:
            for hook in hooks:
                hook.remove()
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the weighted loss of one micro-batch, divided by the items of the whole accumulated batch.

        For float16 on a CPU, its gradient is scaled; ``training_step`` takes the scale out of the weights' gradients.

        Args:
            model: the engine's model, possibly wrapped for several processes.
            inputs: the tensors of ``Collator``.
            return_outputs: ignored; nothing reads the logits.
            num_items_in_batch: items of the accumulated batch; None for those of this micro-batch.

        Raises:
            ModelError: the loss is not finite. Trainer would skip its steps or go on with broken weights, unsaid.
        """
        losses = distributed.call_as_forward(model, lambda: self.objective.losses(inputs))
        if not losses.isfinite().all():
            broken = inputs["indices"][~losses.isfinite()].tolist()
            raise self.divergence("the training loss is not a finite number", broken)
        items = num_items_in_batch if num_items_in_batch is not None else (inputs["labels"] != IGNORED).sum()
        loss: Tensor = weighted_mean(losses, inputs["weights"], items) * self.accelerator.num_processes
        if self._scales_gradients:
            loss = _ScaledGradient.apply(loss)  # type: ignore[no-untyped-call]  # torch has no types for it
        return loss

    def divergence(self, fault: str, rows: Sequence[int] = (), suspect_steps: int = 0) -> ModelError:
        """Return the error that ends training; see ``divergence_error``."""
        step, folder = self.state.global_step, Path(self.args.output_dir)
        return divergence_error(fault, step, rows, self.engine.plan, last_good_checkpoint(folder, step - suspect_steps))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter.

        Raises:
            ModelError: a weight is not finite. Such weights are never saved.
        """
        self.check_weights()
        super().save_model(output_dir, _internal_call)

    def check_weights(self) -> None:
        """Raise ModelError if a trained weight is not finite."""
        if (name := not_finite(self.engine.model.named_parameters())) is not None:
            raise self.divergence(f"the weights hold numbers that are not finite ({name})")

    def check_gradients(self) -> None:
        """Raise ModelError if a gradient is not finite, except where the gradient scaler of float16 skips the step."""
        gradients = [weight.grad for weight in self.engine.model.parameters() if weight.grad is not None]
        if not self.args.fp16 and gradients and not get_total_norm(gradients).isfinite():
            raise self.divergence("the gradients are not finite numbers", self._step_rows)

    def check_step(self) -> None:
        """Raise ModelError if the loss has exploded, or every one of many steps was skipped."""
        log = self.state.log_history
        first = next((entry["loss"] for entry in log if "loss" in entry), self._step_loss)
        if (fault := self._watch.explosion(self._step_loss, first)) is not None:
            raise self.divergence(fault, suspect_steps=WINDOW)
        self._skipped_steps = self._skipped_steps + 1 if self.accelerator.optimizer_step_was_skipped else 0
        if self._skipped_steps >= MOST_SKIPPED:
            fault = f"the gradients overflowed float16 in {MOST_SKIPPED} steps in a row"
            raise self.divergence(fault, self._step_rows)
        self._step_loss, self._step_rows = 0.0, []

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return macro-F1 and loss on the validation rows, by the label scores that every evaluation uses."""
        started = time.perf_counter()
        loss, macro_f1 = self.objective.validate()
        metrics = {
            f"{metric_key_prefix}_loss": loss,
            f"{metric_key_prefix}_macro_f1": macro_f1,
            f"{metric_key_prefix}_runtime": time.perf_counter() - started,
        }
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _ScaledGradient(Function):
    """The loss as it is, with a gradient that is ``_GRADIENT_SCALE`` times as large."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        """Return ``loss``."""
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Return the gradient of the loss, scaled."""
        return grad * _GRADIENT_SCALE


class LogWithCheckpoint(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Log the loss whenever a checkpoint is written.

    A logged loss is the mean since the last one, and a checkpoint holds no part of a mean. So a resumed training logs
    the same means as an undisturbed one only if each mean ends with a checkpoint or begins after it.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log at this step if it is saved."""
        control.should_log = control.should_log or control.should_save


class _WatchNumbers(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Lets a trainer check its numbers before and after each optimizer step."""

    def __init__(self, trainer: AnswerTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the gradients before they reach the weights."""
        self._trainer.check_gradients()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the loss of the step."""
        self._trainer.check_step()


def length_grouped_loader(trainer: Trainer, lengths: Sequence[int], train: TrainConfig) -> DataLoader[Any]:
    """Return the training batches of ``trainer``, grouped by length.

    Args:
        trainer: gives rows, collator and device.
        lengths: tokens of each training row.
        train: the recipe's ``train`` section.
    """
    processes = world_size()
    batch_size = train.per_device_train_batch_size * processes
    batches = LengthGroupedBatchSampler(lengths, batch_size, train.seed, processes=processes, process=process_rank())
    # Copies from pinned memory run while the GPU computes. Elsewhere pinning would only copy once more.
    pinned = trainer.accelerator.device.type == "cuda"
    loader = DataLoader(
        trainer.train_dataset, batch_sampler=batches, collate_fn=trainer.data_collator, pin_memory=pinned
    )
    # The sampler yields this process's share already. accelerate's own sharing needs a short batch to come last.
    prepared: DataLoader[Any] = prepare_data_loader(
        loader,
        trainer.accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        non_blocking=pinned,
    )
    return prepared


def training_arguments(recipe: Recipe, plan: DevicePlan, folder: Path) -> TrainingArguments:
    """Return the recipe's ``train`` section as ``transformers.TrainingArguments``.

    Args:
        recipe: the settings.
        plan: the device and data types.
        folder: where checkpoints go.

    Raises:
        ValueError: transformers refuses a value.
    """
    train = recipe.train
    best = train.keep == "best"
    watch = train.eval_steps is not None
    args = TrainingArguments(
        **train.model_dump(include=_SHARED_KEYS),
        output_dir=str(folder),
        logging_first_step=True,
        eval_strategy="steps" if watch else "no",
        save_strategy="steps",
        # A checkpoint can be the best only if it was evaluated, so both happen at the same steps.
        save_steps=train.eval_steps if best else train.save_steps,
        load_best_model_at_end=best,
        metric_for_best_model="eval_macro_f1" if watch else None,
        greater_is_better=True if watch else None,
        # Trackers are attached as one callback of whinchat's own; see training.trackers.
        report_to="none",
        disable_tqdm=True,  # TrainingProgress takes the place of Trainer's bar
        run_name=recipe.name,
        remove_unused_columns=False,
        # A resumed run keeps the patience that early stopping has used up.
        restore_callback_states_from_checkpoint=True,
        # The default end of transformers' polynomial schedule, 1e-7, would refuse smaller learning rates.
        lr_scheduler_kwargs={"lr_end": 0.0} if train.lr_scheduler_type == "polynomial" else {},
        use_cpu=plan.device == "cpu",
        # The engine applies autocast itself. fp16 here only adds the gradient scaler that float16's range needs.
        fp16=plan.compute_dtype == "float16" and plan.device != "cpu",
    )
    # With more, Trainer would wrap the model in DataParallel, which the loss goes around, and count larger batches.
    args._n_gpu = min(args.n_gpu, 1)
    return args


def callbacks(train: TrainConfig) -> list[Any]:
    """Return the callbacks of every training, and the one for early stopping if the recipe asks for it."""
    patience = train.early_stopping_patience
    early = [] if patience is None else [EarlyStoppingCallback(early_stopping_patience=patience)]
    return [LogWithCheckpoint(), *early]
