"""The scikit-learn estimator: scikit-learn's own checks, pipelines, folds, pickles and saved folders."""

from __future__ import annotations

import enum
import math
import pickle
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from tests.helpers import finished_runs, tiny_models
from whinchat import Classifier
from whinchat.data.dataset import Split
from whinchat.data.estimator_input import InputError, class_labels, hold_out, plain_texts
from whinchat.errors import RecipeError
from whinchat.inference.predictor import Predictor
from whinchat.recipe.estimator_recipe import estimator_recipe

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
    estimator = classifier(tiny_llama, validation_fraction=0, num_train_epochs=8)
    steps = Pipeline([("tidy", FunctionTransformer(lambda X: [text.strip() for text in X])), ("model", estimator)])
    search = GridSearchCV(steps, {"model__learning_rate": [1e-6, 1e-2]}, cv=2, scoring="f1_macro", refit=False)
    search.fit(np.array(texts), labels)
    assert search.best_params_ == {"model__learning_rate": 1e-2}
    assert search.best_score_ > 0.6


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
    rebuilt = estimator_recipe(
        estimator.get_params(), predictor.recipe.task.labels, predictor.recipe.task.labels, predictor.recipe.train.seed
    )
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


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", "X: is one string"),
        (b"one text", "X: is one string"),
        ({"a", "b"}, "X: is a set; give a list of texts"),
        (7, "X: is a int; give a list of texts"),
        ([], "X: holds no texts"),
        (iter(()), "X: holds no texts"),
        ([1.0, 2.0], "X: row 0 is a float, not a string"),
        (["a", None], "X: row 1 has no text"),
        (["a", math.nan], "X: row 1 has no text"),
        (pd.Series(["a", pd.NA]), "X: row 1 has no text"),
        (np.array([["a"], ["b"]]), "X: has 2 dimensions"),
        (["a", ""], "X: row 1 is empty"),
        (["a", " \n\u00a0"], "X: row 1 is empty"),
        (["a", "caf\udce9"], r"X: row 1 holds half a character \(at position 3\)"),
        (["a\ud83d", "b"], r"X: row 0 holds half a character \(at position 1\)"),
    ],
)
def test_texts_that_are_none(fitted: Classifier, X: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as fault:
        plain_texts(X)
    assert isinstance(fault.value, ValueError)
    if not isinstance(X, Iterator):
        with pytest.raises(InputError, match=message):
            fitted.predict(X)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a"], "y: holds 1 labels for 2 texts"),
        ([["a", "b"], ["a", "b"]], "y: row 0 is a list"),
        (np.zeros((2, 2)), r"y: has the shape \(2, 2\)"),
        (None, "the target y is None"),
        ("ab", "y: is a str; give a list"),
        (["a", "a"], "y: holds 1 class, and a classifier needs 2"),
        (["a", None], "y: row 1 has no label; remove the row or label it"),
        (["a", math.nan], "y: row 1 has no label"),
        (pd.Series([0, None]), "y: row 1 has no label"),
        (pd.Series([0, None], dtype="Int64"), "y: row 1 has no label"),
        (pd.Series(["a", pd.NA], dtype="string"), "y: row 1 has no label"),
        (pd.Categorical(["a", None]), "y: row 1 has no label"),
        (pd.Series(pd.to_datetime(["2020-01-01", None])), "y: row 0 is a Timestamp; give strings, whole numbers or"),
        (np.array(["NaT", "2020-01-02"], dtype="datetime64[D]"), "y: row 0 has no label"),
        (np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"), "y: row 0 is a date; give strings, whole"),
        (np.array([b"bad", b"good"]), "y: row 0 is bytes; decode the labels"),
        ([0.5, 1.0], "y: row 0 is 0.5; give strings, whole numbers or booleans"),
        ([math.inf, 1.0], "y: row 0 is inf"),
        ([Decimal(1), Decimal("NaN")], "y: row 0 is a Decimal"),
        ([Colour.RED, Colour.RED], "y: row 0 is a Colour; give strings"),
        (["a", 1], r"y: holds labels of several types \(row 0 a str, row 1 a int\)"),
        ([True, 1], "y: holds labels of several types"),
        (["a", " "], "y: row 1 is empty"),
        (["a", "b\n"], r"y: row 1 holds U\+000A \(a control character\) at position 1"),
        (["a", "\ud83d"], "y: row 1 holds half a character"),
        (["a", "b\u200f"], "y: row 1 holds U.200F .RIGHT-TO-LEFT MARK."),
    ],
)
def test_labels_that_are_none(tiny_llama: Path, y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier(tiny_llama).fit(["a", "b"], y)


def labels_of(y: Any) -> tuple[list[Any], list[str], list[int]]:
    labels = class_labels(y, 3)
    return labels.classes.tolist(), list(labels.names), list(labels.indices)


def test_labels_of_every_kind() -> None:
    for numbers in ([1, 0, 1], np.array([1, 0, 1], np.int8), pd.Series([1, 0, 1], dtype="Int64"), iter((1, 0, 1))):
        assert labels_of(numbers) == ([0, 1], ["0", "1"], [1, 0, 1])
    assert labels_of([1.0, 0, 1]) == ([0.0, 1.0], ["0", "1"], [1, 0, 1])
    assert class_labels(pd.Series([1.0, 0.0]), 2).classes.dtype == np.float64
    assert labels_of(np.array([True, False, True])) == ([False, True], ["False", "True"], [1, 0, 1])
    for words in (["b", "a", "b"], np.array(["b", "a", "b"], dtype=object), pd.Categorical(["b", "a", "b"])):
        assert labels_of(words) == (["a", "b"], ["a", "b"], [1, 0, 1])
    for column in (np.array([["b"], ["a"], ["b"]]), pd.DataFrame({"y": ["b", "a", "b"]}), [["b"], ["a"], ["b"]]):
        with pytest.warns(DataConversionWarning, match="column-vector y"):
            assert labels_of(column) == (["a", "b"], ["a", "b"], [1, 0, 1])


def test_keys_of_weights_and_answers_are_the_labels_whatever_their_number_type() -> None:
    names, classes = ("0", "1", "2"), [0.0, 1.0, 2.0]
    estimator = Classifier(class_weight={0: 2.0, np.int64(1): 3.0}, answers={2: "two"}, model=Path("here"))
    recipe = estimator_recipe(estimator.get_params(), names, classes, 7)
    assert recipe.train.class_weights == {"0": 2.0, "1": 3.0, "2": 1.0}, "as in scikit-learn, the others weigh 1"
    assert (recipe.task.answers, recipe.backbone.model, recipe.train.seed) == ({"2": "two"}, "here", 7)
    estimator.set_params(class_weight=np.array([1.0]))
    with pytest.raises(RecipeError, match=r"train\.class_weights"):
        estimator_recipe(estimator.get_params(), names, classes, 7)


def test_a_label_is_never_held_out_whole() -> None:
    texts = tuple(f"text {row}" for row in range(12))
    labels = class_labels(["a"] * 6 + ["b"] * 5 + ["c"], 12)
    for seed in range(10):
        corpus = hold_out(Split("train", texts, labels.indices), labels, 0.5, seed, "y")
        assert corpus.validation is not None
        assert set(corpus.train.labels) == {0, 1, 2}
        assert len(corpus.train) + len(corpus.validation) == 12
    same = ("text",) * 6 + texts[6:]
    assert set(hold_out(Split("train", same, labels.indices), labels, 0.6, 0, "y").train.labels) == {0, 1, 2}
    with pytest.raises(InputError, match="y: no row of 'c' is left to train on"):
        hold_out(Split("train", texts, labels.indices, (1.0,) * 11 + (0.0,)), labels, 0.6, 0, "y")
    with pytest.raises(RecipeError, match=r"validation_fraction: 0\.95 of 12 rows leaves too few"):
        hold_out(Split("train", texts, labels.indices), labels, 0.95, 0, "y")


def test_a_weighted_text_counts_as_the_same_text_given_again(tiny_llama: Path) -> None:
    texts, labels = rows(8, seed=3)
    weights = [3, 1, 1, 0, 2, 1, 1, 1]
    one_batch = {"validation_fraction": 0, "per_device_train_batch_size": 16, "learning_rate": 1e-3}
    repeated = [row for row, weight in enumerate(weights) for _ in range(weight)]
    many = classifier(tiny_llama, **one_batch).fit([texts[row] for row in repeated], [labels[row] for row in repeated])
    weighted = classifier(tiny_llama, **one_batch).fit(texts, labels, sample_weight=np.array(weights) / 7)
    equal = classifier(tiny_llama, **one_batch).fit(texts, labels)
    new_texts, _ = rows(20, seed=8)
    expected = many.predict_proba(new_texts)
    np.testing.assert_allclose(weighted.predict_proba(new_texts), expected, atol=2e-4)
    assert np.abs(equal.predict_proba(new_texts) - expected).max() > 2e-3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"sample_weight: has the shape \(1,\); give one number for each of the 2 texts"),
        ([1.0, -1.0], r"sample_weight: row 1 is -1\.0; weights are finite and zero or more"),
        ([math.nan, 1.0], "sample_weight: row 0 is nan"),
        ([math.inf, 1.0], "sample_weight: row 0 is inf"),
        ([0, 0], "sample_weight: every weight is 0"),
        (["x", "y"], "sample_weight: holds something that is no number"),
    ],
)
def test_weights_that_are_none(tiny_llama: Path, weights: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier(tiny_llama).fit(["a", "b"], ["x", "y"], sample_weight=weights)


def test_random_states() -> None:
    seeds = [Classifier(random_state=np.random.RandomState(1))._seed() for _ in range(2)]
    assert seeds[0] == seeds[1]
    assert Classifier(random_state=None)._seed() != Classifier(random_state=None)._seed()
    estimator = Classifier(random_state="x")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(RecipeError, match=r"train\.seed: input should be a valid integer"):
        estimator_recipe(estimator.get_params(), ("a", "b"), ("a", "b"), estimator._seed())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -1.0}, "train.learning_rate"),
        ({"settings": {"rank": 3}}, "'rank' is no key of a recipe"),
        ({"settings": {"adapter.rank": 3}}, r"adapter\.rank: unknown key"),
        ({"metric": "f2"}, "evaluate.metric"),
        ({"validation_fraction": 1.5}, "validation_fraction: must lie"),
        ({"class_weight": {"nobody": 1.0}}, "class_weights: must name each label once"),
        ({"class_weight": dict.fromkeys(tiny_models.ONE_TOKEN, 0)}, "class_weights: no weight is above 1e-06"),
        ({"class_weight": dict.fromkeys(tiny_models.ONE_TOKEN, math.inf)}, "input should be a finite number"),
        ({"class_weight": dict.fromkeys(tiny_models.ONE_TOKEN, -1)}, "class_weights: a weight is below zero"),
        ({"validation_fraction": math.nan}, "validation_fraction: must lie"),
        ({"validation_fraction": None}, "validation_fraction: must lie"),
        ({"num_train_epochs": math.inf}, "num_train_epochs: input should be a finite number"),
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
