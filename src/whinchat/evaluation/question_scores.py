"""Scores and evaluations of all decisions of a task with questions.

D: decisions. N: texts. K: labels of a decision.
"""

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whinchat.data.dataset import Split
from whinchat.evaluation.evaluate import EvaluationOutcome, scored_outcome
from whinchat.evaluation.joint_scoring import score_questions
from whinchat.models.forward import Engine
from whinchat.progress import progress
from whinchat.prompts.template import Prompt
from whinchat.recipe.schema import EvaluateConfig


def evaluate_questions(
    engines: Sequence[Engine], split: Split, settings: EvaluateConfig, when: Literal["before", "after"]
) -> list[EvaluationOutcome]:
    """Measure label scores of each decision on the rows of ``split`` that have an answer to it.

    Args:
        engines: one for each of D decisions, all with the same model.
        split: the rows, with the answers to all decisions.
        settings: the recipe's ``evaluate``.
        when: names the stage in progress messages.
    """
    prompts = [engine.template.encode(split.texts, split.name) for engine in engines]
    started = time.perf_counter()
    scores = score_answered(engines, prompts, split, settings.per_device_eval_batch_size, f"Scoring {when}")
    # Decisions are scored together, so each has the time of all.
    seconds = time.perf_counter() - started
    outcomes = []
    for decision, (engine, own, log_probs) in enumerate(zip(engines, prompts, scores, strict=True)):
        rows = [row for row, answers in enumerate(split.answers) if answers[decision] is not None]
        part = split.of_decision(decision)
        outcomes.append(scored_outcome(engine, part, [own[row] for row in rows], log_probs[rows], settings, seconds))
    return outcomes


def score_answered(
    engines: Sequence[Engine], prompts: Sequence[Sequence[Prompt]], split: Split, batch_size: int, title: str
) -> list[NDArray[np.float32]]:
    """Score the labels of each decision for the rows of ``split`` that have an answer to it.

    Args:
        engines: one for each of D decisions, all with the same model.
        prompts: for each decision the prompts of all N rows.
        split: the rows, with the answers to all decisions.
        batch_size: largest number of prompts of a batch.
        title: what the progress bar says.

    Returns:
        For each decision the scores, (N, K), NaN in rows without an answer.
    """
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, answers in enumerate(split.answers):
        known = tuple(decision for decision, answer in enumerate(answers) if answer is not None)
        if known:
            rows_of.setdefault(known, []).append(row)
    scores = [
        np.full((len(own), len(engine.tree.paths)), np.nan, np.float32)
        for engine, own in zip(engines, prompts, strict=True)
    ]
    with progress(title, sum(len(known) * len(rows) for known, rows in rows_of.items()), "answers") as bar:
        for known, rows in rows_of.items():
            found = score_questions(
                [engines[decision] for decision in known],
                [[prompts[decision][row] for row in rows] for decision in known],
                batch_size,
                bar=bar,
            )
            for decision, log_probs in zip(known, found, strict=True):
                scores[decision][rows] = log_probs
    return scores


class QuestionScorer:
    """Scores texts for all decisions at once, and remembers the scores, since each decision asks for the same texts.

    Args:
        engines: one for each of D decisions, all with the same model.
        batch_size: largest number of prompts of a batch.
    """

    def __init__(self, engines: Sequence[Engine], batch_size: int) -> None:
        self._engines, self._batch_size = engines, batch_size
        self._known: dict[str, tuple[NDArray[np.float32], ...]] = {}

    def score(self, texts: Sequence[str], decision: int) -> NDArray[np.float32]:
        """Return the scores of ``texts`` for one decision, (N, K)."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            prompts = [engine.template.encode(new) for engine in self._engines]
            scores = score_questions(self._engines, prompts, self._batch_size, "Examining", labels_only=True)
            self._known |= {text: tuple(row) for text, row in zip(new, zip(*scores, strict=True), strict=True)}
        return np.stack([self._known[text][decision] for text in texts])
