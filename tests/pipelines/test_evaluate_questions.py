"""``evaluate_run`` measures the questions of a run as the run did, on its own rows and on others."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tests.helpers import tiny_questions
from tests.helpers.command_line import Whinchat
from whinchat.errors import DataError, RecipeError
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.pipelines.evaluate_run import QuestionsEvaluation, evaluate_run
from whinchat.storage.run_folder import RunFolder

# Overrides for a table whose columns have the names of the questions.
OTHER_COLUMNS = ("--set", "data.text_column=text", "--set", "data.answers={}")


@pytest.fixture(scope="module")
def folder(tiny_llama: Path) -> Path:
    """A finished run, to be read only."""
    return tiny_questions.finished_run(tiny_llama)


def evaluated(folder: Path, *arguments: object) -> QuestionsEvaluation:
    found = evaluate_run(folder, *arguments)  # type: ignore[arg-type]  # a source, and overrides
    assert isinstance(found, QuestionsEvaluation)
    return found


def write(path: Path, *rows: tuple[str, ...]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def test_the_same_rows_give_the_same_metrics(folder: Path) -> None:
    found, record = evaluated(folder), RunFolder(folder).read_questions()
    assert (found.split, found.rows, found.in_sample) == ("test", 20, False)
    for own, stored in zip(found.questions, record.questions, strict=True):
        counts = own.name, own.type, own.rows, own.missing, own.incomplete
        assert counts == (stored.name, stored.type, stored.rows, stored.missing, stored.incomplete)
        assert own.score == stored.after
        assert own.calibrated == stored.calibrated
    assert any(own.missing for own in found.questions)


def test_the_calibration_has_seen_the_validation_rows(folder: Path) -> None:
    assert evaluated(folder, None, ["evaluate.split=validation"]).in_sample
    table = str(folder.parent / "table.csv")
    other = evaluated(folder, table, ["evaluate.rows=9"])
    assert not other.in_sample
    as_written = ["data.answers={mood: feeling}", "evaluate.rows=9"]
    assert evaluated(folder, table, as_written).questions == other.questions, "the recipe's columns stay"


def test_the_metrics_are_those_of_what_predict_answers(folder: Path, tmp_path: Path) -> None:
    rows = [
        (f"rain {row}", mood, "", "[]" if row % 2 else '["sea"]')
        for row, mood in enumerate(["very good", "very bad"] * 4)
    ]
    source = write(tmp_path / "other.csv", ("text", "mood", "quality", "tags"), *rows, ("tea", "", "bad", "sea"))
    overrides = [
        "data.text_column=text",
        "data.answers={rain: mood, mood: mood}",
        "data.answer_map={rain: {very good: 'yes', very bad: 'no'}}",
    ]
    found = evaluated(folder, source, overrides)
    assert (found.split, found.rows) == (source, 9)
    counts = {own.name: (own.rows, own.missing) for own in found.questions}
    assert counts == {"mood": (8, 1), "rain": (8, 1), "quality": (1, 8), "tags": (9, 0)}
    answers = QuestionPredictor.load(folder).predict([row[0] for row in rows] + ["tea"])
    mood, rain, _, tags = (own.calibrated for own in found.questions)
    assert mood is not None
    assert mood.values["accuracy"] == accuracy_score([row[1] for row in rows], answers.answers("mood")[:8])
    assert rain is not None
    expected = ["yes" if row[1] == "very good" else "no" for row in rows]
    assert rain.values["f1"] == pytest.approx(f1_score(expected, answers.answers("rain")[:8], pos_label="yes"))
    assert tags is not None
    says_sea = ["sea" in one for one in answers.answers("tags")]
    is_sea = [row[3] != "[]" for row in rows] + [True]
    assert tags.options[1].f1 == pytest.approx(f1_score(is_sea, says_sea))
    assert np.isfinite(mood.ece or np.nan)


def test_a_question_that_no_row_answers_has_no_metrics(whinchat: Whinchat, folder: Path, tmp_path: Path) -> None:
    rows = [(f"sun {row}", "very good", "no", "", "[]") for row in range(3)]
    source = write(tmp_path / "other.csv", ("text", "mood", "rain", "quality", "tags"), *rows)
    result = whinchat("evaluate", folder, "--data", source, *OTHER_COLUMNS, "--json")
    assert result.code == 0, result.err
    quality = json.loads(result.out)["questions"][2]
    assert (quality["rows"], quality["missing"], quality["score"], quality["calibrated"]) == (0, 3, None, None)
    shown = whinchat("evaluate", folder, "--data", source, *OTHER_COLUMNS).out
    assert "quality: not measured, because no text has an answer to this question." in shown
    assert "rain\t3\tAUC-ROC\tnot measured" in shown.replace("  ", "")


def test_an_option_without_rows_is_refused(folder: Path, tmp_path: Path) -> None:
    rows = [("sun", "hopeless", "no", "bad", "", "1"), ("tea", "very bad", "yes", "fine", "", "0")]
    source = write(tmp_path / "other.csv", ("text", "mood", "rain", "quality", "by_train", "by_sea"), *rows)
    with pytest.raises(DataError, match=r"task\.questions\.tags: train: no row of the .* split has an answer"):
        evaluate_run(folder, source, ["data.text_column=text", "data.answers={tags: {train: by_train, sea: by_sea}}"])


def test_a_run_without_evaluation_is_measured_without_calibration(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(folder, path, ignore=shutil.ignore_patterns("manifest.json", "calibration.json", "questions"))
    checksums = path / "adapter" / "checksums.json"
    kept = {name: own for name, own in json.loads(checksums.read_text()).items() if name != "calibration.json"}
    checksums.write_text(json.dumps(kept))
    found = evaluated(path)
    assert not found.in_sample
    for own, stored in zip(found.questions, RunFolder(folder).read_questions().questions, strict=True):
        assert own.score == stored.after
        assert own.calibrated is None


def test_the_command_prints_every_metric(whinchat: Whinchat, folder: Path) -> None:
    shown = whinchat("evaluate", folder, "--set", "evaluate.split=validation").out
    for part in (
        "F1 of yes",
        "quadratic weighted kappa",
        "subset accuracy",
        "Each option of tags",
        "without an answer left out",
    ):
        assert part in shown
    assert "The calibrator was fitted on these rows" in shown
    refused = whinchat("evaluate", folder, "--set", "evaluate.metric=accuracy")
    assert refused.code == 2
    assert "takes effect in calibration" in refused.err
    with pytest.raises(RecipeError, match=r"takes data\.\* and evaluate\.\* only"):
        evaluate_run(folder, overrides=["train.seed=1"])
