"""A tiny task with one question of each type, its rows with gaps, and the plain losses of each decision alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.helpers import plain_forward, tiny_models
from whinchat.data.dataset import Answer, Split
from whinchat.evaluation.joint_scoring import decision_engines
from whinchat.models.forward import Engine
from whinchat.recipe.schema import Recipe

QUESTIONS: dict[str, Any] = {
    "mood": {"type": "choice", "instructions": "Which mood?", "options": list(tiny_models.BRANCHING)},
    "rain": {"type": "yes_no", "instructions": "Is there rain?", "class_weights": "balanced"},
    "quality": {"type": "score", "instructions": "How good?", "levels": ["bad", "fine", "good"]},
    "tags": {"type": "multi", "instructions": "Which of these?", "options": {"train": "By rail", "sea": None}},
}
# mood, rain, quality, tags: train, tags: sea
ANSWERS: tuple[tuple[Answer, ...], ...] = (
    (0, 1, 2, 0, 1),
    (1, None, 0, 1, 1),
    ((0.5, 0.25, 0.25, 0.0), 0, 1, None, None),
    (3, 0, None, 0, 0),
    (None, None, 1, None, None),
    (2, 1, 2, 1, 0),
)


def recipe_for(model: Path | str, template: str = "{text}\n\n{question}", **sections: Any) -> Recipe:
    """Return a recipe with a question of each type; ``sections`` replace those of ``tiny_models.tiny_recipe``."""
    raw = tiny_models.tiny_recipe(model, **sections).model_dump()
    raw["task"] = {"name": "tiny", "questions": QUESTIONS, "instruction": "Answer.", "user_template": template}
    raw["train"]["loss"], raw["evaluate"]["generate"] = "choice", False
    return Recipe.model_validate(raw)


def rows_of(recipe: Recipe, count: int = len(ANSWERS)) -> Split:
    """Return rows with ``ANSWERS`` in turn, some of which are missing, and one of which is shares."""
    answers = tuple(ANSWERS[row % len(ANSWERS)] for row in range(count))
    missing = len(recipe.task.decisions[0].labels)
    first = [row[0] for row in answers]
    labels = tuple(one if isinstance(one, int) else missing if one is None else 0 for one in first)
    texts = [tiny_models.TEXTS[row % len(tiny_models.TEXTS)] for row in range(count)]
    return Split("train", tuple(texts), labels, answers=answers)


def plain_loss(model: Any, engine: Engine, recipe: Recipe, rows: Split) -> Tensor:
    """Return the loss of all rows by plain passes of each decision alone, divided by the number of given answers."""
    total = torch.zeros(())
    questions = set()
    for index, own in enumerate(decision_engines(engine, recipe.task)):
        decision = recipe.task.decisions[index]
        weights = [1.0] * len(decision.labels)
        part = 0.5 if decision.question == "tags" else 1.0
        given = [row for row, answers in enumerate(rows.answers) if answers[index] is not None]
        if decision.question == "rain":
            counts = [sum(rows.answers[row][index] == label for row in given) for label in (0, 1)]
            weights = [len(given) / (2 * count) for count in counts]
        for row in given:
            questions.add((row, decision.question))
            (prompt,) = own.template.encode([rows.texts[row]])
            answers = plain_forward.scored_answers(own.template)
            scores = torch.stack([plain_forward.answer_log_prob(model, prompt.ids, answer) for answer in answers])
            answer = rows.answers[row][index]
            shares = [float(label == answer) for label in range(len(weights))] if isinstance(answer, int) else answer
            wanted = torch.tensor(shares) * torch.tensor(weights)
            total = total - part * (wanted * scores.log_softmax(0)).sum()
    return total / len(questions)
