"""The base of all contestants."""

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState

from benchmarks.measure import Measured
from benchmarks.plan import cut_to_tokens, evenly
from whinchat.data.dataset import Split
from whinchat.models.backbone import find_model, load_tokenizer
from whinchat.recipe.loader import load_recipe


class Contestant(ABC):
    """A way of doing a job, measured in rounds.

    Attributes:
        options: from the plan. Most contestants take ``recipe`` and its ``overrides``; ``text_tokens`` and ``warm_up``
            set the length of the texts and the number of texts of a warm-up, ``device`` the device of a peer.
        recipe: the recipe, None without one.
        facts: what a reader should know about the rounds: tokens, data types, versions.
    """

    def __init__(self, options: dict[str, Any], split: Split | None = None) -> None:
        self.options = options
        self._split = split
        self.recipe: Any = load_recipe(options["recipe"], options.get("overrides", ())) if "recipe" in options else None
        self.facts: dict[str, Any] = {}

    @abstractmethod
    def load(self) -> None:
        """Load everything that a round needs; this is not timed."""

    def run(self, *, warm_up: bool = False) -> Measured:
        """Run a round, or a short one whose result is thrown away; only ``answer`` is timed."""
        rows = self.rows(self.split(warm_up=warm_up))
        wait_for_gpu()
        started, cpu_started = time.perf_counter(), time.process_time()
        facts = self.answer(rows)
        wait_for_gpu()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return Measured(len(rows), seconds, {**(facts or {}), **gpu_facts()}, cpu_seconds)

    @property
    def device(self) -> str:
        """The device of a peer."""
        return str(self.options.get("device", "cpu"))

    def rows(self, split: Split) -> list[Any]:
        """Return what ``answer`` takes, the token ids of the texts' prompts."""
        return [prompt.ids for prompt in self.template.encode(split.texts)]

    def answer(self, rows: list[Any]) -> dict[str, Any] | None:
        """Answer the rows, and return facts about the round."""
        raise NotImplementedError

    def load_tokenizer(self) -> Any:
        """Load the tokenizer of the recipe's model, set the prompt template, and return the model's path."""
        source = find_model(self.recipe.backbone)
        loaded = load_tokenizer(source)
        self.tokenizer, self.template = loaded.tokenizer, loaded.template(self.recipe)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        return source.path

    def padded(self, prompts: Sequence[Sequence[int]], side: str | None = None) -> Any:
        """Return the token ids of a batch and their attention mask as tensors; by default on the tokenizer's side."""
        return self.tokenizer.pad({"input_ids": list(map(list, prompts))}, padding_side=side, return_tensors="pt")

    def split(self, *, warm_up: bool = False) -> Split:
        """Return the texts of a round, or of a warm-up."""
        assert self._split is not None
        rows = evenly(self._split, self.options.get("warm_up", 16)) if warm_up else self._split
        tokens = self.options.get("text_tokens")
        return cut_to_tokens(rows, tokens, self.tokenizer) if tokens else rows


class TrainedContestant(Contestant):
    """A contestant whose rounds are ``Trainer.train()`` over the same texts, all on one model."""

    @abstractmethod
    def trainer(self, split: Split, folder: str) -> Any:
        """Return a trainer of transformers that trains on ``split`` and writes to ``folder``."""

    def run(self, *, warm_up: bool = False) -> Measured:
        """Train once, and time the steps."""
        split, watch = self.split(warm_up=warm_up), Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(split, folder)
            trainer.add_callback(watch)
            trainer.train()
        facts = {**self.round_facts(trainer.state), **gpu_facts()}
        return Measured(len(split), watch.seconds, facts, watch.cpu_seconds)

    def round_facts(self, state: TrainerState) -> dict[str, Any]:
        """Return facts about a round, after its training."""
        return {"steps": state.global_step}


class Stopwatch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Measures the seconds from the start of training, with model and data ready, to the end of the last step."""

    seconds = 0.0
    cpu_seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the watch; the optimizer exists but holds no state yet."""
        wait_for_gpu()
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop the watch."""
        wait_for_gpu()
        self.seconds = time.perf_counter() - self._started
        self.cpu_seconds = time.process_time() - self._cpu_started


def wait_for_gpu() -> None:
    """Block until the GPU has computed everything that this process has asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def gpu_facts() -> dict[str, Any]:
    """Return the most memory that this process has held on a GPU; nothing where it uses none."""
    return {"peak_gpu_bytes": torch.cuda.max_memory_reserved()} if torch.cuda.is_initialized() else {}


def mean_length(rows: Sequence[Any]) -> float:
    """Return the mean length, rounded to one digit."""
    return round(sum(map(len, rows)) / max(1, len(rows)), 1)
