"""Measure a model on one split, by the same code before and after training."""

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from whinchat.data.dataset import Split
from whinchat.evaluation.generation import generate, parse_answer
from whinchat.evaluation.metrics import LabelScores, compute_metrics, paired_test
from whinchat.evaluation.results import Evaluation, Mode, PairedTest, Prediction
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
    """Measure ``engine`` on ``split`` by label scores and, where ``settings`` ask for it, by free generation.

    Args:
        engine: the model with its prompt template.
        split: the rows.
        settings: the recipe's ``evaluate``.
        when: names the stage in progress messages.
    """
    split = split.head(settings.rows)
    task = engine.template.task
    expected = np.array(split.labels)
    prompts = engine.template.encode(split.texts)
    started = time.perf_counter()
    log_probs = score_prompts(engine, prompts, settings.per_device_eval_batch_size, f"Scoring {when}")
    scored_seconds = time.perf_counter() - started
    scores, best = LabelScores(log_probs, label_probabilities(log_probs)), log_probs.argmax(axis=1)
    by_score = compute_metrics("score", task.labels, expected, best, settings, scores=scores, seconds=scored_seconds)
    answers: list[str | None] = [None] * len(split)
    parsed: list[int | None] = [None] * len(split)
    by_generation = None
    if settings.generate:
        started = time.perf_counter()
        generated = generate(
            engine, prompts, settings.max_new_tokens, settings.per_device_eval_batch_size, f"Generating {when}"
        )
        labels = [parse_answer(answer, task) for answer in generated]
        seconds = time.perf_counter() - started
        by_generation = compute_metrics("generate", task.labels, expected, np.array(labels), settings, seconds=seconds)
        answers, parsed = [*generated], [*labels]
    predictions = tuple(
        Prediction(tuple(row), answer, label)
        for row, answer, label in zip(log_probs.tolist(), answers, parsed, strict=True)
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
    """Test the predictions ``after`` training against those ``before``, for each way of answering."""
    expected = np.array(split.head(settings.rows).labels)
    sides = (before.predictions, after.predictions)
    answers = {
        "score": [np.array([prediction.best for prediction in side]) for side in sides],
        "generate": [np.array([prediction.generated_label for prediction in side]) for side in sides],
    }
    modes: tuple[Mode, ...] = ("score", "generate") if settings.generate else ("score",)
    size = len(before.evaluation.score.labels)
    return tuple(paired_test(mode, expected, *answers[mode], size=size, settings=settings) for mode in modes)
