"""A run with a student: as one classifier in files, server and Python, and never with a student that does not fit."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import finished_runs, tiny_models, tiny_questions
from tests.helpers.command_line import Whinchat
from tests.helpers.distilled_runs import UNSURE, WANTED, write_texts
from whinchat.classifier import Classifier
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, ModelError, RunError
from whinchat.hub.repository import repository_of_run
from whinchat.inference.cascade import CascadeFacts, load_cascade
from whinchat.inference.predict_file import predict_file
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.pipelines.calibrate_run import calibrate_run
from whinchat.pipelines.distill_run import distill_run, remove_student
from whinchat.pipelines.evaluate_run import RunEvaluation, evaluate_run
from whinchat.pipelines.rebuild_report import rebuild_report
from whinchat.recipe.loader import write_recipe
from whinchat.server.served_models import ModelHost, ModelKey
from whinchat.storage.locate import find_classifier
from whinchat.storage.run_folder import RunFolder

FILES = ("cascade.json", "cascade.safetensors", "checksums.json")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.csv")


@pytest.fixture(scope="module")
def distilled(tiny_llama: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CascadeFacts]:
    """A run with a student, to be read only."""
    path = shutil.copytree(finished_runs.finished_run(tiny_llama), tmp_path_factory.mktemp("runs") / "run")
    return path, distill_run(path, table, **WANTED)


@pytest.fixture
def run_copy(distilled: tuple[Path, CascadeFacts], tmp_path: Path) -> Path:
    return shutil.copytree(distilled[0], tmp_path / "mine")


def new_texts(rows: int = 60) -> list[str]:
    return [f"{text} {row}" for row, text in enumerate(tiny_models.toy_rows(rows, tiny_models.ONE_TOKEN, 11)[0])]


def test_the_student_answers_where_it_is_sure_and_the_model_elsewhere(distilled: tuple[Path, CascadeFacts]) -> None:
    path, facts = distilled
    assert facts.test.threshold is not None
    assert facts.test.agreeing / facts.test.answered >= 0.7
    texts = [*new_texts(), *UNSURE]
    both, alone = Predictor.load(path).predict(texts), Predictor.load(path, student=False).predict(texts)
    assert alone.by_student is None
    assert both.by_student is not None
    assert 0 < both.by_student.sum() < len(texts)
    cascade = load_cascade(find_classifier(path))
    assert cascade is not None
    (own,), sure = cascade.answer(texts)
    assert sure.tolist() == both.by_student.tolist()
    assert np.array_equal(both.probabilities[sure], own[sure])
    # The model answers fewer texts in a batch, so that bits may differ.
    assert np.allclose(both.probabilities[~sure], alone.probabilities[~sure], atol=1e-5)
    assert both.unsure.tolist() == Predictor.load(path).calibrator.unsure(both.probabilities).tolist()


def test_what_was_measured(distilled: tuple[Path, CascadeFacts]) -> None:
    path, facts = distilled
    recipe = RunFolder(path).read_recipe()
    corpus = load_corpus(recipe)
    assert facts.unlabelled_texts > 0
    assert facts.training_texts == facts.unlabelled_texts + len(set(corpus.train.texts))
    assert facts.quality is not None
    evaluated = evaluate_run(path)
    assert isinstance(evaluated, RunEvaluation)
    assert evaluated.calibrated is not None
    alone = evaluated.calibrated.values[recipe.evaluate.metric]
    assert facts.quality.classifier == pytest.approx(alone)
    assert facts.quality.change == pytest.approx(facts.quality.cascade - facts.quality.classifier)


def test_without_unlabelled_texts_the_validation_rows_test_the_student(run_copy: Path) -> None:
    corpus = load_corpus(RunFolder(run_copy).read_recipe())
    assert corpus.validation is not None
    facts = distill_run(run_copy, agreement=0.5, delta=0.2)
    assert (facts.unlabelled_texts, facts.held_out) == (0, "validation")
    assert facts.test.texts == len(set(corpus.validation.texts))
    assert facts.quality is None, "the evaluated rows are those that chose the threshold"


def test_a_table_says_how_many_rows_the_student_answers(
    distilled: tuple[Path, CascadeFacts], table: Path, tmp_path: Path, whinchat: Whinchat
) -> None:
    path = distilled[0]
    out = tmp_path / "out.csv"
    (counts,) = predict_file(path, table, out).values()
    (alone,) = predict_file(path, table, tmp_path / "alone.csv", student=False).values()
    assert counts.by_student > 0 == alone.by_student
    assert counts.rows == alone.rows
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert rows[0].keys() == csv.DictReader((tmp_path / "alone.csv").open(encoding="utf-8")).__next__().keys()
    # The same job with another student setting is another job.
    with pytest.raises(DataError, match="is there already"):
        predict_file(path, table, out, student=False)
    done = whinchat("predict", path, table, "--out", out, "--overwrite")
    assert f"The student answered {counts.by_student:,} rows, the model the others." in done.out


def test_the_server_answers_as_python_does(distilled: tuple[Path, CascadeFacts]) -> None:
    texts = new_texts(12)
    host = ModelHost.load({"mine": distilled[0]})
    served = host.predict(ModelKey("mine"), texts)
    expected = Predictor.load(distilled[0]).predict(texts)
    assert isinstance(served, Predictions)
    assert served.by_student is not None
    assert np.allclose(served.probabilities, expected.probabilities, atol=1e-5)
    before = host.predict(ModelKey("mine", before=True), texts)
    assert isinstance(before, Predictions)
    assert before.by_student is None, "the student imitates the trained model"


def test_another_calibration_needs_another_student(
    run_copy: Path, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate_run(run_copy, "macro_recall")
    assert "its student imitates the answers of the earlier calibration" in caplog.text
    with pytest.raises(RunError, match=r"the student imitates answers that the classifier no longer gives"):
        Predictor.load(run_copy)
    with pytest.raises(RunError, match=r"the student imitates answers that the classifier no longer gives"):
        repository_of_run(run_copy, "owner/name", "owner/base")
    card = run_copy / "README.md"
    assert "### Student" not in card.read_text(encoding="utf-8"), "no student answers"
    rebuild_report(run_copy)
    assert "### Student" not in card.read_text(encoding="utf-8")
    evaluate_run(run_copy)
    Predictor.load(run_copy, student=False)
    distill_run(run_copy, table, **WANTED)
    Predictor.load(run_copy)


def test_the_earlier_calibration_has_its_student_again(run_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    metric = RunFolder(run_copy).read_recipe().evaluate.metric
    before = (run_copy / "adapter" / "calibration.json").read_bytes()
    calibrate_run(run_copy, "macro_recall")
    caplog.clear()
    calibrate_run(run_copy, metric)
    assert (run_copy / "adapter" / "calibration.json").read_bytes() == before
    assert "student" not in caplog.text
    assert "### Student" in (run_copy / "README.md").read_text(encoding="utf-8")
    assert Predictor.load(run_copy).cascade is not None


def test_card_and_facts_name_no_folder_of_this_machine(distilled: tuple[Path, CascadeFacts], table: Path) -> None:
    path, facts = distilled
    assert facts.held_out == "texts of texts.csv that it did not learn from"
    for name in ("README.md", "report.html", "adapter/cascade.json"):
        assert str(table.parent) not in (path / name).read_text(encoding="utf-8")


def test_rows_without_a_text_are_counted(run_copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = write_texts(tmp_path / "more.csv")
    table.write_text(table.read_text(encoding="utf-8") + '""\n"  "\n', encoding="utf-8")
    distill_run(run_copy, table, **WANTED)
    assert "more.csv: 2 of 302 rows have no readable text, and are left out" in caplog.text


def test_other_data_than_those_of_the_run_are_refused(run_copy: Path, table: Path, tmp_path: Path) -> None:
    recipe = RunFolder(run_copy).read_recipe()
    source = str(finished_runs.write_csv(tmp_path / "texts.csv", seed=3))
    other = recipe.model_copy(update={"data": recipe.data.model_copy(update={"source": source})})
    RunFolder(run_copy).write_recipe(other)
    with pytest.raises(RunError, match="has changed since this run was evaluated"):
        distill_run(run_copy, table, **WANTED)


def test_a_saved_classifier_has_its_own_student_or_none(
    distilled: tuple[Path, CascadeFacts], tiny_llama: Path, tmp_path: Path
) -> None:
    saved, texts = tmp_path / "saved", new_texts()
    own = Classifier.from_pretrained(distilled[0])
    assert np.array_equal(own.predict_proba(texts), Predictor.load(distilled[0]).predict(texts).probabilities)
    own.save_pretrained(saved)
    assert Predictor.load(saved).cascade is not None
    Classifier.from_pretrained(finished_runs.finished_run(tiny_llama)).save_pretrained(saved)
    assert Predictor.load(saved).cascade is None


def test_removing_the_student_leaves_the_run_as_it_was(run_copy: Path, tiny_llama: Path) -> None:
    assert remove_student(run_copy)
    assert not remove_student(run_copy)
    original = finished_runs.finished_run(tiny_llama) / "adapter"
    for file in original.iterdir():
        assert (run_copy / "adapter" / file.name).read_bytes() == file.read_bytes()
    assert Predictor.load(run_copy).cascade is None
    assert "### Student" not in (run_copy / "README.md").read_text(encoding="utf-8")


def test_the_same_command_makes_the_same_student(run_copy: Path, table: Path) -> None:
    student = run_copy / "adapter" / "cascade.safetensors"
    first = student.read_bytes()
    distill_run(run_copy, table, **WANTED)
    assert student.read_bytes() == first


@pytest.mark.parametrize("damage", ["lost", "cut", "other labels", "no file", "no JSON"])
def test_a_damaged_student_is_refused_until_there_is_a_new_one(run_copy: Path, table: Path, damage: str) -> None:
    adapter = run_copy / "adapter"
    weights, facts = adapter / "cascade.safetensors", adapter / "cascade.json"
    if damage == "lost":
        weights.unlink()
    elif damage == "no file":
        facts.unlink()
    elif damage == "no JSON":
        facts.write_text("{", encoding="utf-8")
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-4])
        (adapter / "checksums.json").unlink()  # as in a folder of version 0.1
    else:
        content = json.loads(facts.read_text(encoding="utf-8"))
        content["labels"] = {"": ["a", "b"]}
        facts.write_text(json.dumps(content), encoding="utf-8")
        (adapter / "checksums.json").unlink()
    with pytest.raises((ModelError, RunError), match="whinchat distill"):
        Predictor.load(run_copy)
    assert Predictor.load(run_copy, student=False).cascade is None
    # What the message says to do.
    distill_run(run_copy, table, **WANTED)
    assert Predictor.load(run_copy).cascade is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agreement": 1.0}, "agreement: 1.0 is not between 0 and 1"),
        ({"delta": 0.0}, "delta: 0.0 is not between 0 and 1"),
        ({"agreement": 0.99}, "are too few to test an agreement of 0.99 at 0.05, which takes 1,196"),
    ],
)
def test_what_cannot_be_tested_is_refused(run_copy: Path, options: dict[str, float], message: str) -> None:
    before = {name: (run_copy / "adapter" / name).read_bytes() for name in FILES}
    with pytest.raises((DataError, RunError), match=message):
        distill_run(run_copy, **options)
    assert before == {name: (run_copy / "adapter" / name).read_bytes() for name in FILES}


def test_questions_have_one_student_and_keep_their_answers_in_any_order(
    tiny_llama: Path, tmp_path: Path, whinchat: Whinchat
) -> None:
    path = shutil.copytree(tiny_questions.finished_run(tiny_llama), tmp_path / "run")
    # The first 90 rows are those of the run.
    facts = distill_run(path, tiny_questions.write_table(tmp_path / "more.csv", 400), agreement=0.5, delta=0.2)
    recipe = RunFolder(path).read_recipe()
    assert (facts.quality, list(facts.labels)) == (None, [own.address for own in recipe.task.decisions])
    texts = [f"tea\n\nfine sea day {row}" for row in range(40)]
    answers = QuestionPredictor.load(path).predict(texts)
    assert answers.by_student is not None
    printed = json.loads(whinchat("predict", path, texts[0], "--json").out)
    assert printed["by_student"] == bool(answers.by_student[0])
    reversed_questions = dict(reversed(recipe.task.questions.items()))
    for folder in (path, path / "adapter"):
        own = recipe.model_copy(update={"task": recipe.task.model_copy(update={"questions": reversed_questions})})
        write_recipe(own, folder)
    again = QuestionPredictor.load(path).predict(texts)
    assert again.by_student is not None
    assert again.by_student.tolist() == answers.by_student.tolist()
    for name in recipe.task.questions:
        assert again.answers(name) == answers.answers(name)
