"""The run folder: written and read back whole, with errors that say what to do."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.run_records import HOSTILE, THREE, history, run_record
from whinchat.errors import RunError
from whinchat.evaluation.results import Prediction
from whinchat.storage.atomic import write_json
from whinchat.storage.predictions import read_predictions, write_predictions
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


@pytest.mark.parametrize(
    "record",
    [run_record(), run_record(generate=False, points=0), replace(run_record(text=HOSTILE), paired=(), samples=())],
)
def test_a_record_comes_back_as_it_was(record: RunRecord, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.write(record)
    assert folder.read() == record
    assert not [path for path in folder.path.iterdir() if path.name.startswith(".")]
    with pytest.raises(RunError, match=r"no such run folder; .*; did you mean .*/runs/one\?"):
        RunFolder(tmp_path / "runs" / "oen").read()


def test_missing_folder_and_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere: no such run folder; make one with `whinchat run RECIPE --out"):
        RunFolder(tmp_path / "nowhere").read()
    with pytest.raises(RunError, match=r"recipe\.yaml: missing, .*name a folder that `whinchat run` made"):
        RunFolder(tmp_path).read()
    folder = RunFolder(tmp_path)
    folder.write(run_record())
    folder.after.unlink()
    with pytest.raises(RunError, match=r"after\.json: missing, so this run is not finished; .*--resume"):
        folder.read()


def test_broken_and_foreign_files_say_so(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(run_record())
    folder.history.write_text("[{", encoding="utf-8")
    with pytest.raises(RunError, match=r"history\.json: not readable as JSON"):
        folder.read_history()
    folder.history.write_text('[{"pace": 1}]', encoding="utf-8")
    with pytest.raises(RunError, match=r"history\.json: not what this version of whinchat writes"):
        folder.read_history()
    folder.before.write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match=r"before\.json: not what this version of whinchat writes"):
        folder.read_evaluation(folder.before)


def test_nan_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"loss": 1.5})
    with pytest.raises(RunError, match=r"NaN or infinite.*lower train\.learning_rate"):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"loss": 1.5}
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    assert list(tmp_path.iterdir()) == [path]


def test_history_part_is_read_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(run_record(points=5))
    assert folder.read_history() == history(5)


BEFORE = [Prediction((-9.0, -8.0, -7.5), "A neutral tweet", -1, 1), Prediction((-1.0, -2.0, -3.0), "negative", 0, 0)]
AFTER = [Prediction((-0.1, -3.0, -4.0), None, None), Prediction((-2000.0, -2001.0, -2000.5), None, None)]
# As a calibrator answers, which need not be as the highest score says.
CALIBRATED = [
    replace(AFTER[0], probabilities=(0.7, 0.2, 0.1)), replace(AFTER[1], probabilities=(0.4, 0.15, 0.45), unsure=True)
]  # fmt: skip


def test_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions(path, THREE, ["one", HOSTILE], [0, 2], BEFORE, AFTER)
    found = read_predictions(path)
    assert (found.labels, found.texts, found.expected) == (THREE, ("one", HOSTILE), (0, 2))
    assert found.before == tuple(BEFORE)
    assert found.after == tuple(AFTER)


def test_the_file_holds_what_predict_answers(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions(path, THREE, ["one", HOSTILE], [0, 2], BEFORE, CALIBRATED)
    assert read_predictions(path).after == tuple(CALIBRATED)
    table = pq.read_table(path).to_pydict()
    assert table["answer_label"] == ["negative", "positive"]
    assert table["after_label"] == ["negative", "negative"]
    assert table["answer_unsure"] == [False, True]
    shown = np.array([table[f"answer_prob_{label}"] for label in THREE]).T
    assert [THREE[best] for best in shown.argmax(axis=1)] == table["answer_label"]


def test_prediction_columns_are_named_by_label_and_probabilities_add_up(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions(path, THREE, ["one", "two"], [0, 2], BEFORE, AFTER)
    columns = pq.read_table(path).to_pydict()
    assert columns["row"] == [0, 1]
    assert columns["label"] == ["negative", "positive"]
    assert columns["before_label"] == ["positive", "negative"]
    assert columns["before_generated_label"] == [None, "negative"]
    assert columns["before_first_word_label"] == ["neutral", "negative"]
    assert columns["after_log_prob_neutral"] == [-3.0, -2001.0]
    total = np.sum([columns[f"after_prob_{label}"] for label in THREE], axis=0)
    np.testing.assert_allclose(total, 1.0)


def test_predictions_of_an_earlier_version_have_one_reading_of_the_answers(tmp_path: Path) -> None:
    path, earlier = tmp_path / "p.parquet", tuple(replace(row, first_word_label=None) for row in BEFORE)
    write_predictions(path, THREE, ["one", "two"], [0, 2], earlier, BEFORE)
    assert "before_first_word_label" not in pq.read_table(path).column_names
    found = read_predictions(path)
    assert (found.before, found.after) == (earlier, tuple(BEFORE))


def test_predictions_without_before_or_rows(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write_predictions(path, THREE, ["one"], [1], None, AFTER[:1])
    assert read_predictions(path).before is None
    write_predictions(path, THREE, [], [], [], [])
    assert read_predictions(path).after == ()


def test_predictions_must_pair_up(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    with pytest.raises(RunError, match="1 predictions after training, 2 texts and 2 labels"):
        write_predictions(path, THREE, ["one", "two"], [0, 1], None, AFTER[:1])
    with pytest.raises(RunError, match="2 log-probabilities for 3 labels"):
        write_predictions(path, THREE, ["one"], [0], None, [Prediction((-1.0, -2.0), None, None)])
    assert not path.exists()


def test_reading_predictions_that_are_not_there_or_foreign(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="missing; finish the run"):
        read_predictions(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no", encoding="utf-8")
    with pytest.raises(RunError, match="not a Parquet file"):
        read_predictions(tmp_path / "text.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(RunError, match="names no labels"):
        read_predictions(tmp_path / "other.parquet")
