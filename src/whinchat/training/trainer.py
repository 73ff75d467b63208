"""``transformers.Trainer`` with our batches and our loss; schedules, checkpoints and the rest are the library's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import gather_object
from peft.optimizers import create_loraplus_optimizer
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerControl, TrainingArguments

from whinchat.data.dataset import Split
from whinchat.evaluation.scoring import label_logits, label_probabilities, score_prompts
from whinchat.models.device import DevicePlan
from whinchat.models.forward import Engine, answer_logits
from whinchat.models.memory import give_back_memory
from whinchat.prompts.batching import Batch, LengthGroupedBatchSampler, collate
from whinchat.prompts.template import Prompt
from whinchat.recipe.schema import Recipe, TrainConfig
from whinchat.training import distributed
from whinchat.training.launch import process_rank, world_size
from whinchat.training.losses import IGNORED, choice_loss, completion_loss, label_offsets, label_weights


@dataclass(frozen=True)
class Example:
    """One supervised prompt; ``label`` indexes the task's labels."""

    prompt: Prompt
    label: int


class Collator:
    """Examples to the tensors of one step: a ``Batch``'s own, ``labels`` to predict, and ``rows``, the label indices.

    ``labels`` is what Trainer counts to weigh accumulated batches alike: (B,) label indices for ``choice``,
    (B, 1 + N) token ids for ``completion``.
    """

    def __init__(self, engine: Engine, loss: str) -> None:
        self.engine = engine
        self.loss = loss

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        rows = torch.tensor([example.label for example in examples])
        prompts = [example.prompt.ids for example in examples]
        template = self.engine.template
        if self.loss == "choice":
            batch, labels = collate(prompts, [self.engine.tree.tokens] * len(prompts)), rows
        else:
            answers = [template.answers[example.label] for example in examples]
            batch = collate(prompts, answers)
            width = batch.nodes.shape[1] + 1
            labels = torch.tensor(
                [[*answer, template.end_of_turn, *[IGNORED] * (width - len(answer) - 1)] for answer in answers]
            )
        # Rows first: accelerate reads the batch size off the first tensor.
        return {
            "rest": batch.rest, "lengths": batch.lengths, "nodes": batch.nodes, "prefix": batch.prefix,
            "labels": labels, "rows": rows,
        }  # fmt: skip


class AnswerTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Trains an engine's adapter on its answers.

    Each step's loss is the mean over all examples (``choice``) or supervised tokens (``completion``) of the whole
    accumulated batch, so that accumulation changes nothing but memory.
    """

    # Our loss is divided by what the whole accumulated batch holds; Trainer must not divide it once more.
    loss_is_scaled_for_ga = True

    def __init__(self, engine: Engine, recipe: Recipe, train: Split, validation: Split | None, **kwargs: Any) -> None:
        self.engine = engine
        self.recipe = recipe
        prompts = engine.template.encode(train.texts)
        examples = [Example(prompt, label) for prompt, label in zip(prompts, train.labels, strict=True)]
        watched = None
        if validation is not None and recipe.train.eval_steps is not None:
            watched = validation.head(recipe.train.eval_rows)
        self._watched = watched
        self._watched_prompts = engine.template.encode(watched.texts) if watched else []
        self._weights = label_weights(recipe.train, recipe.task.labels, train.labels)
        self._offsets = label_offsets(recipe.train.logit_adjustment, len(recipe.task.labels), train.labels)
        super().__init__(
            model=engine.model,
            train_dataset=examples,
            eval_dataset=self._watched_prompts or None,
            data_collator=Collator(engine, recipe.train.loss),
            **kwargs,
        )
        # Trainer reads these off the model's own forward, which we do not use for the loss.
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = False

    def get_train_dataloader(self) -> DataLoader[Example]:
        """Batches of similar length; their order follows from the seed and the epoch alone."""
        return loader_by_length(self, [len(example.prompt.ids) for example in self.train_dataset], self.recipe.train)

    def create_optimizer(self, model: Any = None) -> Any:
        """Trainer's own, or with ``loraplus_lr_ratio`` PEFT's for LoRA+ (Hayou et al. 2024, arXiv:2402.12354)."""
        ratio = self.recipe.train.loraplus_lr_ratio
        if ratio == 1 or self.optimizer is not None:  # type: ignore[has-type]  # Trainer is not typed
            return super().create_optimizer(model)
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = create_loraplus_optimizer(
            self.model, kind, loraplus_lr_ratio=ratio, loraplus_weight_decay=self.args.weight_decay, **settings
        )
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Weighted loss of one micro-batch over ``num_items_in_batch``, the items of the whole accumulated batch."""
        if self.engine.plan.load_in == "nf4":
            # Who asks for NF4 is short of memory: nothing of the last micro-batch stays while the next is computed.
            give_back_memory()
        batch = Batch(inputs["prefix"], inputs["rest"], inputs["lengths"], inputs["nodes"])
        labels, engine = inputs["labels"], self.engine
        if self.recipe.train.loss == "choice":
            scores = distributed.call_as_forward(model, lambda: label_logits(engine, batch))
            losses = choice_loss(scores, labels, self._offsets.to(scores.device))
        else:
            logits = distributed.call_as_forward(model, lambda: answer_logits(engine.model, engine.plan, batch))
            losses = completion_loss(logits, labels)
        weights = self._weights.to(losses.device)[inputs["rows"]]
        items = num_items_in_batch if num_items_in_batch is not None else (labels != IGNORED).sum()
        loss: Tensor = (losses * weights).sum() / items * self.accelerator.num_processes
        return loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Macro-F1 and loss on the watched validation rows, by the scoring used everywhere."""
        assert self._watched is not None
        started = time.perf_counter()
        size, count = self.recipe.evaluate.per_device_eval_batch_size, world_size()
        share = self._watched_prompts[process_rank() :: count]
        mine = score_prompts(self.engine, share, size, "Validating", labels_only=True)
        log_probs = np.empty((len(self._watched), mine.shape[1]), mine.dtype)
        for process, part in enumerate(gather_object([mine])):
            log_probs[process::count] = part
        expected = np.array(self._watched.labels)
        chosen = label_probabilities(log_probs)[np.arange(len(expected)), expected]
        metrics = {
            f"{metric_key_prefix}_loss": float(-np.log(np.maximum(chosen, 1e-300)).mean()),
            f"{metric_key_prefix}_macro_f1": float(
                f1_score(
                    expected,
                    log_probs.argmax(axis=1),
                    labels=range(log_probs.shape[1]),
                    average="macro",
                    zero_division=0.0,
                )
            ),
            f"{metric_key_prefix}_runtime": time.perf_counter() - started,
        }
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def loader_by_length(trainer: Trainer, lengths: Sequence[int], train: TrainConfig) -> DataLoader[Any]:
    """The batches of a ``Trainer`` whose rows have these lengths in tokens."""
    count = world_size()
    batches = LengthGroupedBatchSampler(
        lengths,
        train.per_device_train_batch_size * count,
        train.seed,
        processes=count,
        process=process_rank(),
    )
    loader = DataLoader(trainer.train_dataset, batch_sampler=batches, collate_fn=trainer.data_collator)
    # The batches are this process's own already; accelerate could share out only those whose short one comes last.
    prepared: DataLoader[Any] = prepare_data_loader(
        loader, trainer.accelerator.device, num_processes=1, process_index=0, put_on_device=True
    )
    return prepared


def training_arguments(recipe: Recipe, plan: DevicePlan, folder: Path) -> TrainingArguments:
    """The recipe's ``train`` section as transformers knows it; checkpoints go to ``folder``."""
    train = recipe.train
    best = train.keep == "best"
    watch = train.eval_steps is not None
    return TrainingArguments(
        output_dir=str(folder),
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.lr_scheduler_type,
        warmup_steps=train.warmup_steps,
        num_train_epochs=train.num_train_epochs,
        max_steps=train.max_steps,
        per_device_train_batch_size=train.per_device_train_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        optim=train.optim,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        seed=train.seed,
        logging_steps=train.logging_steps,
        logging_first_step=True,
        eval_strategy="steps" if watch else "no",
        eval_steps=train.eval_steps,
        save_strategy="steps",
        # The best checkpoint can only be kept where it was measured.
        save_steps=train.eval_steps if best else train.save_steps,
        save_total_limit=train.save_total_limit,
        load_best_model_at_end=best,
        metric_for_best_model="eval_macro_f1" if watch else None,
        greater_is_better=True if watch else None,
        # See ``trackers.Trackers``.
        report_to="none",
        run_name=recipe.name,
        remove_unused_columns=False,
        # Patience that was used up stays used up.
        restore_callback_states_from_checkpoint=True,
        # transformers ends a polynomial at 1e-7 and refuses to start below that.
        lr_scheduler_kwargs={"lr_end": 0.0} if train.lr_scheduler_type == "polynomial" else {},
        use_cpu=plan.device == "cpu",
        # Autocast is the engine's; here float16 only asks for the gradient scaler that its narrow range needs.
        fp16=plan.compute_dtype == "float16" and plan.device == "cuda",
    )


def callbacks(train: TrainConfig) -> list[Any]:
    """Early stopping where the recipe asks for it."""
    patience = train.early_stopping_patience
    return [] if patience is None else [EarlyStoppingCallback(early_stopping_patience=patience)]
