"""whinchat, sysone and decisionformer, each in a process of its own, on the same rows and the same model.

Libraries are imported where they run, so that no contestant pays for the memory of another's.
"""

import json
import os
import random
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.measure import Measured, UnavailableError
from whinchat.data.dataset import Split
from whinchat.models.memory import peak_memory_bytes

QUESTION = "sentiment"
RANK, ALPHA = 16, 32
# How the rivals are installed without becoming dependencies of the project. Without --no-deps, pip would add a second
# torch and transformers to the folder.
INSTALL = (
    "pip install --no-deps --target FOLDER sysone==0.5.2 decisionformer==0.2.0 omegaconf==2.4.0 "
    "antlr4-python3-runtime==4.9.3 sentencepiece==0.2.3"
)

Answers = tuple[list[list[float]], float]


@dataclass(frozen=True)
class Rows:
    """The rows of a comparison.

    Attributes:
        train: rows to train on.
        held_out: rows to calibrate on.
        evaluated: rows to answer.
    """

    train: Split
    held_out: Split
    evaluated: Split


def deal(split: Split, train: int, held_out: int, seed: int) -> Rows:
    """Divide rows with different texts: first the rows to train and to calibrate on, then those to answer.

    sysone draws the rows to calibrate on itself, and takes no other ones. Therefore all contestants get the rows that
    sysone draws: it sorts the texts, shuffles them by the seed, and holds out the first.
    """
    rows = sorted(range(train + held_out), key=lambda row: split.texts[row])
    random.Random(seed).shuffle(rows)
    return Rows(
        split.take(sorted(rows[held_out:])),
        split.take(sorted(rows[:held_out])),
        split.take(range(train + held_out, len(split))),
    )


class Stopwatch:
    """The seconds in the calls of a function."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def around(self, owner: Any, name: str) -> Iterator[None]:
        """Measure every call of ``owner.name`` within the context."""
        function: Callable[..., Any] = getattr(owner, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - started

        with patch.object(owner, name, measured):
            yield


class Decider(ABC):
    """A package that trains a model to answer a choice question with probabilities.

    Its round trains, calibrates, and answers the evaluated rows. ``facts`` of the round hold the probabilities.

    Attributes:
        options: ``model``, a folder of safetensors; ``labels`` and ``instructions`` of the question; ``train`` and
            ``held_out``, numbers of rows; ``epochs``, ``batch``, ``seed``; ``learning_rate`` and ``checkpointing`` (of
            activations), None for the package's own; ``folder``, where rivals are installed.
        rows: the rows.
        facts: version and settings; some are known only after training.
    """

    package: str

    def __init__(self, options: dict[str, Any], split: Split) -> None:
        self.options = options
        self.labels: list[str] = options["labels"]
        self.rows = deal(split, options["train"], options["held_out"], options["seed"])
        self.facts: dict[str, Any] = {}

    def load(self) -> None:
        """Import the package, if it is installed."""
        if (folder := self.options.get("folder")) and folder not in sys.path:
            sys.path.append(folder)
        if not any(distributions(name=self.package)):
            raise UnavailableError(f"{self.package} is not installed; {INSTALL}, then --rivals FOLDER")
        self.facts = {self.package: version(self.package), **self.start()}

    def run(self, *, warm_up: bool = False) -> Measured:
        """Train, calibrate and answer; nothing is warmed up, since a user trains once."""
        if warm_up:
            return Measured(1, 1.0)
        started = time.perf_counter()
        step_seconds = self.fit()
        fit_seconds, fit_peak = time.perf_counter() - started, peak_memory_bytes()
        started = time.perf_counter()
        probabilities, tokens = self.answer(self.rows.evaluated.texts)
        answer_seconds = time.perf_counter() - started
        facts = {
            "settings": self.facts,
            "fit_seconds": fit_seconds,
            "fit_peak_bytes": fit_peak,
            "answer_seconds": answer_seconds,
            "mean_prompt_tokens": round(tokens, 1),
            "probabilities": probabilities,
        }
        return Measured(len(self.rows.train) * self.options["epochs"], step_seconds, facts)

    @abstractmethod
    def start(self) -> dict[str, Any]:
        """Import what training needs, and return the settings that a reader should know."""

    @abstractmethod
    def fit(self) -> float:
        """Load the model, train and calibrate it, and return the seconds in training steps alone."""

    @abstractmethod
    def answer(self, texts: Sequence[str]) -> Answers:
        """Return the probabilities of the labels for each text, and the mean number of tokens of a prompt."""

    @property
    def question(self) -> dict[str, Any]:
        """The question in the form of the System One protocol."""
        return {"type": "choice", "instructions": self.options["instructions"], "criteria": self.labels}

    def by_label(self, probabilities: dict[str, float]) -> list[float]:
        """Return the probabilities in the order of the labels."""
        return [float(probabilities[label]) for label in self.labels]


class Whinchat(Decider):
    """``QuestionClassifier`` with its defaults; its own steps one by one, to calibrate on the given rows.

    ``load_in``: data type of the frozen weights, by default the recipe's ``auto``.
    """

    package = "whinchat"

    def start(self) -> dict[str, Any]:
        from whinchat.question_classifier import QuestionClassifier
        from whinchat.recipe.estimator_recipe import question_estimator_recipe
        from whinchat.training import prepare, train  # noqa: F401  # imported now, as the rivals' libraries are

        rate, question = self.options["learning_rate"], self.question
        own = {} if rate is None else {"learning_rate": rate}
        estimator = QuestionClassifier(
            {QUESTION: {**{key: question[key] for key in ("type", "instructions")}, "options": question["criteria"]}},
            model=self.options["model"],
            num_train_epochs=self.options["epochs"],
            per_device_train_batch_size=self.options["batch"],
            settings={
                "adapter.r": RANK,
                "adapter.lora_alpha": ALPHA,
                "adapter.target_modules": "all-linear",
                "backbone.device": "cpu",
                "backbone.load_in": self.options.get("load_in", "auto"),
            },
            **own,
        )
        self.recipe = question_estimator_recipe(estimator.get_params(deep=False), self.options["seed"])
        return {"learning_rate": f"{self.recipe.train.learning_rate:g}"}

    def fit(self) -> float:
        from whinchat.data.dataset import Corpus, DataReport
        from whinchat.evaluation.joint_scoring import decision_engines
        from whinchat.evaluation.question_scores import QuestionScorer
        from whinchat.evaluation.reliability import ScoredSplit, fit_with_threshold
        from whinchat.inference.question_predictor import QuestionPredictor
        from whinchat.training import prepare, train

        train_rows, held_out = (_with_answers(rows) for rows in (self.rows.train, self.rows.held_out))
        corpus = Corpus("the rows of the comparison", None, train_rows, held_out, None, DataReport())
        with tempfile.TemporaryDirectory() as folder:
            backbone, template = prepare.prepare_training(self.recipe, corpus)
            # As the estimator does: the date of the prompts is that of training.
            self.recipe = self.recipe.with_date(template.task.date)
            adapter, checkpoints = Path(folder, "adapter"), Path(folder, "checkpoints")
            engine, result = train.train(self.recipe, corpus, backbone, template, checkpoints, adapter)
        engines = tuple(decision_engines(engine, self.recipe.task))
        scorer = QuestionScorer(engines, self.recipe.evaluate.per_device_eval_batch_size)
        (decision,), own = self.recipe.task.decisions, held_out.of_decision(0)
        scores = scorer.score(own.texts, 0).astype(float)
        calibrator = fit_with_threshold(ScoredSplit(own, scores), decision.labels, self.recipe.evaluate)
        self.predictor = QuestionPredictor(self.recipe, engines, (calibrator,))
        self.facts["dtype"] = f"{backbone.plan.load_in} weights, {backbone.plan.compute_dtype} products"
        assert result.examples_per_second is not None
        return len(train_rows) * float(self.options["epochs"]) / result.examples_per_second

    def answer(self, texts: Sequence[str]) -> Answers:
        found = self.predictor.predict(texts).probabilities(QUESTION)
        prompts = self.predictor.engines[0].template.encode(texts)
        rows = [list(row) for row in zip(*(found[label] for label in self.labels), strict=True)]
        return rows, sum(len(prompt.ids) for prompt in prompts) / len(prompts)


class Sysone(Decider):
    """``DecoderModel.fit`` and ``predict``, with adapters on all linear layers of all layers.

    ``precision``: by default its own.
    """

    package = "sysone"

    def start(self) -> dict[str, Any]:
        from sysone import DecoderModel

        train, held_out, batch = len(self.rows.train), len(self.rows.held_out), self.options["batch"]
        rate, checkpointing = self.options["learning_rate"], self.options["checkpointing"]
        self.model = DecoderModel(
            self.options["model"],
            tuning="lora",
            num_layers="all",
            lora_layers="all",
            lora_targets="all",
            lora_rank=RANK,
            lora_alpha=ALPHA,
            batch_size=batch,
            epochs=self.options["epochs"],
            validation_fraction=held_out / (train + held_out),
            # One look at the rows to calibrate on, after the last step: no other contestant looks at them before.
            early_stopping=False,
            validation_interval=self.options["epochs"] * -(-train // batch),
            backbone_lr="auto" if rate is None else rate,
            gradient_checkpointing="auto" if checkpointing is None else checkpointing,
            precision=self.options.get("precision", "auto"),
            device="cpu",
            seed=self.options["seed"],
        )
        return {}

    def fit(self) -> float:
        from sysone import base, training
        from sysone.data import examples_from

        rows = [
            {"state": text, "questions": {QUESTION: self.question}, "expected": {QUESTION: self.labels[label]}}
            for split in (self.rows.train, self.rows.held_out)
            for text, label in zip(split.texts, split.labels, strict=True)
        ]
        fraction, seed = self.model.validation_fraction, self.model.seed
        train, _ = training.split_validation(examples_from(rows)[0], fraction, seed)
        if train != list(range(len(self.rows.train))):
            raise ValueError("sysone holds out other rows than `deal`; this release draws them in another way")
        steps, checks = Stopwatch(), Stopwatch()
        with steps.around(base, "train"), checks.around(training, "evaluate_items"):
            self.model.fit(rows)
        rates = self.model._learning_rates()
        self.facts["learning_rate"] = f"{rates['adapter']:g}, head {rates['head']:g}"
        self.facts["dtype"] = str(self.model.dtype_).removeprefix("torch.")
        self.facts["checkpointing"] = bool(self.model.backbone_.is_gradient_checkpointing)
        return steps.seconds - checks.seconds

    def answer(self, texts: Sequence[str]) -> Answers:
        results = self.model.predict(list(texts), {QUESTION: self.question})
        rows = [self.by_label(one["answers"][QUESTION]["probabilities"]) for one in results]
        return rows, sum(one["usage"]["input_tokens"] for one in results) / len(results)


class Decisionformer(Decider):
    """``decisionformer.train`` with the head and the learning rates of its LoRA recipes, then ``decide_many``.

    ``precision``: data type of the weights, by default its own.
    """

    package = "decisionformer"

    def start(self) -> dict[str, Any]:
        os.environ["DECISIONFORMER_DEVICE"] = "cpu"
        import decisionformer.trainer  # noqa: F401  # imported now, as the others' libraries are

        dtype = self.options.get("precision", "float32")  # on a CPU, ``auto`` is float32
        return {"dtype": dtype, "checkpointing": bool(self.options["checkpointing"])}

    def fit(self) -> float:
        import decisionformer
        import torch
        from decisionformer.trainer import Trainer

        rate, steps = self.options["learning_rate"], Stopwatch()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            config = {
                "model": {"backbone": self.options["model"], "head": {"type": "code_readout"}},
                "finetune": {
                    "mode": "lora",
                    "lora": {"r": RANK, "lora_alpha": ALPHA, "target_modules": "all-linear"},
                    "gradient_checkpointing": self.facts["checkpointing"],
                    "model_dtype": self.facts["dtype"],
                },
                "data": {
                    "train": self._written(self.rows.train, folder / "train.jsonl"),
                    "calibration": self._written(self.rows.held_out, folder / "held_out.jsonl"),
                },
                "train": {
                    "output_dir": str(folder / "run"),
                    "epochs": self.options["epochs"],
                    "global_batch_size": self.options["batch"],
                    "micro_batch_size": min(8, self.options["batch"]),
                    "seed": self.options["seed"],
                    "lr": rate,
                    "head_lr": 2e-5,  # of its LoRA recipes
                    # No look at the rows to calibrate on, and no checkpoint, before the last step.
                    "eval_every": None,
                    "save_every": None,
                },
            }
            with steps.around(Trainer, "accumulate_gradients"), steps.around(Trainer, "apply_update"):
                decisionformer.train(config)
            used = decisionformer.load_config(config).train
            self.facts["learning_rate"] = f"{used.lr:g}, head {used.head_lr:g}"
            dtype = getattr(torch, self.facts["dtype"])
            self.model = decisionformer.AutoDecisionModel.from_pretrained(
                folder / "run" / "best", dtype=dtype, trust_remote_code=False
            )
        return steps.seconds

    def answer(self, texts: Sequence[str]) -> Answers:
        results = self.model.decide_many([{"state": text, "questions": {QUESTION: self.question}} for text in texts])
        rows = [self.by_label(one["answers"][QUESTION]["probabilities"]) for one in results]
        return rows, sum(one["usage"]["input_tokens"] for one in results) / len(results)

    def _written(self, split: Split, path: Path) -> str:
        """Write rows as decisionformer reads them, and return the path."""
        with path.open("w", encoding="utf-8") as stream:
            for number, (text, label) in enumerate(zip(split.texts, split.labels, strict=True)):
                row = {"id": f"{path.stem}-{number}", "state": text, "questions": {QUESTION: self.question}}
                stream.write(json.dumps({**row, "gold": {QUESTION: self.labels[label]}}) + "\n")
        return str(path)


def _with_answers(split: Split) -> Split:
    """Return rows whose labels are the answers to the question."""
    return Split(split.name, split.texts, split.labels, answers=tuple((label,) for label in split.labels))
