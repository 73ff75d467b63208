"""Labelled files: the answers of the classifier, the same bytes however often the job was killed."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.helpers.tables import ROWS
from whinchat.data.formats.delimited import CsvFormat
from whinchat.errors import DataError, RunError
from whinchat.inference import predict_file, prediction_jobs
from whinchat.inference.predict_file import predict_in_process, predict_tables
from whinchat.inference.prediction_jobs import PredictionJob, open_job, plan_jobs
from whinchat.inference.predictor import Predictor
from whinchat.output_files import draft_path
from whinchat.storage.locate import find_classifier


def label(trained: Path, source: Path, out: Path, **settings: Any) -> dict[str, Any]:
    (counts,) = predict_tables(
        plan_jobs(trained, source, out, rows_per_part=4, **settings), predict_in_process(trained)
    ).values()
    return vars(counts)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_gets_the_classifiers_answer(trained: Path, source: Path, tmp_path: Path) -> None:
    counts = label(trained, source, tmp_path / "out.csv")
    rows, predictor = read(tmp_path / "out.csv"), Predictor.load(trained)
    assert [row["id"] for row in rows] == [*map(str, range(ROWS - 1)), "broken"]
    answers = predictor.predict([row["text"] for row in rows[:-1]])
    assert [row["label"] for row in rows] == [*answers.label_names, ""]
    shares = np.array([[float(row[f"p_{label}"]) for label in answers.labels] for row in rows[:-1]])
    np.testing.assert_allclose(shares, answers.probabilities, atol=2e-6)
    assert rows[-1]["error"] == "1 fields, the header has 2"
    assert (counts["rows"], counts["bad"]) == (ROWS, 1)
    assert sum(counts["labels"].values()) == ROWS - 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv", "out.csv.json"]


def test_equal_texts_of_a_part_are_answered_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["good", "bad", "good", "fine", "good", "", "bad"]
    with (tmp_path / "in.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    asked: list[list[str]] = []
    real = Predictor.predict

    def predict(self: Predictor, texts: list[str], **settings: Any) -> Any:
        asked.append(texts)
        return real(self, texts, **settings)

    monkeypatch.setattr(Predictor, "predict", predict)
    counts = label(trained, tmp_path / "in.csv", tmp_path / "out.csv")
    assert [sorted(part) for part in asked] == [["bad", "fine", "good"], ["bad", "good"]]
    assert (counts["rows"], counts["repeated"]) == (7, 1)
    rows = read(tmp_path / "out.csv")
    assert [row["text"] for row in rows] == texts
    alone = Predictor.load(trained)
    assert [bool(row["error"]) for row in rows] == [not text for text in texts]
    for row in filter(lambda row: row["text"], rows):
        answer = real(alone, [row["text"]])
        assert row["label"] == answer.label_names[0]
        np.testing.assert_allclose(float(row[f"p_{answer.labels[0]}"]), answer.probabilities[0, 0], atol=2e-6)


def test_a_killed_job_goes_on_and_ends_in_the_same_bytes(
    trained: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(trained, source, tmp_path / "whole.csv")
    done: list[int] = []
    real_predict_part = predict_file.predict_part

    def dies_at_the_third(predictor: Predictor, job: PredictionJob, table: Any, place: Any, bar: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        real_predict_part(predictor, job, table, place, bar)
        done.append(place.number)

    monkeypatch.setattr(predict_file, "predict_part", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        label(trained, source, tmp_path / "out.csv")
    assert done == [0, 1]
    assert not (tmp_path / "out.csv").exists()
    # One more part is half written when the power goes.
    (tmp_path / "out.csv.parts" / ".00000002.csv.77").write_text("half", encoding="utf-8")
    again: list[int] = []

    def records_the_part(predictor: Predictor, job: PredictionJob, table: Any, place: Any, bar: Any) -> None:
        real_predict_part(predictor, job, table, place, bar)
        again.append(place.number)

    monkeypatch.setattr(predict_file, "predict_part", records_the_part)
    counts = label(trained, source, tmp_path / "out.csv")
    assert again == [2, 3, 4, 5]
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (counts["rows"], counts["bad"]) == (ROWS, 1)
    # Once more does nothing.
    assert label(trained, source, tmp_path / "out.csv") == counts
    assert again == [2, 3, 4, 5]


def test_the_bytes_do_not_depend_on_the_cores(trained: Path, source: Path, tmp_path: Path) -> None:
    had = torch.get_num_threads()
    try:
        for cores in (1, 2, 3):
            torch.set_num_threads(cores)
            label(trained, source, tmp_path / f"{cores}.csv")
    finally:
        torch.set_num_threads(had)
    assert len({(tmp_path / f"{cores}.csv").read_bytes() for cores in (1, 2, 3)}) == 1


def test_parts_of_another_job_are_not_taken(trained: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    (job,) = plan_jobs(trained, source, out, rows_per_part=4)
    open_job(job, overwrite=False)
    (other,) = plan_jobs(trained, source, out, rows_per_part=5)
    with pytest.raises(DataError, match=r"parts of another job \(different: rows_per_part\); use --overwrite"):
        open_job(other, overwrite=False)
    source.write_text("text\nchanged\n", encoding="utf-8")
    with pytest.raises(DataError, match="different: bytes, modified"):
        label(trained, source, out)
    out.write_text("someone else's", encoding="utf-8")
    with pytest.raises(DataError, match="is there already; use --overwrite"):
        label(trained, source, out)
    assert out.read_text(encoding="utf-8") == "someone else's"
    predict_tables(plan_jobs(trained, source, out), predict_in_process(trained), overwrite=True)
    assert read(out)[0]["text"] == "changed"


def test_a_folder_of_tables(trained: Path, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    (folder / "deep").mkdir(parents=True)
    source.rename(folder / "a.csv")
    (folder / "deep" / "b.NDJSON").write_text('{"text": "one"}\n{"text": "two"}\n', encoding="utf-8")
    (folder / "notes.txt").write_text("no table", encoding="utf-8")
    # What a killed command has left here.
    draft_path(folder / "a.csv").write_text("text\ncut o", encoding="utf-8")
    parts = folder / "deep" / "c.csv.parts"
    parts.mkdir()
    for name in ("job.json", "00000000.csv"):
        (parts / name).write_text("text\na\n", encoding="utf-8")
    counts = predict_tables(plan_jobs(trained, folder, tmp_path / "out"), predict_in_process(trained))
    assert list(counts) == [str(tmp_path / "out" / "a.csv"), str(tmp_path / "out" / "deep" / "b.NDJSON")]
    assert [table.rows for table in counts.values()] == [ROWS, 2]
    with pytest.raises(DataError, match="lies inside"):
        plan_jobs(trained, folder, folder / "out")


def test_a_compressed_table_and_formulas(trained: Path, tmp_path: Path) -> None:
    body = 'text,id\n=1+1,-1\n"@x\ny",2\n,3\n'
    for name, content in (("in.csv", body.encode()), ("in.csv.gz", gzip.compress(body.encode()))):
        (tmp_path / name).write_bytes(content)
    (counts,) = predict_file.predict_file(trained, tmp_path / "in.csv.gz", tmp_path / "a.csv.gz").values()
    assert (counts.rows, counts.bad) == (3, 1)
    predict_file.predict_file(trained, tmp_path / "in.csv", tmp_path / "a.csv")
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()
    assert [row["text"] for row in read(tmp_path / "a.csv")] == ["=1+1", "@x\ny", ""]
    predict_file.predict_file(trained, tmp_path / "in.csv", tmp_path / "b.csv", safe_csv=True)
    assert [tuple(row.values())[:2] for row in read(tmp_path / "b.csv")] == [
        ("'=1+1", "'-1"),
        ("'@x\ny", "2"),
        ("", "3"),
    ]
    assert [row["label"] for row in read(tmp_path / "b.csv")] == [row["label"] for row in read(tmp_path / "a.csv")]
    with pytest.raises(DataError, match=r"must end in \.csv\.gz"):
        predict_file.predict_file(trained, tmp_path / "in.csv.gz", tmp_path / "c.jsonl.gz")


def test_a_lost_row_is_noticed(trained: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CsvFormat, "count_rows", lambda self, path: ROWS - 1)
    with pytest.raises(RunError, match=f"{ROWS - 1} rows were written for {ROWS} in the source, which is a bug"):
        label(trained, source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_suffix_that_only_the_recipe_explains(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.txt").write_text("text\na\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"in\.txt: is not a table that whinchat can read"):
        label(trained, tmp_path / "in.txt", tmp_path / "out.txt")
    saved = find_classifier(trained)
    data = saved.recipe.data.model_copy(update={"format": "csv"})
    as_csv = replace(saved, recipe=saved.recipe.model_copy(update={"data": data}))
    monkeypatch.setattr(prediction_jobs, "find_classifier", lambda _, **__: as_csv)
    assert label(trained, tmp_path / "in.txt", tmp_path / "out.txt")["rows"] == 1


@pytest.mark.parametrize("case", ["broken link", "link to a folder", "link loop", "pipe"])
def test_a_folder_from_which_a_table_would_be_left_out(trained: Path, tmp_path: Path, case: str) -> None:
    folder = tmp_path / "tables"
    (folder / "x.csv").mkdir(parents=True)
    (folder / "x.csv" / "in.csv").write_text("text\na\n", encoding="utf-8")
    assert [job.out for job in plan_jobs(trained, folder, tmp_path / "out")] == [str(tmp_path / "out/x.csv/in.csv")]
    if case == "pipe":
        os.mkfifo(folder / "a.csv")
    else:
        target = {"broken link": "nowhere.csv", "link to a folder": ".", "link loop": "a.csv"}[case]
        (folder / "a.csv").symlink_to(folder / target)
    messages = {
        "broken link": r"a\.csv: a link to .*nowhere\.csv, which is missing; repair the link",
        "link to a folder": r"a\.csv: is a link to a folder, which is not followed",
        "link loop": r"a\.csv: a link to .*a\.csv, which is missing",
        "pipe": r"a\.csv: is a device or a pipe, where a file should be",
    }
    with pytest.raises(DataError, match=messages[case]):
        plan_jobs(trained, folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("out", "settings", "message"),
    [
        ("out.parquet", {}, r"must end in \.csv"),
        ("in.csv", {}, "is the source itself"),
        ("out.csv", {"text_column": "words"}, "no column 'words'"),
        ("out.csv", {"text_column": "id", "prefix": "te"}, None),
    ],
)
def test_what_is_refused(
    trained: Path, source: Path, tmp_path: Path, out: str, settings: dict[str, str], message: str | None
) -> None:
    if message is None:
        label(trained, source, tmp_path / out, **settings)
        assert "telabel" in read(tmp_path / out)[0]
        return
    with pytest.raises(DataError, match=message):
        label(trained, source, tmp_path / out, **settings)
    assert not (tmp_path / "out.csv.parts").exists()


def test_a_column_of_that_name_is_not_written_over(trained: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text,label\na,mine\n", encoding="utf-8")
    with pytest.raises(DataError, match="has a column 'label' already; choose a prefix"):
        label(trained, source, tmp_path / "out.csv")


def test_texts_of_several_columns_as_in_training(trained: Path, source: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(trained / "adapter", changed)
    recipe = yaml.safe_load((changed / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["data"] |= {"text": "{title} {body}", "text_column": "text"}
    (changed / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    texts = [row["text"].strip() for row in read(source)[:-1]]
    two = tmp_path / "two.csv"
    with two.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("title", "body"), *(text.split(" ", 1) for text in texts), ("", " ")])
    (plan,) = plan_jobs(changed, two, tmp_path / "made.csv")
    assert (plan.column, plan.template) == ("", "{title} {body}")
    label(changed, two, tmp_path / "made.csv")
    rows = read(tmp_path / "made.csv")
    answers = Predictor.load(changed).predict(texts)
    assert [row["label"] for row in rows] == [*answers.label_names, ""]
    assert rows[-1]["error"] == "'title' and 'body' hold nothing"
    # A column that the caller names counts more than the recipe.
    label(changed, two, tmp_path / "title.csv", text_column="title")
    answers = Predictor.load(changed).predict([text.split(" ", 1)[0] for text in texts])
    assert [row["label"] for row in read(tmp_path / "title.csv")[:-1]] == answers.label_names
    with pytest.raises(DataError, match=r"no column 'title'.* with data\.text \(to predict: --text-column\)"):
        label(changed, source, tmp_path / "none.csv")
