"""One split, measured: the same code before and after training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from whinchat.data.dataset import Split
from whinchat.evaluation.generation import generate, parse_answer
from whinchat.evaluation.metrics import LabelScores, compute_metrics, paired_test
from whinchat.evaluation.results import Evaluation, Metrics, Mode, PairedTest, Prediction
from whinchat.evaluation.scoring import label_probabilities, score_prompts
from whinchat.models.forward import Engine
from whinchat.recipe.schema import EvaluateConfig


@dataclass(frozen=True)
class EvaluationOutcome:
    """An evaluation and every prediction behind it, in the order of the split.

    ``truncated_texts`` and ``escaped_texts`` count texts that were cut or had control tokens escaped; see ``Prompt``.
    """

    evaluation: Evaluation
    predictions: tuple[Prediction, ...]
    truncated_texts: int = 0
    escaped_texts: int = 0


def evaluate(
    engine: Engine, split: Split, settings: EvaluateConfig, when: Literal["before", "after"]
) -> EvaluationOutcome:
    """Measure ``engine`` on ``split`` by label scores and, if asked, by free generation."""
    split = split.head(settings.rows)
    task = engine.template.task
    expected = np.array(split.labels)
    prompts = engine.template.encode(split.texts)
    started = time.perf_counter()
    log_probs = score_prompts(engine, prompts, settings.per_device_eval_batch_size, f"Scoring {when}")
    scored_seconds = time.perf_counter() - started

    def measured(mode: Mode, predicted: list[int], seconds: float) -> Metrics:
        return compute_metrics(
            mode,
            task.labels,
            expected,
            np.array(predicted),
            scores=LabelScores(log_probs, label_probabilities(log_probs)) if mode == "score" else None,
            resamples=settings.bootstrap_resamples,
            seed=settings.seed,
            seconds=seconds,
        )

    by_score = measured("score", log_probs.argmax(axis=1).tolist(), scored_seconds)
    said: list[str | None] = [None] * len(split)
    parsed: list[int | None] = [None] * len(split)
    by_generation = None
    if settings.generate:
        started = time.perf_counter()
        answers = generate(
            engine, prompts, settings.max_new_tokens, settings.per_device_eval_batch_size, f"Generating {when}"
        )
        labels = [parse_answer(answer, task) for answer in answers]
        by_generation = measured("generate", labels, time.perf_counter() - started)
        said, parsed = [*answers], [*labels]
    predictions = tuple(
        Prediction(tuple(row), answer, label)
        for row, answer, label in zip(log_probs.tolist(), said, parsed, strict=True)
    )
    return EvaluationOutcome(
        Evaluation(split.name, split.fingerprint(), by_score, by_generation),
        predictions,
        truncated_texts=sum(prompt.truncated_tokens > 0 for prompt in prompts),
        escaped_texts=sum(prompt.escaped_control_tokens > 0 for prompt in prompts),
    )


def paired_tests(
    split: Split, before: EvaluationOutcome, after: EvaluationOutcome, settings: EvaluateConfig
) -> tuple[PairedTest, ...]:
    """After against before, for each way of answering that both were measured by."""
    expected = np.array(split.head(settings.rows).labels)
    answers = {
        "score": [np.array([one.best for one in side.predictions]) for side in (before, after)],
        "generate": [np.array([one.generated_label for one in side.predictions]) for side in (before, after)],
    }
    modes: tuple[Mode, ...] = ("score", "generate") if settings.generate else ("score",)
    size = len(before.evaluation.score.labels)
    return tuple(
        paired_test(
            mode, expected, *answers[mode], size=size, resamples=settings.bootstrap_resamples, seed=settings.seed
        )
        for mode in modes
    )
