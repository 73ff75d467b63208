"""An encoder such as BERT with a new classification head, fine-tuned whole or with LoRA by transformers' Trainer.

B: rows of a batch. N: texts. K: labels.
"""

from collections.abc import Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from whinchat.arena.contestants.contestant import Contestant
from whinchat.arena.contestants.head_scores import Features, head_log_probs
from whinchat.arena.spec import Method
from whinchat.data.dataset import Split
from whinchat.errors import ModelError
from whinchat.models.adapters import count_parameters
from whinchat.models.device import DevicePlan, plan_device
from whinchat.models.encoders import attach_classifier_lora, load_text_classifier, open_encoder
from whinchat.output_files import temporary_folder
from whinchat.recipe.model_config import BackboneConfig
from whinchat.recipe.schema import Recipe
from whinchat.training.losses import label_weights, weighted_mean

_LEARNING_RATES = {"full": 5e-5, "lora": 5e-4}
_EPOCHS = 3
# With fewer optimizer steps, the head is hardly trained.
_LEAST_STEPS = 200
_WEIGHT_DECAY = 0.01
# PEFT's example of sequence classification (examples/sequence_classification/LoRA.ipynb).
_LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1}


class EncoderTuning(Contestant):
    """Trains transformers' ``AutoModelForSequenceClassification`` on an encoder, one model for each decision.

    Sources: BERT, appendix A.3 (arXiv:1810.04805), for full fine-tuning; LoRA, appendix D (arXiv:2106.09685). More
    epochs of few rows: Zhang et al. 2021 (arXiv:2006.05987) and Mosbach et al. 2021 (arXiv:2006.04884).
    """

    def __init__(self, method: Method, recipe: Recipe) -> None:
        super().__init__(method, recipe)
        self.options = method.encoder_settings
        self._plan = _plan(self.options.model, recipe)
        self.device = self._plan.device

    def load(self) -> None:
        """Fetch the encoder; ``fit`` loads its weights, anew for each decision."""
        self._folder = open_encoder(self.options.model, self.options.revision, self.options.max_length)
        self.model_commit = self._folder.commit
        self._collate = DataCollatorWithPadding(self._folder.tokenizer)

    def copied(self) -> Contestant:
        """Return a copy, which loads its own weights in ``fit``."""
        return copy(self)

    def fit(self, train: Split) -> int:
        """Load the encoder, and train all of it, or LoRA and the head."""
        seed, labels = self.recipe.train.seed, self.recipe.task.labels
        set_seed(seed)
        self._model, new = load_text_classifier(self._folder, len(labels), self.device)
        if self.options.method == "lora":
            self._model = attach_classifier_lora(self._model, new, _LORA)
        rows = [row | {"labels": label} for row, label in zip(self._rows(train.texts), train.labels, strict=True)]
        weights = label_weights(self.recipe.train, labels, train.labels).to(self.device)
        with temporary_folder() as folder:
            trainer = Trainer(
                model=self._model,
                args=self._arguments(folder, len(train)),
                train_dataset=rows,
                data_collator=self._collate,
                compute_loss_func=partial(_loss, weights),
            )
            trainer.train()
        self.notes["steps"] = str(trainer.state.global_step)
        self.notes["weights"] = f"float32, multiplied in {self._plan.compute_dtype}"
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
            raise ModelError(f"{self.options.model}: {fault}; lower encoder.learning_rate") from fault

    def parameters(self) -> tuple[int, int]:
        """Return the number of the model's parameters, and of the trained ones, the head among them."""
        return count_parameters(self._model)

    def _rows(self, texts: Sequence[str]) -> list[Features]:
        return [{"input_ids": tokens} for tokens in self._folder.token_ids(self.clean(texts))]

    def _arguments(self, folder: Path, rows: int) -> TrainingArguments:
        options, batch_size = self.options, self.options.per_device_train_batch_size
        epochs = options.num_train_epochs or max(_EPOCHS, _LEAST_STEPS / -(-rows // batch_size))
        args = TrainingArguments(
            output_dir=str(folder),
            seed=self.recipe.train.seed,
            learning_rate=options.learning_rate or _LEARNING_RATES[options.method],
            lr_scheduler_type="linear",
            warmup_steps=options.warmup_steps,
            weight_decay=_WEIGHT_DECAY,
            num_train_epochs=epochs,
            per_device_train_batch_size=batch_size,
            train_sampling_strategy="group_by_length",
            bf16=self._plan.compute_dtype == "bfloat16",
            use_cpu=self.device == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        # With more, Trainer would wrap the model in DataParallel and train on larger batches.
        args._n_gpu = min(args.n_gpu, 1)
        return args


def _plan(model: str, recipe: Recipe) -> DevicePlan:
    """Return the device of the recipe with the data type of products that is fast there: bfloat16 or float32.

    The recipe's data types are those of its chat model.
    """
    device = recipe.backbone.device
    fast = plan_device(BackboneConfig(model=model, device=device)).compute_dtype
    compute = "bfloat16" if fast == "bfloat16" else "float32"
    return plan_device(BackboneConfig(model=model, device=device, load_in="float32", compute_dtype=compute))


def _loss(weights: Tensor, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Return the cross entropy of a batch, (B,) labels, with a weight for each label, (K,), as the adapters' loss."""
    losses = cross_entropy(outputs.logits.float(), labels, reduction="none")
    return weighted_mean(losses, weights[labels], len(labels) if num_items_in_batch is None else num_items_in_batch)
