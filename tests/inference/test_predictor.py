"""One object for every use: the run's folder and its adapter's alone answer alike."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax
from transformers import AutoTokenizer

from tests.helpers import finished_runs
from whinchat.errors import RunError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.evaluation.scoring import score_prompts
from whinchat.inference.predictor import Predictions, Predictor, load_engine
from whinchat.models.backbone import find_model, load_tokenizer

TEXTS = ["red red blue", "blue", "", "green\ngreen", "red red blue"]


@pytest.fixture(scope="module")
def predictor(tiny_llama: Path) -> Predictor:
    return Predictor.load(finished_runs.finished_run(tiny_llama))


def test_answers_are_those_of_engine_and_calibrator(predictor: Predictor, tiny_llama: Path) -> None:
    recipe, engine = load_engine(finished_runs.finished_run(tiny_llama))
    calibrator = Calibrator.load(finished_runs.finished_run(tiny_llama) / "adapter", recipe.task.labels)
    scores = score_prompts(engine, engine.template.encode(TEXTS), 64)
    # But for a constant of each text.
    np.testing.assert_allclose(log_softmax(predictor.score(TEXTS), axis=1), log_softmax(scores, axis=1), atol=1e-5)
    answers = Predictions.from_scores(scores, predictor.calibrator)
    assert answers.labels == recipe.task.labels
    np.testing.assert_array_equal(answers.probabilities, calibrator.probabilities(scores))
    np.testing.assert_array_equal(answers.label_indices, calibrator.probabilities(scores).argmax(axis=1))
    assert len(answers) == len(TEXTS)
    assert answers.to_dict(1)["label"] == answers.label_names[1] == answers.labels[answers.label_indices[1]]
    assert list(answers.to_dict(1)["probabilities"]) == list(answers.labels)


def test_the_adapter_goes_alone(predictor: Predictor, tiny_llama: Path, tmp_path: Path) -> None:
    alone = tmp_path / "adapter"
    shutil.copytree(finished_runs.finished_run(tiny_llama) / "adapter", alone)
    taken = Predictor.load(alone)
    assert taken.recipe == predictor.recipe
    assert taken.calibrator == predictor.calibrator
    np.testing.assert_array_equal(taken.score(TEXTS), predictor.score(TEXTS))


def test_the_ids_of_the_run_are_those_of_its_saved_tokenizer_and_of_its_model(
    predictor: Predictor, tiny_llama: Path
) -> None:
    prompts = predictor.engine.template.encode(TEXTS)
    saved = AutoTokenizer.from_pretrained(finished_runs.finished_run(tiny_llama) / "adapter")
    rendered = [predictor.engine.template.render(text) for text in TEXTS]
    assert [tuple(ids) for ids in saved(rendered)["input_ids"]] == [prompt.ids for prompt in prompts]
    trained_with = load_tokenizer(find_model(predictor.recipe.backbone)).template(predictor.recipe)
    assert trained_with.encode(TEXTS) == prompts


def test_doubt_is_about_the_shown_probability_of_the_predicted_label() -> None:
    # Probabilities that favour rare labels: 0.59, 0.83 and 0.63 for the predicted label.
    calibrator = Calibrator(("common", "rare"), prior=(0.8, 0.2), metric="macro_recall", tau=1.0, threshold=0.6)
    scores = np.log([[0.85, 0.15], [0.45, 0.55], [0.7, 0.3]])
    answers = Predictions.from_scores(scores, calibrator)
    assert answers.label_indices.tolist() == [0, 1, 1]
    assert answers.unsure.tolist() == [True, False, False]
    assert not Predictions.from_scores(scores, replace(calibrator, threshold=None)).unsure.any()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere"):
        Predictor.load(tmp_path / "nowhere")
