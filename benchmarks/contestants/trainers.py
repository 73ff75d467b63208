"""Peers with PEFT: TRL's ``SFTTrainer``, and a classification head on the same model, trained or only scoring."""

import tempfile
import time
from importlib.util import find_spec
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from benchmarks.contestants.base import Contestant, Stopwatch, mean_length
from benchmarks.entries import Measured, UnavailableError
from whinchat.data.dataset import Split
from whinchat.prompts.batching import by_length


class _Peer(Contestant):
    """A contestant with the recipe's adapter and settings."""

    def lora(self, task_type: str) -> LoraConfig:
        """Return the recipe's adapter as PEFT describes it."""
        adapter, targets = self.recipe.adapter, self.recipe.adapter.target_modules
        return LoraConfig(
            r=adapter.r,
            lora_alpha=adapter.lora_alpha,
            lora_dropout=adapter.lora_dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            use_dora=adapter.method == "dora",
            task_type=task_type,
        )

    def settings(self, folder: str) -> dict[str, Any]:
        """Return the recipe's training arguments, one pass over the texts, nothing saved or reported."""
        names = ("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "seed")
        quiet = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True}
        recipe = {name: getattr(self.recipe.train, name) for name in names}
        return {"output_dir": folder, "num_train_epochs": 1, "use_cpu": True, **recipe, **quiet}

    def timed(self, trainer: Any, watch: Stopwatch, texts: int) -> Measured:
        """Train and return the round."""
        trainer.train()
        return Measured(texts, watch.seconds, {"steps": trainer.state.global_step})


class TrlTraining(_Peer):
    """Rounds of ``SFTTrainer.train()`` on one PEFT model, as TRL documents it: a model path, prompts and completions.

    ``sft``: arguments of ``SFTConfig`` that differ from TRL's defaults. ``nf4``: bitsandbytes quantizes the weights.
    """

    def load(self) -> None:
        if find_spec("trl") is None:
            raise UnavailableError("trl is not installed; make bench installs it")
        import trl

        self.model: Any = self.load_tokenizer()
        trainer = self._trainer(self.split(warm_up=True), tempfile.gettempdir(), None)
        self.model = trainer.model
        first = next(iter(trainer.get_train_dataloader()))
        self.facts = {
            "trl": trl.__version__,
            "completion_only_loss": bool(trainer.completion_only_loss),
            "supervised_tokens": round(int((first["labels"] != -100).sum()) / len(first["labels"]), 1),
            "gradient_checkpointing": bool(trainer.args.gradient_checkpointing),
            "bf16": bool(trainer.args.bf16),
            "weights": str(next(self.model.parameters()).dtype).removeprefix("torch."),
            "mean_tokens": mean_length([row["input_ids"] for row in trainer.train_dataset]),
        }

    def run(self, *, warm_up: bool = False) -> Measured:
        split, watch = self.split(warm_up=warm_up), Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            return self.timed(self._trainer(split, folder, watch), watch, len(split))

    def _trainer(self, split: Split, folder: str, watch: Stopwatch | None) -> Any:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        first: dict[str, Any] = {}  # what only the path of a model needs
        if isinstance(self.model, str):
            first["peft_config"] = self.lora("CAUSAL_LM")
            if self.options.get("nf4"):
                first["quantization_config"] = BitsAndBytesConfig(
                    load_in_4bit=True,
                    bnb_4bit_quant_type="nf4",
                    bnb_4bit_use_double_quant=True,
                    bnb_4bit_compute_dtype=torch.bfloat16,
                )
        words = self.template.task.answer_words
        rows = [
            {
                "prompt": self.template.messages(text),
                "completion": [{"role": "assistant", "content": words[label]}],
            }
            for text, label in zip(split.texts, split.labels, strict=True)
        ]
        return SFTTrainer(
            model=self.model,
            args=SFTConfig(**self.settings(folder), **self.options.get("sft", {})),
            train_dataset=Dataset.from_list(rows),
            processing_class=self.tokenizer,
            callbacks=[watch] if watch else None,
            **first,
        )


class _Head(_Peer):
    """The model with a classification head, without instruction; ``dtype``: how its weights are held."""

    def load(self) -> None:
        path, dtype = self.load_tokenizer(), self.options.get("dtype", "float32")
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(
            path, num_labels=len(self.recipe.task.labels), dtype=getattr(torch, dtype)
        )
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        rows = [row["input_ids"] for row in self.encoded()]
        self.facts = {"weights": dtype, "mean_tokens": mean_length(rows)}

    def encoded(self, *, warm_up: bool = False) -> list[dict[str, Any]]:
        """Return the texts' token ids with their labels."""
        split = self.split(warm_up=warm_up)
        ids = self.tokenizer(list(split.texts))["input_ids"]
        return [{"input_ids": tokens, "labels": label} for tokens, label in zip(ids, split.labels, strict=True)]


class HeadTraining(_Head):
    """Rounds of transformers' ``Trainer`` with PEFT, bf16 autocast, batches of similar length, dynamic padding."""

    def load(self) -> None:
        super().load()
        self.model = get_peft_model(self.model, self.lora("SEQ_CLS"))

    def run(self, *, warm_up: bool = False) -> Measured:
        from datasets import Dataset  # here, so that scoring with a head does not pay for its memory

        rows, watch = self.encoded(warm_up=warm_up), Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(**self.settings(folder), bf16=True, train_sampling_strategy="group_by_length")
            trainer = Trainer(
                model=self.model,
                args=args,
                train_dataset=Dataset.from_list(rows),
                data_collator=DataCollatorWithPadding(self.tokenizer),
                callbacks=[watch],
            )
            return self.timed(trainer, watch, len(rows))


class HeadScoring(_Head):
    """Rounds of the forward pass without adapter, in batches of 64 sorted by length."""

    def load(self) -> None:
        super().load()
        self.model.eval()

    def run(self, *, warm_up: bool = False) -> Measured:
        rows = [row["input_ids"] for row in self.encoded(warm_up=warm_up)]
        started = time.perf_counter()
        with torch.inference_mode():
            for batch in by_length([len(row) for row in rows], 64):
                padded = self.tokenizer.pad({"input_ids": [rows[row] for row in batch]}, return_tensors="pt")
                self.model(**padded).logits.float().argmax(dim=-1)
        return Measured(len(rows), time.perf_counter() - started)
