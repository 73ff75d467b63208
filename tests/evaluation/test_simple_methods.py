"""The simple methods beside a classifier: fitted on its training rows, measured on its evaluated rows."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.helpers.run_records import recipe
from whinchat.data.dataset import Split
from whinchat.evaluation import counted_texts
from whinchat.evaluation.results import Baseline, Mode
from whinchat.evaluation.simple_methods import answer_simply, measure_simple_answers
from whinchat.recipe.schema import Recipe, TrainConfig

WORDS = (("awful", "sad", "bad"), ("table", "bus", "door"), ("lovely", "happy", "great"))


def measure_baselines(
    settings: Recipe, train: Split, evaluated: Split, answers: Any, mode: Mode
) -> tuple[Baseline, ...]:
    return measure_simple_answers(answer_simply(settings, train, evaluated.texts), settings, evaluated, answers, mode)


def split(name: str, rows: int, seed: int, shares: tuple[float, ...] = (0.5, 0.3, 0.2)) -> Split:
    """Texts in which every third word tells the label, and three in ten labels are wrong."""
    draw = random.Random(seed)
    labels = draw.choices(range(3), shares, k=rows)
    texts = tuple(
        " ".join(draw.choice(WORDS[label if draw.random() < 0.7 else draw.randrange(3)]) for _ in range(2))
        for label in labels
    )
    return Split(name, texts, tuple(labels))


def small_recipe(**train: object) -> Recipe:
    made = recipe()
    evaluate = made.evaluate.model_copy(update={"bootstrap_resamples": 200})
    return made.model_copy(update={"evaluate": evaluate, "train": TrainConfig(**train)})


def test_both_are_measured_beside_the_answers_of_the_classifier() -> None:
    train, evaluated = split("train", 300, 1), split("test", 200, 2)
    answers = np.array(evaluated.labels)
    majority, tfidf = measure_baselines(small_recipe(), train, evaluated, answers, "calibrated")
    assert (majority.name, tfidf.name) == ("majority", "tfidf")
    constant = np.full(200, 0)
    assert majority.metrics.macro_f1 == pytest.approx(f1_score(answers, constant, average="macro", zero_division=0))
    assert 0.6 < tfidf.metrics.macro_f1 < 0.95
    assert tfidf.metrics.n == 200
    assert tfidf.settings.startswith("C = ")
    # The classifier is right everywhere here.
    for one in (majority, tfidf):
        assert one.paired.mode == "calibrated"
        assert one.paired.macro_f1_gain == pytest.approx(1 - one.metrics.macro_f1)
        assert one.paired.interval.low > 0


def test_the_result_is_the_same_each_time() -> None:
    train, evaluated = split("train", 90, 1), split("test", 40, 2)
    answers = np.zeros(40, dtype=np.int64)
    first, second = (measure_baselines(small_recipe(), train, evaluated, answers, "score")[1] for _ in range(2))
    assert first.metrics.confusion == second.metrics.confusion


def test_label_weights_of_the_recipe_count() -> None:
    train, evaluated = split("train", 300, 1, (0.9, 0.05, 0.05)), split("test", 300, 2)
    plain, balanced = (
        measure_baselines(small_recipe(class_weights=weights), train, evaluated, np.zeros(300, np.int64), "score")[1]
        for weights in ("none", "balanced")
    )
    assert balanced.metrics.macro_recall > plain.metrics.macro_recall + 0.05


@pytest.mark.parametrize("labels", [(0,) * 12, (0,) * 11 + (2,), (0, 1)])
def test_labels_that_are_hardly_there(labels: tuple[int, ...]) -> None:
    train = Split("train", tuple(f"{WORDS[label][0]} {row}" for row, label in enumerate(labels)), labels)
    found = measure_baselines(small_recipe(), train, split("test", 30, 2), np.zeros(30, np.int64), "score")
    assert [one.name for one in found] == (["majority"] if len(set(labels)) < 2 else ["majority", "tfidf"])


def test_a_lot_of_text_is_read_by_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_texts, "MOST_CHARACTERS", 10)
    train, evaluated = split("train", 90, 1), split("test", 40, 2)
    _, tfidf = measure_baselines(small_recipe(), train, evaluated, np.zeros(40, np.int64), "score")
    assert tfidf.settings.endswith(", words only")
    assert tfidf.metrics.macro_f1 > 0.5
