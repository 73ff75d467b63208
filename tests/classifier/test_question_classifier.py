"""The estimator of several questions: forms of answers, scikit-learn's manners, saving and loading."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from tests.helpers import tiny_models, tiny_questions
from whinchat.data.estimator_input import InputError
from whinchat.data.learned_texts import find_learned, read_learned
from whinchat.errors import DataError, RecipeError
from whinchat.question_classifier import QuestionClassifier

SETTINGS = {"train.max_steps": 4, "backbone.load_in": "float32", "backbone.device": "cpu"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], pd.DataFrame]:
    source = tiny_questions.write_table(tmp_path_factory.mktemp("table") / "table.csv", 48)
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    answers = pd.DataFrame(
        {
            "mood": [row["feeling"] for row in rows],
            "rain": [row["rain"] or None for row in rows],
            "quality": [row["quality"] for row in rows],
            "tags": [json.loads(row["tags"]) if row["tags"] else None for row in rows],
        }
    )
    return [f"{row['title']} {row['body']}" for row in rows], answers


def estimator(model: Path, **parameters: Any) -> QuestionClassifier:
    return QuestionClassifier(
        tiny_questions.QUESTIONS, model=model, per_device_train_batch_size=4, settings=SETTINGS, **parameters
    )


@pytest.fixture(scope="module")
def fitted(tiny_llama: Path, table: tuple[list[str], pd.DataFrame]) -> QuestionClassifier:
    return estimator(tiny_llama).fit(*table)


def test_outputs_are_those_of_scikit_learn(fitted: QuestionClassifier, table: tuple[list[str], pd.DataFrame]) -> None:
    texts, answers = table
    assert fitted.output_names_ == ["mood", "rain", "quality", "tags: train", "tags: sea"]
    assert [classes.tolist() for classes in fitted.classes_] == [
        list(tiny_models.BRANCHING), ["no", "yes"], ["bad", "fine", "good"], [0, 1], [0, 1],
    ]  # fmt: skip
    probabilities, found = fitted.predict_proba(texts), fitted.predict(texts)
    assert found.shape == (48, 5)
    for index, (classes, shares) in enumerate(zip(fitted.classes_, probabilities, strict=True)):
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        assert found[:, index].tolist() == classes[shares.argmax(axis=1)].tolist()
    # An answer that is given is compared, a missing one is not.
    own = {name: fitted.answer(texts).answers(name) for name in tiny_questions.QUESTIONS}
    assert fitted.score(texts, own) == 1
    assert fitted.score(texts, own | {"rain": [None] * 48}) == 1
    assert fitted.score(texts, found) == 1
    assert fitted.score(texts, answers) < 1
    assert clone(fitted).get_params()["questions"] == tiny_questions.QUESTIONS


def test_a_saved_and_a_pickled_classifier_answer_alike(
    fitted: QuestionClassifier, table: tuple[list[str], pd.DataFrame], tmp_path: Path
) -> None:
    texts = table[0][:6]
    fitted.save_pretrained(tmp_path / "saved")
    copies = QuestionClassifier.from_pretrained(tmp_path / "saved"), pickle.loads(pickle.dumps(fitted))
    learned = read_learned(tmp_path / "saved")
    assert learned is not None
    assert find_learned(learned, table[0])
    copies[0].save_pretrained(tmp_path / "again")
    assert read_learned(tmp_path / "again") == learned
    for other in copies:
        for mine, theirs in zip(fitted.predict_proba(texts), other.predict_proba(texts), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_multi_alone_takes_and_gives_an_indicator_matrix(tiny_llama: Path) -> None:
    texts = [f"{'rain ' if row % 2 else ''}{'tea ' if row % 3 else ''}day {row}" for row in range(30)]
    wanted = np.array([[row % 2, int(row % 3 > 0)] for row in range(30)])
    questions = {"tags": {"type": "multi", "instructions": "Which of these?", "options": ["rain", "tea"]}}
    model = QuestionClassifier(questions, model=tiny_llama, settings=SETTINGS, validation_fraction=0).fit(texts, wanted)
    found = model.predict(texts)
    assert found.shape == wanted.shape
    assert set(np.unique(found)) <= {0, 1}
    assert found.dtype.kind == "i"
    assert model.score(texts, found) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda answers: answers.drop(columns="mood"), InputError, "Y: has no column mood"),
        (lambda answers: answers[:5], InputError, "mood has 5 rows for 48 texts"),
        (lambda answers: np.zeros((48, 3)), InputError, r"shape \(48, 3\); give an array \(N, 5\)"),
        (lambda answers: answers.assign(mood="furious"), DataError, "furious"),
        (
            lambda answers: answers.assign(rain="no"),
            DataError,
            "texts given to fit: rain: no training row is answered yes",
        ),
        (lambda answers: answers.assign(mood=None, rain=None, quality=None, tags=None), DataError, "48 rows"),
    ],
)
def test_answers_that_do_not_fit_are_refused(
    tiny_llama: Path, table: tuple[list[str], pd.DataFrame], change: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        estimator(tiny_llama).fit(table[0], change(table[1]))


def test_wrong_questions_are_refused(tiny_llama: Path, table: tuple[list[str], pd.DataFrame]) -> None:
    questions = {"mood": {"type": "choice", "instructions": "Which?", "options": ["one"]}}
    with pytest.raises(RecipeError, match="2 to 255 options"):
        QuestionClassifier(questions, model=tiny_llama).fit(*table)
