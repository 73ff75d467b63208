"""Which answers of the server its students gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.helpers import finished_runs, tiny_models
from tests.helpers.distilled_runs import UNSURE, distilled_questions, distilled_run
from tests.helpers.served import LIMITS, client_of
from whinchat.inference.predictor import Predictor
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.server.app import create_app
from whinchat.server.served_models import ModelHost

TEXTS = [
    *(f"{text} {row}" for row, text in enumerate(tiny_models.toy_rows(38, tiny_models.ONE_TOKEN, 11)[0])),
    *UNSURE,
]


def test_results_say_whether_the_student_answered(tiny_llama: Path) -> None:
    labels, questions = distilled_run(tiny_llama), distilled_questions(tiny_llama)
    predicted = Predictor.load(labels).predict(TEXTS)
    answered = QuestionPredictor.load(questions).predict(TEXTS)
    assert predicted.by_student is not None
    assert answered.by_student is not None
    assert 0 < predicted.by_student.sum() < len(TEXTS)
    host = ModelHost.load({"mine": labels, "tickets": questions, "plain": finished_runs.finished_run(tiny_llama)})
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as client:
        # Batches of four texts, in which those of the student and of the model are mixed.
        results = client.post("/v1/classify", json={"texts": TEXTS, "before": True}).json()["results"]
        assert [result["by_student"] for result in results] == predicted.by_student.tolist()
        assert not any("by_student" in result["before"] for result in results), "the model alone answers as before"
        shares = [list(result["probabilities"].values()) for result in results]
        np.testing.assert_allclose(shares, predicted.probabilities, atol=1e-5)
        results = client.post("/v1/answer", json={"texts": TEXTS, "model": "tickets"}).json()["results"]
        assert [result["by_student"] for result in results] == answered.by_student.tolist()
        (result,) = client.post("/v1/classify", json={"texts": TEXTS[0], "model": "plain"}).json()["results"]
        assert result["by_student"] is None
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("TextResult", "AnsweredText"):
        assert "null for a classifier without a student" in schemas[name]["properties"]["by_student"]["description"]
