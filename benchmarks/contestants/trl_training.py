"""TRL's ``SFTTrainer`` with PEFT, as its documentation shows it: a model path, prompt and completion as chats."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from typing import Any

from benchmarks.contestants.base import Base, Stopwatch, mean_length
from benchmarks.protocol import Measured, UnavailableError
from whinchat.data.dataset import Split
from whinchat.models.backbone import find_model, load_tokenizer


class TrlTraining(Base):
    """Rounds of ``SFTTrainer.train()`` on one PEFT model.

    ``sft``: arguments of ``SFTConfig`` where the user's choice differs from TRL's default; the learning rate, batch and
    adapter are those of the recipe. ``nf4``: weights quantized by bitsandbytes while loading.
    """

    def load(self) -> None:
        if find_spec("trl") is None:
            raise UnavailableError("trl is not installed; make bench installs it")
        recipe = self.recipe()
        source = find_model(recipe.backbone)
        self.tokenizer = load_tokenizer(source)
        self.template = self.tokenizer.template(recipe)
        self.model: Any = source.path
        trainer = self._trainer(self.split(warm_up=True), tempfile.gettempdir(), None)
        self.model = trainer.model
        rows = [row["input_ids"] for row in trainer.train_dataset]
        import trl

        first = next(iter(trainer.get_train_dataloader()))
        self._facts = {
            "trl": trl.__version__,
            "completion_only_loss": bool(trainer.completion_only_loss),
            "supervised_tokens": round(int((first["labels"] != -100).sum()) / len(first["labels"]), 1),
            "gradient_checkpointing": bool(trainer.args.gradient_checkpointing),
            "bf16": bool(trainer.args.bf16),
            "weights": str(next(self.model.parameters()).dtype).removeprefix("torch."),
            "mean_tokens": mean_length(rows),
        }

    def run(self, *, warm_up: bool = False) -> Measured:
        split = self.split(warm_up=warm_up)
        watch = Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(split, folder, watch)
            trainer.train()
        return Measured(len(split), watch.seconds, {"steps": trainer.state.global_step})

    def _trainer(self, split: Split, folder: str, watch: Stopwatch | None) -> Any:
        from datasets import Dataset
        from peft import LoraConfig
        from trl import SFTConfig, SFTTrainer

        recipe = self.recipe()
        train, adapter = recipe.train, recipe.adapter
        targets = adapter.target_modules
        fresh = isinstance(self.model, str)
        lora = LoraConfig(
            r=adapter.r,
            lora_alpha=adapter.lora_alpha,
            lora_dropout=adapter.lora_dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            use_dora=adapter.method == "dora",
            task_type="CAUSAL_LM",
        )
        args = SFTConfig(
            output_dir=folder,
            learning_rate=train.learning_rate,
            num_train_epochs=1,
            per_device_train_batch_size=train.per_device_train_batch_size,
            gradient_accumulation_steps=train.gradient_accumulation_steps,
            seed=train.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **self.options.get("sft", {}),
        )
        return SFTTrainer(
            model=self.model,
            args=args,
            train_dataset=Dataset.from_list(self._rows(split)),
            processing_class=self.tokenizer.tokenizer,
            peft_config=lora if fresh else None,
            callbacks=[watch] if watch else None,
            **({"quantization_config": _nf4()} if fresh and self.options.get("nf4") else {}),
        )

    def _rows(self, split: Split) -> list[dict[str, Any]]:
        words = self.template.task.answer_words
        return [
            {
                "prompt": self.template.messages(text),
                "completion": [{"role": "assistant", "content": words[label]}],
            }
            for text, label in zip(split.texts, split.labels, strict=True)
        ]


def _nf4() -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
