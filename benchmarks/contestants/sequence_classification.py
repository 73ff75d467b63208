"""A classification head on the same model, without instruction: the usual way to fine-tune a text classifier."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch

from benchmarks.contestants.base import Base, Stopwatch, mean_length
from benchmarks.protocol import Measured
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.prompts.batching import by_length


class _Head(Base):
    """The model with a head; ``dtype``: how its weights are held."""

    def _load_model(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        recipe = self.recipe()
        source = find_model(recipe.backbone)
        self.tokenizer = load_tokenizer(source).tokenizer
        model = AutoModelForSequenceClassification.from_pretrained(
            source.path, num_labels=len(recipe.task.labels), dtype=getattr(torch, self.options.get("dtype", "float32"))
        )
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model.config.pad_token_id = self.tokenizer.pad_token_id
        return model

    def _encoded(self, *, warm_up: bool = False) -> list[dict[str, Any]]:
        split = self.split(warm_up=warm_up)
        ids = self.tokenizer(list(split.texts))["input_ids"]
        return [{"input_ids": one, "labels": label} for one, label in zip(ids, split.labels, strict=True)]


class HeadTraining(_Head):
    """Rounds of transformers' ``Trainer`` with PEFT, bf16 autocast, batches of similar length, dynamic padding."""

    def load(self) -> None:
        from peft import LoraConfig, get_peft_model

        adapter, model = self.recipe().adapter, self._load_model()
        targets = adapter.target_modules
        config = LoraConfig(
            r=adapter.r,
            lora_alpha=adapter.lora_alpha,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type="SEQ_CLS",
        )
        self.model = get_peft_model(model, config)
        rows = [row["input_ids"] for row in self._encoded()]
        self._facts = {"weights": self.options.get("dtype", "float32"), "mean_tokens": mean_length(rows)}

    def run(self, *, warm_up: bool = False) -> Measured:
        from datasets import Dataset
        from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

        train, rows, watch = self.recipe().train, self._encoded(warm_up=warm_up), Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(
                output_dir=folder,
                learning_rate=train.learning_rate,
                num_train_epochs=1,
                per_device_train_batch_size=train.per_device_train_batch_size,
                seed=train.seed,
                bf16=True,
                use_cpu=True,
                train_sampling_strategy="group_by_length",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            trainer = Trainer(
                model=self.model,
                args=args,
                train_dataset=Dataset.from_list(rows),
                data_collator=DataCollatorWithPadding(self.tokenizer),
                callbacks=[watch],
            )
            trainer.train()
        return Measured(len(rows), watch.seconds, {"steps": trainer.state.global_step})


class HeadScoring(_Head):
    """Rounds of the forward pass, no adapter, batches of 64 sorted by length."""

    def load(self) -> None:
        self.model = self._load_model().eval()
        self._facts = {
            "weights": self.options.get("dtype", "float32"),
            "mean_tokens": mean_length([row["input_ids"] for row in self._encoded()]),
        }

    def run(self, *, warm_up: bool = False) -> Measured:
        rows = [row["input_ids"] for row in self._encoded(warm_up=warm_up)]
        started = time.perf_counter()
        with torch.inference_mode():
            for batch in by_length([len(row) for row in rows], self.options.get("batch_size", 64)):
                padded = self.tokenizer.pad({"input_ids": [rows[row] for row in batch]}, return_tensors="pt")
                self.model(**padded).logits.float().argmax(dim=-1)
        return Measured(len(rows), time.perf_counter() - started)
