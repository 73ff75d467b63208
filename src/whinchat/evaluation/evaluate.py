"""Measure a model on one split, by the same code before and after training."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whinchat.data.dataset import Split
from whinchat.evaluation.answer_parsing import parse_answer
from whinchat.evaluation.generation import generate
from whinchat.evaluation.metrics import LabelScores, compute_metrics, paired_test
from whinchat.evaluation.results import GENERATION_MODES, Evaluation, Metrics, Mode, PairedTest, Prediction
from whinchat.evaluation.row_sample import sample_rows
from whinchat.evaluation.scoring import label_probabilities, score_prompts
from whinchat.models.forward import Engine
from whinchat.prompts.template import Prompt
from whinchat.recipe.schema import AnswerParser, EvaluateConfig
from whinchat.recipe.task import Task


@dataclass(frozen=True)
class EvaluationOutcome:
    """An evaluation and every prediction behind it, in the order of the split.

    ``truncated_texts`` and ``escaped_texts`` count texts that were cut or had control tokens escaped; see ``Prompt``.
    ``note`` says that batches did not fit into memory; None where all of them did.
    """

    evaluation: Evaluation
    predictions: tuple[Prediction, ...]
    truncated_texts: int = 0
    escaped_texts: int = 0
    note: str | None = None

    @property
    def is_calibrated(self) -> bool:
        """Whether every prediction has the probabilities of a calibrator."""
        return all(prediction.probabilities is not None for prediction in self.predictions)


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
    prompts = engine.template.encode(split.texts, split.name)
    started = time.perf_counter()
    log_probs = score_prompts(engine, prompts, settings.per_device_eval_batch_size, f"Scoring {when}")
    seconds = time.perf_counter() - started
    outcome = scored_outcome(engine, split, prompts, log_probs, settings, seconds)
    if not settings.generate:
        return outcome
    outcome = _with_generated(outcome, engine, split, prompts, settings, when)
    if when == "after" and (warning := outcome.evaluation.disagreement_warning):
        logging.getLogger("whinchat").warning(warning)
    return replace(outcome, note=engine.batch_limit.note)


def scored_outcome(
    engine: Engine,
    split: Split,
    prompts: Sequence[Prompt],
    log_probs: NDArray[np.float32],
    settings: EvaluateConfig,
    seconds: float,
) -> EvaluationOutcome:
    """Measure label scores.

    Args:
        engine: the model with its prompt template.
        split: the rows, N.
        prompts: the prompt of each row.
        log_probs: the scores of each row, (N, K).
        settings: the recipe's ``evaluate``.
        seconds: wall-clock time of scoring.
    """
    metrics = _score_metrics(engine.template.task, np.array(split.labels), log_probs, settings, seconds)
    return EvaluationOutcome(
        Evaluation(split.name, split.fingerprint(), metrics, None, None, None),
        tuple(Prediction(tuple(row), None, None, None) for row in log_probs.tolist()),
        truncated_texts=sum(prompt.truncated_tokens > 0 for prompt in prompts),
        escaped_texts=sum(prompt.escaped_control_tokens > 0 for prompt in prompts),
        note=engine.batch_limit.note,
    )


def _with_generated(
    outcome: EvaluationOutcome,
    engine: Engine,
    split: Split,
    prompts: Sequence[Prompt],
    settings: EvaluateConfig,
    when: str,
) -> EvaluationOutcome:
    """Return ``outcome`` with freely generated answers, of all rows or of a sample, and both of their readings."""
    rows = sample_rows(split.texts, settings.generation_rows, settings.seed)
    task, expected = engine.template.task, np.array([split.labels[row] for row in rows])
    generated, seconds = _generate(engine, [prompts[row] for row in rows], settings, when)
    # Both readings of the same answers, so that neither depends on which of them the recipe puts first.
    labels = {parser: _parse(generated, task, parser) for parser in GENERATION_MODES}
    metrics = {
        mode: compute_metrics(mode, task.labels, expected, np.array(labels[parser]), settings, seconds=seconds)
        for parser, mode in GENERATION_MODES.items()
    }
    sample = tuple(
        Prediction(outcome.predictions[row].log_probs, answer, exact, first_word)
        for row, answer, exact, first_word in zip(rows, generated, labels["exact"], labels["first_word"], strict=True)
    )
    of_row = dict(zip(rows, sample, strict=True))
    predictions = tuple(of_row.get(row, scored) for row, scored in enumerate(outcome.predictions))
    evaluation = replace(
        outcome.evaluation,
        generate=metrics["generate"],
        generate_first_word=metrics["generate_first_word"],
        disagreement=_disagreement(sample),
        score_of_generated=_score_of_sample(task, expected, sample, settings) if len(rows) < len(split) else None,
    )
    return replace(outcome, evaluation=evaluation, predictions=predictions)


def _score_of_sample(
    task: Task, expected: NDArray[np.int64], sample: Sequence[Prediction], settings: EvaluateConfig
) -> Metrics:
    """Measure label scores on the rows that have a generated answer, to compare them with the generated answers."""
    log_probs = np.array([row.log_probs for row in sample], dtype=np.float32)
    return _score_metrics(task, expected, log_probs, settings)


def _score_metrics(
    task: Task,
    expected: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    settings: EvaluateConfig,
    seconds: float = 0.0,
) -> Metrics:
    """Return the metrics of label scores (N, K) against the true labels ``expected`` (N,)."""
    scores = LabelScores(log_probs, label_probabilities(log_probs))
    answers = log_probs.argmax(axis=1)
    return compute_metrics("score", task.labels, expected, answers, settings, scores=scores, seconds=seconds)


def _generate(
    engine: Engine, prompts: Sequence[Prompt], settings: EvaluateConfig, when: str
) -> tuple[list[str], float]:
    """Return the generated answers, and the wall-clock seconds that generating took."""
    started = time.perf_counter()
    answers = generate(
        engine, prompts, settings.max_new_tokens, settings.per_device_eval_batch_size, f"Generating {when}"
    )
    return answers, time.perf_counter() - started


def _parse(answers: Sequence[str], task: Task, parser: AnswerParser) -> list[int]:
    return [parse_answer(answer, task, parser) for answer in answers]


def _disagreement(predictions: Sequence[Prediction]) -> float:
    """Return the share of rows whose generated answer, in either reading, is not the label with the highest score."""
    agreeing = [row.best in (row.generated_label, row.first_word_label) for row in predictions]
    return 1 - sum(agreeing) / len(agreeing)


def paired_tests(
    split: Split, before: EvaluationOutcome, after: EvaluationOutcome, settings: EvaluateConfig
) -> tuple[PairedTest, ...]:
    """Test the predictions ``after`` training against those ``before``, for each way of answering.

    Each test takes the rows that were answered both times, which are a sample where free generation answered a sample.
    Calibrated answers, which exist only after training, are tested against label scoring before.
    """
    expected = np.array(split.head(settings.rows).labels, dtype=np.int64)
    size = len(before.evaluation.score.labels)
    modes = [mode for mode in _LABEL_OF_MODE if mode != "calibrated" or after.is_calibrated]
    tests = []
    for mode in modes:
        old, new = ([_LABEL_OF_MODE[mode](prediction) for prediction in side.predictions] for side in (before, after))
        # Generation may have answered a sample, and a run that an earlier version began has no first-word labels.
        pairs = list(zip(old, new, strict=True))
        rows = [row for row, pair in enumerate(pairs) if None not in pair]
        if rows:
            answers = np.array([pairs[row] for row in rows]).T  # (2, rows)
            tests.append(paired_test(mode, expected[rows], *answers, size=size, settings=settings))
    return tuple(tests)


# The label that a prediction gives in each way of answering; None where it was not measured.
_LABEL_OF_MODE: dict[Mode, Callable[[Prediction], int | None]] = {
    "calibrated": lambda prediction: prediction.answer,
    "score": lambda prediction: prediction.best,
    "generate": lambda prediction: prediction.generated_label,
    "generate_first_word": lambda prediction: prediction.first_word_label,
}
