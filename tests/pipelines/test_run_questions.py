"""A run whose task asks several questions: its files, its evidence, resuming, and the commands that refuse it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers import tiny_models, tiny_questions
from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, RunError, WhinchatError
from whinchat.evaluation.question_scores import QuestionScorer
from whinchat.evaluation.scoring import score_prompts
from whinchat.inference.predict_file import predict_file
from whinchat.inference.predictor import Predictor
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.pipelines import run_questions
from whinchat.pipelines.compare_runs import compare_runs
from whinchat.pipelines.rebuild_report import rebuild_report
from whinchat.pipelines.run import run, train_run
from whinchat.storage.predictions import read_predictions
from whinchat.storage.questions_record import QuestionsRecord
from whinchat.storage.run_folder import RunFolder

DECISIONS = ("mood", "rain", "quality", "tags/01", "tags/02")


def test_the_folder_holds_the_evidence_of_each_decision(tiny_llama: Path) -> None:
    path = tiny_questions.finished_run(tiny_llama)
    folder = RunFolder(path)
    record = folder.read_questions()
    assert [question.name for question in record.questions] == ["mood", "rain", "quality", "tags"]
    assert [question.missing for question in record.questions] != [0] * 4
    for name, decision in zip(DECISIONS, record.recipe.task.decisions, strict=True):
        one = RunFolder(folder.decisions / name)
        stored = read_predictions(one.predictions)
        assert one.read().recipe.task == record.recipe.task.of_decision(decision)
        assert stored.labels == decision.labels
        assert one.report.is_file() == (decision.option is None)
        assert not one.before_predictions.exists()
    for question in record.questions:
        assert question.calibrated is not None
    accuracy = RunFolder(folder.decisions / "mood").read().shipped.values["accuracy"]
    assert record.questions[0].shipped.values["accuracy"] == pytest.approx(accuracy)
    assert folder.card.is_file()
    assert "mood" in folder.report.read_text()


def test_scores_are_those_of_each_decision_alone(tiny_llama: Path) -> None:
    """The stored scores, the predictor's and the scorer's equal those of a single prompt for each decision."""
    path = tiny_questions.finished_run(tiny_llama)
    predictor = QuestionPredictor.load(path)
    recipe = RunFolder(path).read_recipe()
    split = load_corpus(recipe).split("test")
    texts = list(split.texts)
    predictions = predictor.predict(texts)
    scorer = QuestionScorer(predictor.engines, 7)
    for index, engine in enumerate(predictor.engines):
        alone = score_prompts(engine, engine.template.encode(texts), 3, labels_only=True)
        np.testing.assert_allclose(_relative(scorer.score(texts, index)), _relative(alone), atol=2e-5)
        np.testing.assert_allclose(_relative(scorer.score(texts[:2], index)), _relative(alone[:2]), atol=2e-5)
        calibrated = predictor.calibrators[index].probabilities(alone)
        np.testing.assert_allclose(predictions.decisions[index].probabilities, calibrated, atol=2e-5)
        stored = read_predictions(RunFolder(RunFolder(path).decisions / DECISIONS[index]).predictions)
        rows = [row for row, answers in enumerate(split.answers) if answers[index] is not None]
        stored_scores = np.array([row.log_probs for row in stored.after])
        np.testing.assert_allclose(_relative(stored_scores), _relative(alone[rows]), atol=2e-5)


def _relative(scores: NDArray[Any]) -> NDArray[Any]:
    """Scores are compared up to a constant of each row."""
    difference: NDArray[Any] = scores - scores.max(axis=1, keepdims=True)
    return difference


def test_a_killed_run_goes_on(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_questions.write_table(tmp_path / "table.csv", 60)
    recipe = tiny_questions.table_recipe(tiny_llama, source)
    folder = RunFolder(tmp_path / "run")
    real = run_questions.evaluate_questions
    seen = []

    def die_after_training(*arguments: Any) -> Any:
        seen.append(arguments[-1])
        if arguments[-1] == "after" and len(seen) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(run_questions, "evaluate_questions", die_after_training)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, folder.path)
    assert not folder.manifest.is_file()
    with pytest.raises(RunError, match="is not finished"):
        QuestionPredictor.load(folder.path)
    record = run(recipe, folder.path, "resume")
    assert seen == ["before", "after", "after"]
    assert isinstance(record, QuestionsRecord)
    again = run(recipe, folder.path, "resume")
    assert again == folder.read_questions()
    rebuild_report(folder.path)
    fresh = run(recipe, tmp_path / "fresh")
    assert isinstance(fresh, QuestionsRecord)
    assert fresh.questions == record.questions


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (Predictor.load, RunError, "answers questions"),
        (lambda path: compare_runs([path, path / "questions" / "mood"]), RunError, "name one of its decisions"),
    ],
)
def test_commands_for_labels_refuse(
    tiny_llama: Path, command: Callable[[Path], Any], error: type[WhinchatError], message: str
) -> None:
    with pytest.raises(error, match=message):
        command(tiny_questions.finished_run(tiny_llama))


def test_a_question_without_answers_to_measure_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    for name, text in (("train", "yes"), ("validation", "no"), ("test", "")):
        rows = "".join(f"a {name} text {row},{text if row else 'no'}\n" for row in range(6))
        if name == "test":
            rows = "a text,\nanother,\n"
        (tmp_path / f"{name}.csv").write_text(f"text,rain,quality\n{rows.replace(chr(10), ',good' + chr(10))}")
    raw = tiny_questions.table_recipe(tiny_llama, tmp_path).model_dump()
    raw["task"]["questions"] = {
        "rain": {"type": "yes_no", "instructions": "Rain?"},
        "quality": {"type": "choice", "instructions": "How?", "options": ["good", "bad"]},
    }
    raw["data"] = {"source": str(tmp_path), "answer_map": {}}
    (tmp_path / "train.csv").write_text("text,rain,quality\na,yes,good\nb,no,bad\nc,no,good\nd,yes,bad\n")
    with pytest.raises(DataError, match="no row of the test split has an answer to rain"):
        run(type(tiny_questions.table_recipe(tiny_llama, tmp_path)).model_validate(raw), tmp_path / "run")


def test_labels_in_files_and_rows(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_questions.finished_run(tiny_llama)
    source = shutil.copy(path.parent / "table.csv", tmp_path / "table.csv")
    (counts,) = predict_file(path, source, tmp_path / "out.csv", prefix="w_").values()
    assert counts.rows == 90
    assert sum(counts.labels[f"mood: {label}"] for label in tiny_models.BRANCHING) == 90
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [f"{row['title']}\n\n{row['body']}" for row in rows]
    wanted = QuestionPredictor.load(path).predict(texts, deterministic=True)
    for index, row in enumerate(rows):
        answers = wanted.to_dict(index)["answers"]
        assert row["w_mood"] == answers["mood"]["answer"]
        assert json.loads(row["w_tags"]) == answers["tags"]["answer"]
        assert float(row["w_expected_quality"]) == pytest.approx(answers["quality"]["expected"], abs=2e-6)
        assert float(row["w_p_tags_sea"]) == pytest.approx(answers["tags"]["probabilities"]["sea"], abs=2e-6)
        assert row["w_error"] == ""


def test_training_alone_and_calibration_later(tiny_llama: Path, tmp_path: Path) -> None:
    source = tiny_questions.write_table(tmp_path / "table.csv", 60)
    recipe = tiny_questions.table_recipe(tiny_llama, source)
    folder, training = train_run(recipe, tmp_path / "run")
    assert training.steps == 6
    uncalibrated = QuestionPredictor.load(folder.adapter)
    assert [calibrator.rows for calibrator in uncalibrated.calibrators] == [0] * 5
    record = run(recipe, folder.path, "resume")
    assert isinstance(record, QuestionsRecord)
    assert all(calibrator.rows for calibrator in QuestionPredictor.load(folder.path).calibrators)
