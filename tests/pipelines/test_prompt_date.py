"""A classifier whose chat template writes today's date answers alike on every day."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.helpers import finished_runs, tiny_models
from tests.helpers.calendars import Calendar
from tests.helpers.chat_templates import styled_model
from tests.helpers.shared_folders import make_once, shared_root
from whinchat.classifier import Classifier
from whinchat.export.export_run import export_run
from whinchat.inference.predictor import Predictor
from whinchat.pipelines.calibrate_run import calibrate_run
from whinchat.pipelines.evaluate_run import evaluate_run
from whinchat.pipelines.review_run import review_run
from whinchat.pipelines.run import run, train_run
from whinchat.recipe.schema import Recipe
from whinchat.server.served_models import ModelHost, ModelKey
from whinchat.storage.review_folder import ReviewFolder
from whinchat.storage.run_folder import RunFolder
from whinchat.training.checkpoints import last_checkpoint

TEXTS = list(tiny_models.TEXTS)


@pytest.fixture(scope="session")
def dated_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Mistral with a template in Llama 3.2's style, which writes the date."""
    return make_once(shared_root(tmp_path_factory) / "dated-model", lambda folder: styled_model("llama-3.2", folder))


def recipe_of(model: Path, folder: Path, **train: Any) -> Recipe:
    source = finished_runs.write_csv(folder / "texts.csv", rows=60)
    return finished_runs.recipe_for(model, source, train={"learning_rate": 1e-2, "eval_steps": None, **train})


@pytest.fixture
def dated_run(dated_model: Path, tmp_path: Path, calendar: Calendar) -> Path:
    """A run of 25 November 2026; afterwards, today is 7 March 2027."""
    calendar.set(2026, 11, 25)
    run(recipe_of(dated_model, tmp_path), tmp_path / "run")
    calendar.set(2027, 3, 7)
    return tmp_path / "run"


def test_a_finished_run_answers_alike_on_another_day(dated_run: Path, calendar: Calendar, tmp_path: Path) -> None:
    calendar.set(2026, 11, 25)
    then = Predictor.load(dated_run)
    calendar.set(2027, 3, 7)
    now = Predictor.load(dated_run)
    assert "Today Date: 25 Nov 2026" in now.engine.template.render("a")
    assert now.engine.template.encode(TEXTS) == then.engine.template.encode(TEXTS)
    assert np.array_equal(now.score(TEXTS), then.score(TEXTS))
    # The adapter alone, the server and a new evaluation.
    assert np.array_equal(Predictor.load(dated_run / "adapter").score(TEXTS), then.score(TEXTS))
    served = ModelHost.load({"run": dated_run}).predict(ModelKey("run"), TEXTS)
    assert np.allclose(served.probabilities, then.predict(TEXTS).probabilities, atol=1e-5)
    record = RunFolder(dated_run).read()
    assert evaluate_run(dated_run).evaluation.score.values == record.after.score.values
    assert record.manifest.prompt_date == "2026-11-25"
    assert "2026-11-25" in (dated_run / "README.md").read_text(encoding="utf-8")
    assert calibrate_run(dated_run).reliability == record.reliability
    # transformers alone, from the tokenizer that lies beside the adapter.
    chat = now.engine.template.messages("a")
    tokenizer = AutoTokenizer.from_pretrained(dated_run / "adapter")
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == now.engine.template.render("a")


def test_exports_keep_the_date(dated_run: Path, tmp_path: Path) -> None:
    export_run(dated_run, "merged", tmp_path / "merged")
    scores = Predictor.load(dated_run).score(TEXTS)
    assert np.allclose(Predictor.load(tmp_path / "merged").score(TEXTS), scores, atol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    chat = [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]
    assert "25 Nov 2026" in tokenizer.apply_chat_template(chat, tokenize=False)
    export_run(dated_run, "classifier", tmp_path / "classifier", tolerance=0.1)
    ids = AutoTokenizer.from_pretrained(tmp_path / "classifier")("a text")["input_ids"]
    assert tuple(ids) == Predictor.load(dated_run).engine.template.encode(["a text"])[0].ids


def test_a_run_that_was_killed_ends_in_the_same_bits_on_another_day(
    dated_model: Path, tmp_path: Path, calendar: Calendar
) -> None:
    calendar.set(2026, 11, 25)
    recipe = recipe_of(dated_model, tmp_path)
    whole, _ = train_run(recipe, tmp_path / "whole")
    train_run(recipe, tmp_path / "run")
    # As if the process had been killed after the first checkpoint.
    folder = RunFolder(tmp_path / "run")
    shutil.rmtree(folder.adapter)
    shutil.rmtree(last_checkpoint(folder.checkpoints) or "")
    assert last_checkpoint(folder.checkpoints) is not None
    calendar.set(2026, 11, 26)
    train_run(recipe, folder.path, "resume")
    assert str(folder.read_recipe().task.date) == "2026-11-25"
    before, after = (load_file(path / "adapter_model.safetensors") for path in (whole.adapter, folder.adapter))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name].numpy(), after[name].numpy()) for name in before)
    template = (folder.adapter / "chat_template.jinja").read_text(encoding="utf-8")
    assert template == (whole.adapter / "chat_template.jinja").read_text(encoding="utf-8")


def test_a_review_that_was_killed_keeps_its_date(dated_model: Path, tmp_path: Path, calendar: Calendar) -> None:
    calendar.set(2026, 11, 25)
    recipe, folder = recipe_of(dated_model, tmp_path, max_steps=2), ReviewFolder(tmp_path / "review")
    review_run(recipe, folder.path, folds=2)
    expected, scores = folder.table.read_bytes(), folder.fold(1).scores.read_bytes()
    # As if the process had been killed after the first fold.
    folder.review.unlink()
    shutil.rmtree(folder.fold(1).path)
    calendar.set(2026, 11, 26)
    review_run(recipe, folder.path, folds=2, existing="resume")
    assert str(folder.read_plan().recipe.task.date) == "2026-11-25"
    assert folder.fold(1).scores.read_bytes() == scores
    assert folder.table.read_bytes() == expected


def test_a_run_of_an_earlier_version_states_the_day_on_which_it_was_finished(
    dated_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a run has neither a date nor a changed chat template; its manifest says when it was finished."""
    expected = Predictor.load(dated_run).score(TEXTS)
    old = shutil.copytree(dated_run, tmp_path / "old")
    for path in (old / "recipe.yaml", old / "adapter" / "recipe.yaml"):
        content = yaml.safe_load(path.read_text())
        del content["task"]["date"]
        path.write_text(yaml.safe_dump(content))
    (old / "adapter" / "checksums.json").unlink()
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["prompt_date"]
    manifest["created"] = "2026-11-25T10:00:00+00:00"
    (old / "manifest.json").write_text(json.dumps(manifest))
    source = Path(Predictor.load(dated_run).recipe.backbone.model) / "chat_template.jinja"
    shutil.copy(source, old / "adapter" / "chat_template.jinja")
    assert np.array_equal(Predictor.load(old).score(TEXTS), expected)
    assert "they now say 2026-11-25" in caplog.text
    # An adapter alone does not say its day.
    assert not np.array_equal(Predictor.load(old / "adapter").score(TEXTS), expected)
    assert "they now say 2027-03-07" in caplog.text


def test_the_estimator_keeps_its_date(dated_model: Path, tmp_path: Path, calendar: Calendar) -> None:
    calendar.set(2026, 11, 25)
    settings = {"backbone.load_in": "float32", "backbone.device": "cpu", "train.max_steps": 2}
    texts, labels = tiny_models.toy_rows(24)
    classifier = Classifier(model=str(dated_model), validation_fraction=0, settings=settings)
    classifier.fit(texts, [tiny_models.ONE_TOKEN[label] for label in labels])
    expected = classifier.predict_proba(TEXTS)
    classifier.save_pretrained(tmp_path / "saved")
    calendar.set(2027, 3, 7)
    assert np.array_equal(Classifier.from_pretrained(tmp_path / "saved").predict_proba(TEXTS), expected)
    assert str(classifier.recipe_.task.date) == "2026-11-25"
