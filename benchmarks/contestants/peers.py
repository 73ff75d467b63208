"""The peers: TRL, a classification head, ``generate`` and llama.cpp; and the machine's peak, the limit of all.

Libraries that only one of them needs are imported where it runs, so that the others do not pay for their memory.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers
from peft import get_peft_model
from sklearn.linear_model import LogisticRegression

from benchmarks.contestants.base import Contestant, TrainedContestant, mean_length
from benchmarks.measure import Measured, UnavailableError
from whinchat.arena.contestants.embeddings import embed
from whinchat.data.dataset import Split
from whinchat.data.packages import PACKAGE_PREFIX, fetch_package_file
from whinchat.models.adapter_targets import lora_config
from whinchat.models.device import usable_cores
from whinchat.models.encoders import load_encoder, open_encoder, read_pooling
from whinchat.prompts.batching import by_length


class _Peer(TrainedContestant):
    """A contestant that is trained with the recipe's adapter and settings."""

    def settings(self, folder: str) -> dict[str, Any]:
        """Return the recipe's training arguments, one pass over the texts, nothing saved or reported."""
        names = {"learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "seed"}
        quiet = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True}
        recipe = self.recipe.train.model_dump(include=names)
        return {"output_dir": folder, "num_train_epochs": 1, "use_cpu": self.device == "cpu", **recipe, **quiet}


class TrlTraining(_Peer):
    """Rounds of ``SFTTrainer.train()`` on one PEFT model, as TRL documents it: a model path, prompts and completions.

    ``sft``: arguments of ``SFTConfig`` that differ from TRL's defaults. ``nf4``: bitsandbytes quantizes the weights.
    """

    def load(self) -> None:
        if find_spec("trl") is None:
            raise UnavailableError("trl is not installed; make bench installs it")
        import trl

        self.model: Any = self.load_tokenizer()
        trainer = self.trainer(self.split(warm_up=True), tempfile.gettempdir())
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

    def trainer(self, split: Split, folder: str) -> Any:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        first: dict[str, Any] = {}  # needed only where TRL loads the model
        if isinstance(self.model, str):
            first["peft_config"] = lora_config(self.recipe.adapter, "CAUSAL_LM")
            if self.options.get("nf4"):
                nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
                config = transformers.BitsAndBytesConfig(**nf4, bnb_4bit_compute_dtype=torch.bfloat16)
                first["quantization_config"] = config
        words = self.template.task.answer_words
        rows = [
            {"prompt": self.template.messages(text), "completion": [{"role": "assistant", "content": words[label]}]}
            for text, label in zip(split.texts, split.labels, strict=True)
        ]
        return SFTTrainer(
            model=self.model,
            args=SFTConfig(**self.settings(folder), **self.options.get("sft", {})),
            train_dataset=Dataset.from_list(rows),
            processing_class=self.tokenizer,
            **first,
        )


class _Head(Contestant):
    """The model with a classification head, without instruction.

    ``dtype``: how its weights are held. ``amp``: the data type of autocast in training, by default bf16.
    """

    def load(self) -> None:
        path, dtype = self.load_tokenizer(), self.options.get("dtype", "float32")
        self.model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
            path, num_labels=len(self.recipe.task.labels), dtype=getattr(torch, dtype), trust_remote_code=False
        ).to(self.device)
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        rows = [row["input_ids"] for row in self.rows(self.split())]
        self.facts = {"weights": dtype, "mean_tokens": mean_length(rows)}

    def rows(self, split: Split) -> list[Any]:
        """Return the texts' token ids with their labels."""
        ids = self.tokenizer(list(split.texts))["input_ids"]
        return [{"input_ids": tokens, "labels": label} for tokens, label in zip(ids, split.labels, strict=True)]


class HeadTraining(_Head, _Peer):
    """Rounds of transformers' ``Trainer`` with PEFT, autocast, batches of similar length, dynamic padding."""

    def load(self) -> None:
        super().load()
        self.model = get_peft_model(self.model, lora_config(self.recipe.adapter, "SEQ_CLS"))

    def trainer(self, split: Split, folder: str) -> Any:
        from datasets import Dataset

        settings = self.settings(folder) | {"train_sampling_strategy": "group_by_length"}
        if amp := self.options.get("amp", "bf16"):
            settings[amp] = True
        return transformers.Trainer(
            model=self.model,
            args=transformers.TrainingArguments(**settings),
            train_dataset=Dataset.from_list(self.rows(split)),
            data_collator=transformers.DataCollatorWithPadding(self.tokenizer),
        )


class HeadScoring(_Head):
    """Rounds of the forward pass without adapter, in batches of 64 sorted by length."""

    def answer(self, rows: list[Any]) -> None:
        with torch.inference_mode():
            for batch in by_length([len(row["input_ids"]) for row in rows], 64):
                padded = self.padded([rows[row]["input_ids"] for row in batch]).to(self.device)
                self.model(**padded).logits.float().argmax(dim=-1).cpu()


class MiniLMScoring(Contestant):
    """Rounds of the arena's MiniLM: embeddings by the frozen encoder in float32, and a logistic regression on them."""

    def load(self) -> None:
        self.folder = open_encoder("package:all-minilm-l6-v2", None, 256)
        self.pooling, self.encoder = read_pooling(self.folder), load_encoder(self.folder)
        split = self.split()
        # The speed does not depend on the quality of the fit.
        self.regression = LogisticRegression(max_iter=200).fit(self.embedded(split.texts), split.labels)
        self.facts = {"weights": "float32"}

    def embedded(self, texts: Sequence[str]) -> Any:
        return embed(self.encoder, self.folder, texts, self.pooling)

    def rows(self, split: Split) -> list[Any]:
        return list(split.texts)

    def answer(self, rows: list[Any]) -> None:
        self.regression.predict_proba(self.embedded(rows))


class Generation(Contestant):
    """Rounds of ``generate``; the model has no adapter, as after merging.

    ``dtype``: of the weights. ``new_tokens``: written for each text: 16 for a model that does not know when to stop, 2
    for a model that writes a label and ends its turn.
    """

    def load(self) -> None:
        path, dtype = self.load_tokenizer(), self.options.get("dtype", "float32")
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, dtype), trust_remote_code=False
        )
        tokens = self.options.get("new_tokens", 16)
        self.config = transformers.GenerationConfig(
            do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=pad, eos_token_id=end
        )
        mean_tokens = mean_length(self.rows(self.split()))
        self.facts = {"weights": dtype, "new_tokens": tokens, "mean_prompt_tokens": mean_tokens}

    def answer(self, rows: list[Any]) -> dict[str, Any]:
        with torch.inference_mode():
            for batch in by_length([len(prompt) for prompt in rows], 32):
                padded = self.padded([rows[row] for row in batch], side="left")
                output = self.model.generate(**padded, generation_config=self.config)
        return {"new_tokens": output.shape[1] - padded["input_ids"].shape[1]}


class LlamaCpp(Contestant):
    """Rounds of ``create_completion``, one text at a time, with the Q4_1 weights of the wheel.

    The binding keeps keys and values of the last prompt and computes only what differs, so the instruction is computed
    once.
    """

    def load(self) -> None:
        if find_spec("llama_cpp") is None:
            raise UnavailableError("llama-cpp-python is not installed; make bench-llama builds it")
        import llama_cpp

        self.load_tokenizer()
        path = fetch_package_file(self.recipe.backbone.model.removeprefix(PACKAGE_PREFIX))
        threads = int(os.environ.get("OMP_NUM_THREADS") or usable_cores())
        # The binding has no argument for this parameter.
        parameters = llama_cpp.llama_model_default_params()
        parameters.use_extra_bufts = repacked = _runs_repacked(path)
        with patch("llama_cpp.llama_cpp.llama_model_default_params", return_value=parameters):
            both = {"n_threads": threads, "n_threads_batch": threads}
            self.model = llama_cpp.Llama(str(path), n_ctx=1024, n_batch=512, verbose=False, **both)
        words = " | ".join(f'"{word}"' for word in self.recipe.task.answer_words)
        self.grammar = llama_cpp.LlamaGrammar.from_string(f"root ::= {words}", verbose=False)
        self.facts = {
            "llama_cpp_python": llama_cpp.__version__,
            "weights": path.name,
            "threads": threads,
            "repacked_weights": repacked,
            "mean_prompt_tokens": mean_length(self.rows(self.split())),
        }

    def answer(self, rows: list[Any]) -> dict[str, Any]:
        settings = {"max_tokens": 8, "temperature": 0.0, "grammar": self.grammar}
        answers = [self.model.create_completion(list(ids), **settings)["choices"][0]["text"] for ids in rows]
        return {"answers_that_are_labels": sum(text.strip() in self.template.task.answer_words for text in answers)}


_PROBE = """
import sys, llama_cpp
model = llama_cpp.Llama(sys.argv[1], n_ctx=64, n_threads=1, n_threads_batch=1, verbose=False)
model.create_completion([1, 2, 3, 4], max_tokens=1)
"""


def _runs_repacked(path: Path) -> bool:
    """Return whether llama.cpp runs with weights repacked for this processor, as it does by default.

    With llama-cpp-python 0.3.36 built for a processor with AMX, the first product of a Q4_1 model is a segmentation
    fault, which no exception handler catches; without repacking it works.
    """
    done = subprocess.run([sys.executable, "-c", _PROBE, str(path)], capture_output=True, check=False)
    return done.returncode == 0


class MatrixPeak(Contestant):
    """Rounds of ``a @ b`` for each of ``sizes``: the median time of the fastest size. "Examples" are GFLOP here."""

    def load(self) -> None:
        dtype, draw = getattr(torch, self.options["dtype"]), torch.Generator().manual_seed(0)
        sizes = self.options.get("sizes", (1024, 2048, 4096))
        self.pairs = {size: torch.randn(2, size, size, generator=draw).to(dtype) for size in sizes}
        self.facts = {"dtype": self.options["dtype"], "threads": torch.get_num_threads()}

    def run(self, *, warm_up: bool = False) -> Measured:
        budget = 0.1 if warm_up else self.options.get("seconds_a_size", 1.0)
        products = {size: (2 * size**3 / 1e9, _median_seconds(a, b, budget)) for size, (a, b) in self.pairs.items()}
        rates = {str(size): round(gflop / seconds, 1) for size, (gflop, seconds) in products.items()}
        fastest = max(products.values(), key=lambda product: product[0] / product[1])
        return Measured(*fastest, {"gflops_by_size": rates})


def _median_seconds(a: torch.Tensor, b: torch.Tensor, budget: float) -> float:
    """Return the median time of as many products as fit into ``budget`` seconds, at least five."""
    out, times = a @ b, list[float]()
    while len(times) < 5 or sum(times) < budget:
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
