"""The scikit-learn estimator: scikit-learn's own checks, pipelines, folds, pickles and saved folders."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from tests.helpers import finished_runs, tiny_models
from whinchat import Classifier
from whinchat.classifier import InputError
from whinchat.errors import RecipeError
from whinchat.inference.predictor import Predictor

SETTINGS = {"backbone.load_in": "float32", "backbone.device": "cpu", "adapter.r": 8, "adapter.lora_alpha": 16}


def classifier(model: Path, **settings: Any) -> Classifier:
    small = {"num_train_epochs": 6, "learning_rate": 1e-2, "settings": SETTINGS}
    return Classifier(model=str(model), **{**small, **settings})


def rows(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    texts, labels = tiny_models.toy_rows(count, tiny_models.ONE_TOKEN, seed)
    return list(texts), [tiny_models.ONE_TOKEN[label] for label in labels]


@pytest.fixture(scope="module")
def fitted(tiny_llama: Path) -> Classifier:
    return classifier(tiny_llama).fit(*rows(200))


def test_learns_and_answers_in_sklearns_manners(fitted: Classifier) -> None:
    texts, labels = rows(40, seed=9)
    assert fitted.classes_.tolist() == sorted(set(labels))
    shares, predicted = fitted.predict_proba(texts), fitted.predict(texts)
    assert shares.shape == (40, len(fitted.classes_))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert predicted.tolist() == fitted.classes_[shares.argmax(axis=1)].tolist(), "metric: accuracy"
    assert fitted.score(texts, labels) > 0.9
    # Arrays and columns of tables are sequences of texts, too.
    for same_texts in (np.array(texts), pd.Series(texts, index=range(5, 45)), tuple(texts)):
        np.testing.assert_allclose(fitted.predict_proba(same_texts), shares, atol=1e-6)


def test_sklearns_own_checks(tiny_llama: Path) -> None:
    # Those that apply to an estimator of texts; the others feed tables of numbers.
    with pytest.warns(UserWarning, match="Can't test estimator Classifier"):
        check_estimator(classifier(tiny_llama))


def test_parameters(tiny_llama: Path) -> None:
    estimator = classifier(tiny_llama, metric="macro_f1")
    assert clone(estimator).get_params() == estimator.get_params()
    assert estimator.set_params(learning_rate=0.5).learning_rate == 0.5
    with pytest.raises(ValueError, match="Invalid parameter"):
        estimator.set_params(learning_rat=1)
    with pytest.raises(NotFittedError):
        estimator.predict(["a"])


def test_pipeline_folds_and_search(tiny_llama: Path) -> None:
    texts, labels = rows(200, seed=2)
    estimator = classifier(tiny_llama, validation_fraction=0, num_train_epochs=12)
    steps = Pipeline([("tidy", FunctionTransformer(lambda X: [text.strip() for text in X])), ("model", estimator)])
    assert cross_val_score(steps, np.array(texts), labels, cv=2).mean() > 0.6
    search = GridSearchCV(steps, {"model__learning_rate": [1e-6, 1e-2]}, cv=2, scoring="f1_macro")
    search.fit(np.array(texts), labels)
    assert search.best_params_ == {"model__learning_rate": 1e-2}


def test_copies_need_no_folder(fitted: Classifier) -> None:
    texts, _ = rows(12, seed=4)
    copy = pickle.loads(pickle.dumps(fitted))
    assert not hasattr(copy, "_predictor")
    np.testing.assert_allclose(copy.predict_proba(texts), fitted.predict_proba(texts), atol=1e-6)
    assert copy.predict(texts).tolist() == fitted.predict(texts).tolist()


def test_saved_and_loaded(fitted: Classifier, tmp_path: Path) -> None:
    texts, _ = rows(12, seed=5)
    fitted.save_pretrained(tmp_path / "saved")
    again = Classifier.from_pretrained(tmp_path / "saved")
    assert again.classes_.tolist() == fitted.classes_.tolist()
    assert again.recipe_ == fitted.recipe_
    np.testing.assert_allclose(again.predict_proba(texts), fitted.predict_proba(texts), atol=1e-6)
    # Every command that takes a run takes it.
    predictor = Predictor.load(tmp_path / "saved")
    predictions = predictor.predict(texts)
    np.testing.assert_allclose(predictions.probabilities, fitted.predict_proba(texts), atol=1e-6)


def test_loaded_with_all_its_parameters(tiny_llama: Path, tmp_path: Path) -> None:
    words = {0: "bad", 1: "good"}
    settings = {**SETTINGS, "train.warmup_steps": 2.0, "task.clean": ["spaces"], "adapter.target_modules": ["q_proj"]}
    estimator = classifier(
        tiny_llama, answers=words, metric="macro_f1", validation_fraction=0.25, settings=settings, num_train_epochs=1
    )
    texts, labels = tiny_models.toy_rows(40, ("bad", "good"), 11)
    estimator.fit(texts, labels).save_pretrained(tmp_path)
    loaded = Classifier.from_pretrained(tmp_path)
    parameters, restored = estimator.get_params(), loaded.get_params()
    assert restored.pop("instruction") == estimator.recipe_.task.instruction
    assert {str(label): word for label, word in parameters.pop("answers").items()} == restored.pop("answers")
    lists = {"task.clean": ("spaces",), "adapter.target_modules": ("q_proj",)}
    assert restored.pop("settings") == {**parameters.pop("settings"), **lists}
    del parameters["instruction"]
    assert restored == parameters
    # Fitted again, it is trained by the same recipe.
    assert clone(loaded).fit(texts, labels).recipe_ == estimator.recipe_


def test_a_run_is_a_classifier(tiny_llama: Path) -> None:
    run = finished_runs.finished_run(tiny_llama)
    estimator, predictor = Classifier.from_pretrained(run), Predictor.load(run)
    texts, _ = rows(12, seed=6)
    assert tuple(estimator.classes_) == predictor.recipe.task.labels
    assert estimator.predict(texts).tolist() == predictor.predict(texts).label_names
    assert estimator.get_params()["learning_rate"] == predictor.recipe.train.learning_rate
    assert estimator.settings is not None
    assert estimator.settings["adapter.lora_dropout"] == predictor.recipe.adapter.lora_dropout
    sections = ("backbone", "adapter", "train", "task", "evaluate")
    rebuilt = estimator._recipe(predictor.recipe.task.labels)
    assert all(getattr(rebuilt, name) == getattr(predictor.recipe, name) for name in sections)


def test_labels_keep_their_kind(tiny_llama: Path, tmp_path: Path) -> None:
    texts, labels = tiny_models.toy_rows(40, tiny_models.ONE_TOKEN, 7)
    words = dict(enumerate(tiny_models.ONE_TOKEN))
    estimator = classifier(tiny_llama, answers=words, class_weight=dict.fromkeys(words, 1.0), num_train_epochs=1)
    estimator.fit(texts, np.array(labels))
    assert estimator.classes_.dtype.kind == "i"
    assert all(f'"{word}"' in estimator.recipe_.task.instruction for word in tiny_models.ONE_TOKEN)
    assert set(estimator.predict(texts).tolist()) <= set(labels)
    estimator.save_pretrained(tmp_path)
    assert Classifier.from_pretrained(tmp_path).classes_.tolist() == estimator.classes_.tolist()


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ("one text", ["a"], "one string"),
        ([], [], "no texts"),
        ([1.0, 2.0], ["a", "b"], "row 0 is a float, not a string"),
        (["a", None], ["a", "b"], "row 1 is a NoneType"),
        (np.array([["a"], ["b"]]), ["a", "b"], "2 dimensions"),
        (["a", "b"], ["a"], "y: has the shape"),
        (["a", "b"], [["a"], ["b"]], "y: has the shape"),
        (["a", "b"], ["a", "a"], "1 class, and a classifier needs 2"),
    ],
)
def test_bad_input(tiny_llama: Path, X: Any, y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as fault:
        classifier(tiny_llama).fit(X, y)
    assert isinstance(fault.value, ValueError)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -1.0}, "train.learning_rate"),
        ({"settings": {"rank": 3}}, "'rank' is no key of a recipe"),
        ({"settings": {"adapter.rank": 3}}, r"adapter\.rank: unknown key"),
        ({"metric": "f2"}, "evaluate.metric"),
        ({"validation_fraction": 1.5}, "validation_fraction: must lie"),
        ({"class_weight": {"nobody": 1.0}}, "class_weights: must name each label once"),
    ],
)
def test_bad_settings(tiny_llama: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        classifier(tiny_llama, **settings).fit(*rows(20))


def test_importing_it_loads_no_training_and_no_reporting() -> None:
    code = "import sys, whinchat.classifier, whinchat.server.serve; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = ("whinchat.training", "whinchat.report", "whinchat.pipelines", "whinchat.hub.repository", "matplotlib")
    assert "whinchat.inference.predictor" in modules
    assert [name for name in modules if name.startswith(heavy)] == []
