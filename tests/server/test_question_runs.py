"""A served run with questions: answers over HTTP, tables, and the refusals between labels and questions."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.helpers import finished_runs, tiny_questions
from tests.helpers.served import LIMITS, client_of
from whinchat.export.export_run import export_run
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.server.app import create_app
from whinchat.server.run_pages import RunPages
from whinchat.server.served_models import ModelHost
from whinchat.storage.run_folder import RunFolder

TEXTS = ["rain\n\nbad train and sea day", "tea\n\ngood day"]


@pytest.fixture(scope="module")
def client(tiny_llama: Path) -> Iterator[TestClient]:
    runs = {"tickets": tiny_questions.finished_run(tiny_llama), "labels": finished_runs.finished_run(tiny_llama)}
    host = ModelHost.load(runs)
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as started:
        yield started


def test_answers_are_the_predictor_s(client: TestClient, tiny_llama: Path) -> None:
    response = client.post("/v1/answer", json={"texts": TEXTS})
    assert response.status_code == 200, response.text
    wanted = QuestionPredictor.load(tiny_questions.finished_run(tiny_llama)).predict(TEXTS)
    for row, result in enumerate(response.json()["results"]):
        for name, answer in wanted.to_dict(row)["answers"].items():
            found = result["answers"][name]
            assert (found["type"], found["answer"], found["unsure"]) == (
                answer["type"], answer["answer"], answer["unsure"],
            )  # fmt: skip
            assert found["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-5)
            assert found["expected"] == pytest.approx(answer.get("expected"), abs=1e-5)


def test_a_merged_export_is_served_like_its_run(client: TestClient, tiny_llama: Path, tmp_path: Path) -> None:
    for question in (None, "quality"):
        export_run(tiny_questions.finished_run(tiny_llama), "merged", tmp_path / f"{question}", question=question)
    whole, single = (ModelHost.load({"merged": tmp_path / f"{question}"}) for question in (None, "quality"))
    wanted = client.post("/v1/answer", json={"texts": TEXTS, "model": "tickets"}).json()["results"]
    with client_of(create_app(whole.models, whole.predict, LIMITS, 4)) as started:
        for row, result in enumerate(started.post("/v1/answer", json={"texts": TEXTS}).json()["results"]):
            for name, answer in result["answers"].items():
                assert answer["answer"] == wanted[row]["answers"][name]["answer"]
                expected = wanted[row]["answers"][name]["probabilities"]
                assert answer["probabilities"] == pytest.approx(expected, abs=1e-5)
        assert started.post("/v1/classify", json={"texts": TEXTS}).status_code == 422
    with client_of(create_app(single.models, single.predict, LIMITS, 4)) as started:
        labelled = started.post("/v1/classify", json={"texts": TEXTS}).json()["results"]
        assert [row["label"] for row in labelled] == [row["answers"]["quality"]["answer"] for row in wanted]


def test_every_figure_of_the_run_is_shown(client: TestClient, tiny_llama: Path) -> None:
    figures = {model["name"]: model["figures"] for model in client.get("/v1/model").json()["models"]}
    shown = figures["tickets"]
    drawn = {file.name for file in (tiny_questions.finished_run(tiny_llama) / "figures").glob("*.svg")}
    names = [figure["url"].rpartition("/")[2] for figure in shown]
    assert set(names) == drawn
    assert len(names) == len(drawn) == 10
    assert (names[0], names[-1]) == ("questions.svg", "training_curve.svg")
    for figure in shown:
        assert client.get(figure["url"]).headers["content-type"] == "image/svg+xml"
        assert len(figure["alt"]) > 10
    alts = dict(zip(names, (figure["alt"] for figure in shown), strict=True))
    assert alts["question_mood.svg"].startswith("Confusion matrices of mood before and after training")
    assert alts["question_mood_reliability.svg"] == "Accuracy against confidence for mood."
    assert not any("question" in figure["url"] for figure in figures["labels"])


def test_texts_to_try_are_those_of_the_evaluation(client: TestClient, tiny_llama: Path) -> None:
    shown = {model["name"]: model["examples"] for model in client.get("/v1/model").json()["models"]}["tickets"]
    samples = RunFolder(tiny_questions.finished_run(tiny_llama) / "questions" / "mood").read_samples()
    assert len(shown) == 6
    assert set(shown) <= {sample.text for sample in samples}


def test_evidence_behind_a_link_is_not_shown(tiny_llama: Path, tmp_path: Path) -> None:
    run = tiny_questions.finished_run(tiny_llama)
    folder = RunFolder(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("questions")))
    questions = folder.read_recipe().task.questions
    assert RunPages.read("run", RunFolder(run), 500, questions=questions).examples
    folder.decisions.symlink_to(run / "questions")
    assert RunPages.read("run", folder, 500, questions=questions).examples == ()


def test_a_table_gets_a_column_for_each_answer(client: TestClient) -> None:
    body = "title,body\nrain,bad train day\ntea,\n,\n"
    columns = client.post("/v1/columns?name=in.csv", content=body).json()
    assert columns["text_template"] == "{title}\n\n{body}"
    events = [json.loads(line) for line in client.post("/v1/table?name=in.csv", content=body).text.splitlines()]
    assert (events[-1]["done"], events[-1]["bad"], events[-1]["error"]) == (3, 1, None)
    rows = list(csv.DictReader(io.StringIO("".join(event["table"] for event in events))))
    asked: dict[str, Any] = client.post("/v1/answer", json={"texts": "rain\n\nbad train day"}).json()["results"][0]
    assert rows[0]["mood"] == asked["answers"]["mood"]["answer"]
    assert json.loads(rows[0]["tags"]) == asked["answers"]["tags"]["answer"]
    assert rows[2]["mood"] == ""
    assert "nothing" in rows[2]["error"]
    counts = events[-1]["labels"]
    assert sum(count for name, count in counts.items() if name.startswith("mood: ")) == 2


def test_labels_and_questions_refuse_each_other(client: TestClient) -> None:
    for address, model, words in (
        ("/v1/classify", "tickets", "answers questions (mood, rain, quality, tags)"),
        ("/v1/answer", "labels", "has labels and no questions"),
    ):
        response = client.post(address, json={"texts": "a", "model": model})
        assert response.status_code == 422
        assert words in response.json()["detail"]
