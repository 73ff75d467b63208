"""What a ``Classifier`` tells its user: progress, unsure answers, reports, and a picture in a notebook."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

import whinchat
from tests.helpers import finished_runs, tiny_models
from whinchat import Classifier
from whinchat.data.estimator_input import InputError
from whinchat.errors import RecipeError

SETTINGS = {"backbone.load_in": "float32", "backbone.device": "cpu", "evaluate.wanted_accuracy": 0.9}


def rows(count: int, seed: int) -> tuple[list[str], list[int]]:
    texts, labels = tiny_models.toy_rows(count, tiny_models.ONE_TOKEN, seed)
    return list(texts), [10 * label for label in labels]


def classifier(model: Path, **settings: Any) -> Classifier:
    """A classifier of the labels 0, 10 and 20."""
    small = {"num_train_epochs": 5, "learning_rate": 1e-2, "validation_fraction": 0.3, "settings": SETTINGS}
    return Classifier(model=str(model), **{**small, **settings})


@pytest.fixture(scope="module")
def fitted(tiny_llama: Path) -> Classifier:
    return classifier(tiny_llama).fit(*rows(180, 0))


@pytest.mark.parametrize(("verbose", "lines"), [(0, 0), (1, 1)])
def test_verbose(tiny_llama: Path, capfd: pytest.CaptureFixture[str], verbose: int, lines: int) -> None:
    model = classifier(tiny_llama, num_train_epochs=1, verbose=verbose).fit(*rows(30, 1))
    model.predict(["the day"])
    shown = capfd.readouterr()
    assert shown.out == ""
    assert len(re.findall(r"^\d\d:\d\d:\d\d ", shown.err, re.M)) >= lines
    assert bool(shown.err) == bool(lines), shown.err


def test_answers_that_are_not_sure_are_none(fitted: Classifier) -> None:
    texts, _ = rows(60, 5)
    plain, careful = fitted.predict(texts), fitted.predict(texts, abstain=True)
    threshold = fitted._predictor.calibrator.threshold
    unsure = fitted.predict_proba(texts).max(axis=1) < threshold
    assert 0 < unsure.sum() < 60
    assert [answer is None for answer in careful] == unsure.tolist()
    assert careful[~unsure].tolist() == plain[~unsure].tolist()
    assert plain.dtype.kind == "i", "without abstain, labels keep their type"


def test_without_a_threshold_nothing_is_unsure(tiny_llama: Path) -> None:
    model = classifier(tiny_llama, num_train_epochs=1, validation_fraction=0).fit(*rows(30, 1))
    with pytest.raises(InputError, match=r"abstain: this classifier has no threshold .*evaluate\.wanted_accuracy"):
        model.predict(["the day"], abstain=True)
    with pytest.raises(InputError, match="report: fit held no texts out"):
        model.report()
    assert "<svg" not in model._repr_html_()


def test_report_on_new_texts(fitted: Classifier) -> None:
    texts, labels = rows(60, 5)
    report = fitted.report(texts, labels)
    predicted = fitted.predict(texts)
    assert report.after.accuracy == accuracy_score(labels, predicted)
    assert report.after.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert report.before is not None
    assert report.before.accuracy < report.after.accuracy
    np.testing.assert_array_equal(fitted.predict(texts), predicted)
    lines = str(report).splitlines()
    assert lines[0] == "Results on 60 texts, with 95 % intervals"
    assert any(line.startswith("accuracy of always giving the most frequent label") for line in lines)
    assert [line.split()[0] for line in lines[-3:]] == ["0", "10", "20"]


@pytest.mark.parametrize(
    ("y", "fault"),
    [(None, "y: requires y"), ([0], "holds 1 labels for 2 texts"), ([0, 7], "y: row 1 is 7, which is not among the")],
)
def test_labels_that_the_classifier_does_not_know(fitted: Classifier, y: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        fitted.report(["one", "two"], y)


def test_report_on_the_texts_that_fit_held_out(fitted: Classifier) -> None:
    report = fitted.report()
    assert report.texts == "54 texts that fit held out"
    assert report.after.n == 54
    assert report.before is not None
    assert report.before.macro_f1 < report.after.macro_f1
    assert fitted.report() == report
    assert pickle.loads(pickle.dumps(fitted)).report() == report


def test_a_merged_model_has_no_before(tiny_llama: Path, tmp_path: Path) -> None:
    whinchat.export_run(finished_runs.finished_run(tiny_llama), "merged", tmp_path / "merged")
    texts, labels = tiny_models.toy_rows(20, tiny_models.ONE_TOKEN, 3)
    model = Classifier.from_pretrained(tmp_path / "merged")
    report = model.report(texts, [tiny_models.ONE_TOKEN[label] for label in labels])
    assert report.before is None
    assert "not measured" in str(report)
    assert "<svg" in report._repr_html_()


def test_a_notebook_shows_figures(fitted: Classifier) -> None:
    shown = fitted._repr_html_()
    figure = shown[shown.index("<svg", shown.index("background:white")) : shown.rindex("</svg>") + len("</svg>")]
    assert ElementTree.fromstring(figure).tag.endswith("svg")
    # Text is drawn as outlines, and its words stand beside these as comments.
    assert "Before training: macro" in figure
    assert "After training: macro" in figure
    assert shown.count("<table") >= 2
    assert "<svg" not in Classifier()._repr_html_().partition("background:white")[2]


def test_labels_cannot_add_markup(tiny_llama: Path) -> None:
    texts, labels = rows(60, 2)
    names = {0: "<b>bad</b>", 10: "good", 20: "fine"}
    model = classifier(tiny_llama, num_train_epochs=1, answers={"<b>bad</b>": "bad"})
    shown = model.fit(texts, [names[label] for label in labels]).report()._repr_html_()
    assert "<b>" not in shown


@pytest.mark.parametrize(("method", "plain"), [("qlora", "lora"), ("qdora", "dora")])
def test_four_bit_methods_are_answered(method: str, plain: str) -> None:
    with pytest.raises(RecipeError, match=f'set method="{plain}" and settings={{"backbone.load_in": "nf4"}}'):
        Classifier(method=method).fit(["a", "b"], [0, 1])
