"""A tiny task with one question of each type, its rows with gaps, and the plain losses of each decision alone."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.helpers import plain_forward, tiny_models
from tests.helpers.shared_folders import make_once
from whinchat.data.dataset import Answer, Split
from whinchat.evaluation.joint_scoring import decision_engines
from whinchat.models.forward import Engine
from whinchat.pipelines.run import run
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
    raw["data"]["answers"] = {"mood": "feeling"}
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
    answers_given = 0
    for index, own in enumerate(decision_engines(engine, recipe.task)):
        decision = recipe.task.decisions[index]
        weights = [1.0] * len(decision.labels)
        given = [row for row, answers in enumerate(rows.answers) if answers[index] is not None]
        if decision.question == "rain":
            counts = [sum(rows.answers[row][index] == label for row in given) for label in (0, 1)]
            weights = [len(given) / (2 * count) for count in counts]
        for row in given:
            answers_given += 1
            (prompt,) = own.template.encode([rows.texts[row]])
            answers = plain_forward.scored_answers(own.template)
            scores = torch.stack([plain_forward.answer_log_prob(model, prompt.ids, answer) for answer in answers])
            answer = rows.answers[row][index]
            shares = [float(label == answer) for label in range(len(weights))] if isinstance(answer, int) else answer
            wanted = torch.tensor(shares) * torch.tensor(weights)
            total = total - (wanted * scores.log_softmax(0)).sum()
    return total / answers_given


def write_table(path: Path, rows: int = 90) -> Path:
    """Write a CSV whose answers follow from words of title and body; some answers are missing."""
    draw = random.Random(0)
    moods = dict(zip(tiny_models.BRANCHING, ("rain", "tea", "sun", "snow"), strict=True))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("title", "body", "feeling", "rain", "quality", "tags"))
        for row in range(rows):
            mood, quality = draw.choice(tiny_models.BRANCHING), draw.choice(("bad", "fine", "good"))
            tags = [tag for tag in ("train", "sea") if draw.random() < 0.5]
            body = f"{quality} {' and '.join(tags)} day {row}"
            rain = "" if row % 7 == 3 else "yes" if mood == "very bad" else "no"
            listed = "" if row % 9 == 2 else json.dumps(tags)
            writer.writerow((moods[mood], body, mood, rain, quality, listed))
    return path


def table_recipe(model: Path | str, source: Path, **train: Any) -> Recipe:
    """Return a recipe for a table of ``write_table`` that runs in seconds."""
    return recipe_for(
        model,
        source=source,
        data={"validation_rows": 20, "test_rows": 20, "text": "{title}\n\n{body}"},
        train={"max_steps": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "save_steps": 3, **train},
        evaluate={"bootstrap_resamples": 100, "stress_rows": 4, "per_device_eval_batch_size": 16},
    )


def finished_run(model: Path) -> Path:
    """Return a finished run with a question of each type, its table beside it; made once, to be read only."""

    def make(folder: Path) -> None:
        folder.mkdir()
        run(table_recipe(model, write_table(folder / "table.csv")), folder / "run")

    return make_once(model.parent / f"{model.name}-questions", make) / "run"
