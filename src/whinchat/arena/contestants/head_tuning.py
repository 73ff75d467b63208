"""A classification head on a model with LoRA, the usual way to fine-tune a classifier: no instruction, no prompt.

B: rows of a batch. N: texts. K: labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import get_peft_model
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, Trainer

from whinchat.arena.contestants.contestant import Contestant
from whinchat.arena.contestants.head_scores import Features, head_log_probs
from whinchat.data.dataset import Split
from whinchat.errors import ModelError
from whinchat.models.adapter_targets import chosen_layers, linear_layers, lora_config, matches_target
from whinchat.models.adapters import count_parameters
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.models.device import DevicePlan, plan_device
from whinchat.models.model_class import causal_model_class, fit_float16
from whinchat.models.plain_forward import autocast
from whinchat.output_files import temporary_folder
from whinchat.recipe.model_config import AdapterConfig
from whinchat.recipe.schema import Recipe
from whinchat.training.losses import label_weights, weighted_mean
from whinchat.training.trainer import length_grouped_loader, training_arguments


class HeadTuning(Contestant):
    """Trains transformers' ``AutoModelForSequenceClassification``: PEFT's LoRA on the model, and the whole head."""

    def load(self) -> None:
        """Load model and tokenizer; the seed decides the head's initial weights."""
        source = find_model(self.recipe.backbone)
        self.model_commit = source.commit
        model_class = causal_model_class(source.path, source.revision, source.name)
        self._plan = fit_float16(plan_device(self.recipe.backbone), model_class)
        self.device = self._plan.device
        self._tokenizer = load_tokenizer(source).tokenizer
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        torch.manual_seed(self.recipe.train.seed)
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                source.path,
                revision=source.revision or "main",
                num_labels=len(self.recipe.task.labels),
                dtype=self._plan.torch_dtype,
                attn_implementation=self._plan.attn_implementation,
                trust_remote_code=False,
                use_safetensors=True,
            )
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"{source.name}: transformers loads no classification head for this model ({reason}); leave this "
                "contestant out"
            ) from error
        self._model = model.to(self.device)
        self._model.config.pad_token_id = self._tokenizer.pad_token_id
        self.notes["weights"] = f"{self._plan.compute_dtype}, head and factors in float32"

    def fit(self, train: Split) -> int:
        """Attach LoRA, and train LoRA and the head."""
        plain_lora = self.recipe.adapter.model_copy(update={"method": "lora"})
        targets = None if plain_lora.layers_to_transform is None else self._targets(plain_lora)
        torch.manual_seed(self.recipe.train.seed)
        try:
            self._model = get_peft_model(self._model, lora_config(plain_lora, "SEQ_CLS", targets))
        except ValueError as error:
            raise ModelError(
                f"adapter.target_modules: PEFT cannot adapt {type(self._model).__name__} with a classification head "
                f"({str(error).splitlines()[0]}); name other layers"
            ) from error
        for weight in self._model.parameters():
            if weight.requires_grad:
                # The head is loaded in the model's data type, in which small updates would be lost.
                weight.data = weight.data.float()
        rows = [row | {"labels": label} for row, label in zip(self._rows(train.texts), train.labels, strict=True)]
        with temporary_folder() as folder:
            arguments = training_arguments(self._quiet_recipe(), self._plan, folder)
            arguments.set_save(strategy="no")
            trainer = HeadTrainer(
                self.recipe,
                self._plan,
                label_weights(self.recipe.train, self.recipe.task.labels, train.labels),
                model=self._model,
                args=arguments,
                train_dataset=rows,
                data_collator=self._collate,
            )
            trainer.train()
        self.notes["steps"] = str(trainer.state.global_step)
        return len(train)

    def answer(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return log-probabilities, (N, K); the probabilities of a text add up to one.

        Raises:
            ModelError: a score is not finite.
        """
        size, labels = self.recipe.evaluate.per_device_eval_batch_size, len(self.recipe.task.labels)
        try:
            return head_log_probs(self._model, self._plan, self._rows(texts), self._collate, labels, size)
        except ModelError as fault:
            raise ModelError(f"{self.recipe.backbone.model}: {fault}; set backbone.load_in=float32") from fault

    def parameters(self) -> tuple[int, int]:
        """Return the number of the model's parameters, and of the trained ones, the head among them."""
        return count_parameters(self._model)

    def _targets(self, adapter: AdapterConfig) -> tuple[str, ...]:
        """Return the names of the linear layers that ``adapter`` names in its ``layers_to_transform``."""
        names, wanted = chosen_layers(linear_layers(self._model), adapter), adapter.target_modules
        if wanted == "all-linear":
            return tuple(names)
        return tuple(name for name in names if any(matches_target(target, (name,)) for target in wanted))

    def _rows(self, texts: Sequence[str]) -> list[Features]:
        cleaned = self.clean(texts)
        limit = self.recipe.backbone.max_prompt_tokens
        ids = self._tokenizer(cleaned, truncation=True, max_length=limit)["input_ids"] if cleaned else []
        # The head reads a token's hidden state, so an empty text gets one token.
        return [{"input_ids": tokens or [self._tokenizer.pad_token_id]} for tokens in ids]

    def _collate(self, rows: Sequence[Features]) -> Any:
        padded = self._tokenizer.pad(
            {"input_ids": [row["input_ids"] for row in rows]}, padding_side="right", return_tensors="pt"
        )
        if rows and "labels" in rows[0]:
            padded["labels"] = torch.tensor([row["labels"] for row in rows])
        return padded

    def _quiet_recipe(self) -> Recipe:
        """Return the recipe without evaluations during training and without a choice of checkpoints."""
        changes = {"eval_steps": None, "keep": "last", "early_stopping_patience": None}
        return self.recipe.model_copy(update={"train": self.recipe.train.model_copy(update=changes)})


class HeadTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """transformers' Trainer with whinchat's batches, label weights and data types, as the adapters are trained."""

    loss_is_scaled_for_ga = True

    def __init__(self, recipe: Recipe, plan: DevicePlan, weights: Tensor, **trainer: Any) -> None:
        self._recipe = recipe
        self._plan = plan
        self._weights = weights
        super().__init__(**trainer)
        self.model_accepts_loss_kwargs = True

    def get_train_dataloader(self) -> DataLoader[Features]:
        """Return batches of similar length, in an order that depends on the seed and the epoch alone."""
        return length_grouped_loader(self, [len(row["input_ids"]) for row in self.train_dataset], self._recipe.train)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the weighted cross entropy of a micro-batch, divided by the items of the whole accumulated batch."""
        labels = inputs.pop("labels")  # (B,)
        with autocast(self._plan):
            logits = model(**inputs).logits
        losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
        items = num_items_in_batch if num_items_in_batch is not None else len(labels)
        weights = self._weights.to(labels.device)[labels]
        loss: Tensor = weighted_mean(losses, weights, items) * self.accelerator.num_processes
        return loss
