"""A record of a run with one question of each type that never happened, measured on random answers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from scipy.special import log_softmax

from tests.helpers.run_records import history, manifest, recipe
from whinchat.data.dataset import Answer, Split
from whinchat.evaluation.calibration import fit_calibrator
from whinchat.evaluation.metrics import LabelScores
from whinchat.evaluation.question_answers import DecisionAnswers
from whinchat.evaluation.question_metrics import measure_question
from whinchat.evaluation.simple_methods import SimpleAnswers
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.question import Decision
from whinchat.recipe.schema import EvaluateConfig, Recipe, TrainConfig
from whinchat.recipe.task import Task
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_record import SplitFacts

QUESTIONS = {
    "team": {
        "type": "choice",
        "instructions": "Which team should handle this?",
        "options": {"returns": "Refunds and damage", "billing": "Payments", "technical support": "", "sales": ""},
    },
    "angry": {"type": "yes_no", "instructions": "Is the customer angry?"},
    "urgency": {"type": "score", "instructions": "How urgent is it?", "levels": ["routine", "soon", "today"]},
    "tags": {
        "type": "multi",
        "instructions": "Which of these apply?",
        "options": ["refund", "bug", "praise", "delivery of a parcel that never came", "login", "never used"],
    },
}
ROWS = 300
# Every eleventh row lacks every answer to tags, every seventh the answer to whether the customer is angry.
_GAPS = {"tags": 11, "angry": 7}


def questions_task(**questions: object) -> Task:
    """A task with one question of each type, or with ``questions``."""
    return Task.model_validate({"name": "tickets", "questions": questions or QUESTIONS})


def questions_recipe(**changes: object) -> Recipe:
    """The recipe of the synthetic run."""
    answers = {"team": "queue", "angry": "is_angry", "urgency": "priority", "tags": "tag_list"}
    fields: dict[str, object] = {
        "name": "tickets",
        "description": "Four questions about a ticket",
        "task": questions_task(),
        "data": DataConfig.model_validate({"source": "tickets.csv", "text": "{title}\n\n{body}", "answers": answers}),
        "evaluate": EvaluateConfig(bootstrap_resamples=200, wanted_accuracy=0.9, generate=False),
        "train": TrainConfig(loss="choice"),
        "reference": None,
    }
    return recipe(**fields | changes)


def _scores(expected: np.ndarray, size: int, strength: float, seed: int) -> LabelScores:
    draw = np.random.default_rng(seed)
    near = -0.5 * np.abs(np.subtract.outer(expected, np.arange(size)))  # neighbours of the truth are likelier
    log_probs = log_softmax(strength * near + draw.normal(size=(len(expected), size)), axis=1)
    return LabelScores(log_probs, np.exp(log_probs))


def _truth(decision: Decision, number: int) -> list[Answer]:
    draw = np.random.default_rng(number)
    size = len(decision.labels)
    shares = np.arange(size, 0, -1.0) if size > 2 else np.array([1 - 0.07 * number, 0.07 * number])
    labels = draw.choice(size, ROWS, p=shares / shares.sum())
    if decision.option == "never used":
        labels[:] = 0
    gap = _GAPS.get(decision.question, ROWS + 1)
    return [None if (row + 1) % gap == 0 else int(label) for row, label in enumerate(labels)]


def _decision(decision: Decision, truth: list[Answer], number: int, settings: EvaluateConfig) -> DecisionAnswers:
    rows = np.array([row for row, answer in enumerate(truth) if answer is not None])
    expected, size = np.array([answer for answer in truth if answer is not None]), len(decision.labels)
    after = _scores(expected, size, 4.0, number)
    calibrator = fit_calibrator(after.log_probs, expected, decision.labels, settings)
    probabilities = calibrator.probabilities(after.log_probs)
    majority = SimpleAnswers("majority", "", np.full(len(rows), np.bincount(expected).argmax()))
    guess = _scores(expected, size, 2.0, 100 + number).probabilities.argmax(axis=1)
    return DecisionAnswers(
        rows,
        expected,
        _scores(expected, size, 0.2, 50 + number),
        after,
        LabelScores(after.log_probs, probabilities),
        probabilities.max(axis=1) < 0.6,
        calibrator,
        "validation",
        (majority, SimpleAnswers("tfidf", "C = 3", guess)),
    )


@cache
def questions_record() -> QuestionsRecord:
    """A whole run with a question of each type."""
    return record_of(questions_recipe())


def record_of(made: Recipe) -> QuestionsRecord:
    """A whole run of the recipe ``made``."""
    truth = [_truth(decision, number) for number, decision in enumerate(made.task.decisions)]
    rows = tuple(zip(*truth, strict=True))
    splits = [Split(name, ("a text",) * ROWS, (0,) * ROWS, answers=rows) for name in ("train", "validation", "test")]
    answers = [
        _decision(decision, truth[number], number, made.evaluate) for number, decision in enumerate(made.task.decisions)
    ]
    results = []
    for name in made.task.questions:
        own = [one for one, asked in zip(answers, made.task.decisions, strict=True) if asked.question == name]
        results.append(measure_question(made.task, name, splits, splits[2], own, made.evaluate))
    splits_facts = {split.name: SplitFacts(len(split), split.fingerprint(), {}) for split in splits}
    return QuestionsRecord(made, replace(manifest(()), splits=splits_facts), history(), tuple(results))
