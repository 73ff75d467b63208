"""The HTTP application: predictions, refusals, tables, the run's pages and metrics."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.helpers import tiny_models
from tests.helpers.served import LIMITS, client_of
from whinchat.errors import ModelError, RunError
from whinchat.evaluation.scoring import label_probabilities, score_prompts
from whinchat.inference.predict_file import predict_file
from whinchat.inference.predictor import Predictions, Predictor
from whinchat.server.app import create_app
from whinchat.server.run_pages import FIGURE_CAPTIONS
from whinchat.server.served_models import ModelHost, ModelKey
from whinchat.training.prepare import prepare_training

TEXTS = list(tiny_models.toy_rows(10, tiny_models.ONE_TOKEN, 5)[0])


def shares(results: Sequence[dict[str, Any]]) -> np.ndarray:
    return np.array([list(result["probabilities"].values()) for result in results])


def ask(client: TestClient, **body: Any) -> Any:
    response = client.post("/v1/classify", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refusal(client: TestClient, status: int, **body: Any) -> str:
    response = client.post("/v1/classify", json=body)
    assert response.status_code == status, response.text
    detail = response.json()["detail"]
    return detail if isinstance(detail, str) else json.dumps(detail)


def test_every_adapter_answers_as_it_does_alone(client: TestClient, runs: dict[str, Path]) -> None:
    for name in ("first", "second", "first"):
        predictor = Predictor.load(runs[name])
        predictions = predictor.predict(TEXTS)
        body = ask(client, texts=TEXTS, model=name)
        assert body["model"] == name
        assert [result["label"] for result in body["results"]] == predictions.label_names
        assert [result["unsure"] for result in body["results"]] == predictions.unsure.tolist()
        assert list(body["results"][0]["probabilities"]) == list(predictions.labels)
        np.testing.assert_allclose(shares(body["results"]), predictions.probabilities, atol=1e-5)


def test_one_text_and_the_default(client: TestClient) -> None:
    body = ask(client, texts=TEXTS[0])
    assert body["model"] == "first"
    assert body["results"][0]["before"] is None
    assert len(body["results"]) == 1


def test_before_is_the_model_without_its_adapter(client: TestClient, runs: dict[str, Path]) -> None:
    recipe = Predictor.load(runs["second"]).recipe
    from whinchat.data.sources import load_corpus
    from whinchat.models.forward import Engine

    backbone, template = prepare_training(recipe, load_corpus(recipe))
    plain = label_probabilities(
        score_prompts(Engine.build(backbone.model, backbone.plan, template), template.encode(TEXTS), 8)
    )
    results = ask(client, texts=TEXTS, model="second", before=True)["results"]
    np.testing.assert_allclose(shares([result["before"] for result in results]), plain, atol=1e-5)
    assert not np.allclose(shares(results), plain, atol=1e-3)
    # And the adapter is back at work.
    assert ask(client, texts=TEXTS, model="second")["results"][0]["probabilities"] == results[0]["probabilities"]


def test_merged_weights_have_no_before(runs: dict[str, Path], tmp_path: Path) -> None:
    from whinchat.export.export_run import export_run

    export_run(runs["first"], "merged", tmp_path / "merged")
    host = ModelHost.load({"merged": tmp_path / "merged"})
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as client:
        assert "merged weights, so the model before fine-tuning is not there" in refusal(
            client, 422, texts="a", before=True
        )
        predictor = Predictor.load(runs["first"])
        predictions = predictor.predict(TEXTS)
        np.testing.assert_allclose(shares(ask(client, texts=TEXTS)["results"]), predictions.probabilities, atol=1e-4)
        assert client.get("/v1/model").json()["models"][0]["has_before"] is False


def test_runs_of_two_backbones(runs: dict[str, Path], tmp_path: Path) -> None:
    changed_run = tmp_path / "other"
    shutil.copytree(runs["first"] / "adapter", changed_run)
    recipe = (changed_run / "recipe.yaml").read_text(encoding="utf-8")
    changed = recipe.replace("attn_implementation: auto", "attn_implementation: sdpa")
    assert changed != recipe
    (changed_run / "recipe.yaml").write_text(changed, encoding="utf-8")
    with pytest.raises(RunError, match=r"its backbone is not that of .*; one server holds one backbone"):
        ModelHost.load({"a": runs["first"], "b": changed_run})


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"texts": ["ab"] * 41}, 413, "texts: 41 texts; a request may hold at most 40"),
        ({"texts": ["ok", "x" * 61]}, 413, "texts[1]: 61 characters; a text may have at most 60"),
        ({"texts": "a", "model": "third"}, 404, "there is no classifier 'third'; choose from first, second"),
        ({"texts": []}, 422, "at least 1 item"),
        ({"texts": [3]}, 422, "valid string"),
        ({"text": "a"}, 422, "Extra inputs are not permitted"),
        ({}, 422, "Field required"),
    ],
)
def test_what_is_refused(client: TestClient, body: dict[str, Any], status: int, words: str) -> None:
    assert words in refusal(client, status, **body)


def test_half_a_character_and_no_json(client: TestClient) -> None:
    response = client.post(
        "/v1/classify", content=b'{"texts": "\\ud83d"}', headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    assert "'texts[0]' holds half of a surrogate pair" in response.json()["detail"]
    broken = client.post("/v1/classify", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 422


def test_a_body_that_is_too_long_is_not_read(client: TestClient) -> None:
    table = b"text\n" + b"a\n" * 10_001
    for body in (table, iter([table[:15_000], table[15_000:]])):
        response = client.post("/v1/table?name=t.csv", content=body)
        assert response.status_code == 413
        assert response.json()["detail"] == "the body is longer than 20,000 bytes; send less in one request"


def test_too_many_waiting(host: ModelHost) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(key: ModelKey, texts: Sequence[str]) -> Predictions:
        begun.set()
        assert go.wait(10)
        return host.predict(key, texts)

    with client_of(create_app(host.models, slow, LIMITS, 1)) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, client, texts=TEXTS * 4)
        assert begun.wait(10)
        response = client.post("/v1/classify", json={"texts": TEXTS})
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
        assert response.json()["detail"] == "39 texts are waiting; try again in 1 second"
        assert "whinchat_waiting_texts 39.0" in client.get("/metrics").text
        go.set()
        assert len(first.result()["results"]) == 40


def test_batches_of_one_text_give_the_same_bytes_at_any_load(host: ModelHost) -> None:
    with client_of(create_app(host.models, host.predict, LIMITS, 1)) as client, ThreadPoolExecutor(4) as pool:
        alone = {text: ask(client, texts=text)["results"][0] for text in TEXTS}
        together = [TEXTS[start:] + TEXTS[:start] for start in range(len(TEXTS))]
        for texts, body in zip(together, pool.map(lambda texts: ask(client, texts=texts), together), strict=True):
            assert body["results"] == [alone[text] for text in texts]


def test_scores_that_are_not_finite_quote_no_text_to_other_clients(
    host: ModelHost, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(key: ModelKey, texts: Sequence[str]) -> Predictions:
        raise ModelError(f"{texts[0]} has scores that are not finite numbers")

    with client_of(create_app(host.models, broken, LIMITS, 1)) as client:
        detail = refusal(client, 500, texts=["my secret"])
    assert re.fullmatch(r"the scores of \S+ are not finite numbers; the server's log names the text", detail)
    assert "my secret has scores" in caplog.text


def test_a_table_is_that_of_predict(client: TestClient, runs: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    rows = "".join(f'{row},"{text}, yes"\n' for row, text in enumerate(TEXTS * 8))
    source.write_text(f"id,text\n{rows}broken\n", encoding="utf-8")
    predict_file(runs["first"], source, tmp_path / "out.csv")
    response = client.post("/v1/table?name=in.csv", content=source.read_bytes())
    assert response.status_code == 200
    events = [json.loads(line) for line in response.text.splitlines()]
    served = "".join(event["table"] for event in events)
    written = (tmp_path / "out.csv").read_text(encoding="utf-8")
    # Probabilities come from other batches, so their last printed digit may differ.
    number = re.compile(r"\b\d\.\d{6}\b")
    assert number.sub("#", served) == number.sub("#", written)
    np.testing.assert_allclose([*map(float, number.findall(served))], [*map(float, number.findall(written))], atol=2e-6)
    assert [event["done"] for event in events] == [0, 20, 40, 60, 80, 81]
    assert {event["total"] for event in events} == {81}
    last = events[-1]
    assert (sum(last["labels"].values()), last["bad"]) == (80, 1)


def test_tables_that_are_refused(client: TestClient) -> None:
    for name, body, words in (
        ("t.xlsx", b"x", "t.xlsx: is not a table that the server can label; send .csv, .tsv, .jsonl, .ndjson"),
        ("t.csv", b"", "t.csv: the file is empty"),
        (
            "t.csv",
            b"body\na\n",
            "t.csv:1: no column 'text'. Columns found: body. Name the right one with `column`",
        ),
        (
            "t.csv",
            b"text,label\na,b\n",
            "t.csv: has a column 'label' already; choose a prefix for the added columns (`prefix`)",
        ),
        ("t.jsonl", b'{"text": "a"}\n{"text": "b", "label": 1}\n', "t.jsonl:2: has a column 'label' already"),
        ("t.csv", "text\na\n".encode("utf-16"), "t.csv: is UTF-16, not UTF-8; save it as UTF-8"),
        ("t.csv", b"\x00\xe9\n", "t.csv:1: the header cannot be read: not UTF-8 (byte 0xe9); save it as UTF-8"),
    ):
        response = client.post("/v1/table", params={"name": name}, content=body)
        assert response.status_code == 422
        assert response.json()["detail"].startswith(words)
    for name in ("t.jsonl", "t.NDJSON"):
        response = client.post(f"/v1/table?name={name}&column=body&model=second", content=b'{"body": "a"}\n')
        assert json.loads(json.loads(response.text.splitlines()[-1])["table"])["label"] in tiny_models.BRANCHING


@pytest.mark.parametrize(
    ("name", "body", "columns", "text_column", "prefix"),
    [
        ("t.csv", b"id, text \n1,a\n", ["id", "text"], "text", ""),
        ("t.csv", b'\xef\xbb\xbf"my, body",label\n1,"cut o', ["my, body", "label"], None, "predicted_"),
        ("t.tsv", b"a\terror\tpredicted_error", ["a", "error", "predicted_error"], None, "predicted2_"),
        ("t.jsonl", b'\n{"text": "a", "p_good": 1}\n{"te', ["text", "p_good"], "text", "predicted_"),
        ("t.jsonl", b"no object\n", [], None, ""),
        # Longer than a line may be, in the lines of an old Mac.
        ("t.csv", b"text\r" + b"a b\r" * 20_000, ["text"], "text", ""),
    ],
)
def test_columns_of_a_table(
    client: TestClient, name: str, body: bytes, columns: list[str], text_column: str | None, prefix: str
) -> None:
    response = client.post("/v1/columns", params={"name": name}, content=body)
    assert response.status_code == 200, response.text
    assert response.json() == {
        "columns": columns, "text_column": text_column, "text_template": None, "prefix": prefix
    }  # fmt: skip


def test_texts_of_several_columns(runs: dict[str, Path], tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(runs["first"] / "adapter", changed)
    recipe = (changed / "recipe.yaml").read_text(encoding="utf-8").replace("text: null", 'text: "{a} {b}"', 1)
    (changed / "recipe.yaml").write_text(recipe, encoding="utf-8")
    host = ModelHost.load({"changed": changed})
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as client:
        (info,) = client.get("/v1/model").json()["models"]
        assert (info["text_column"], info["text_template"]) == (None, "{a} {b}")
        found = client.post("/v1/columns?name=t.csv", content=b"a,b,text\n").json()
        assert (found["text_column"], found["text_template"]) == (None, "{a} {b}")
        assert client.post("/v1/columns?name=t.csv", content=b"a,text\n").json()["text_template"] is None
        first, second = TEXTS[0].split(" ", 1)
        body = f"a,b\n{first},{second}\n,\n".encode()
        lines = client.post("/v1/table?name=t.csv", content=body).text.splitlines()
        labelled = "".join(json.loads(line)["table"] for line in lines)
        row = next(csv.DictReader(io.StringIO(labelled)))
        answer = ask(client, texts=TEXTS[0])["results"][0]
        assert row["label"] == answer["label"]
        assert float(row[f"p_{row['label']}"]) == pytest.approx(answer["probabilities"][row["label"]], abs=1e-5)
        assert labelled.splitlines()[2].endswith("'a' and 'b' hold nothing")
        refused = client.post("/v1/table?name=t.csv", content=b"a,c\nx,y\n")
        assert refused.status_code == 422
        assert "no column 'b'" in refused.json()["detail"]
        assert refused.json()["detail"].endswith("Name the right one with `column`")


def test_who_answers(client: TestClient, runs: dict[str, Path]) -> None:
    body = client.get("/v1/model").json()
    assert (body["default"], body["limits"]) == ("first", LIMITS.model_dump())
    first, second = body["models"]
    assert (first["labels"], first["method"], second["method"]) == (list(tiny_models.ONE_TOKEN), "LoRA", "DoRA")
    assert first["calibrated"]
    assert second["threshold"] is not None
    for name, model in (("first", first), ("second", second)):
        samples = json.loads((runs[name] / "samples.json").read_text(encoding="utf-8"))
        short = {sample["text"]: sample["expected"] for sample in samples if len(sample["text"]) <= LIMITS.max_chars}
        assert set(model["examples"]) <= set(short)
        assert len(model["examples"]) == 6
        # Every label has its turn before a label has a second one.
        count = len(set(short.values()))
        assert len({short[text] for text in model["examples"][:count]}) == count
    assert client.get("/health").text == "ok"
    assert client.get("/ready").text == "ready"
    # The card describes most figures; a figure that it does not show has a general caption.
    alts = {figure["url"].rpartition("/")[2]: figure["alt"] for figure in first["figures"]}
    assert "Expected calibration error" in alts["reliability.svg"]
    assert alts["coverage.svg"] == FIGURE_CAPTIONS["coverage"]
    for figure in first["figures"]:
        assert client.get(figure["url"]).headers["content-type"] == "image/svg+xml"
        assert figure["alt"]
    assert len(first["figures"]) >= 3
    card = client.get(first["card"]).text
    assert re.search(r"<h1>.*</h1>", card)
    assert "<table>" in card
    picture = re.search(r'src="(figures/[^"]+)"', card)
    assert picture
    assert client.get(f"/runs/first/{picture[1]}").status_code == 200
    assert "<!doctype html>" in client.get(first["report"]).text
    for path in (
        "/runs/third/card",
        "/runs/first/figures/..%2Frecipe.yaml",
        "/runs/first/figures/per_label.txt",
        "/runs/first/recipe.yaml",
        "/redoc",
        "/swagger_ui/README.md",
    ):
        assert client.get(path).status_code == 404, path


def test_an_adapter_alone_has_no_pages(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["first"] / "adapter", tmp_path / "alone")
    host = ModelHost.load({"alone": tmp_path / "alone"})
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as client:
        (model,) = client.get("/v1/model").json()["models"]
        assert (model["figures"], model["card"], model["report"]) == ([], None, None)
        assert model["examples"] == []
        assert ask(client, texts="a")["model"] == "alone"


def test_no_text_of_the_data_is_shown_where_the_recipe_says_so(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "secret"
    shutil.copytree(runs["first"], folder)
    for recipe in (folder / "recipe.yaml", folder / "adapter" / "recipe.yaml"):
        text = recipe.read_text(encoding="utf-8")
        recipe.write_text(re.sub(r"(publish:\n(?:  .*\n)*?  samples: )\w+", r"\1none", text), encoding="utf-8")
    host = ModelHost.load({"secret": folder})
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as client:
        assert client.get("/v1/model").json()["models"][0]["examples"] == []


def test_nothing_comes_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/page.js", "/page.css", "/docs", "/docs.js", "/swagger_ui/swagger-ui.css"):
        response = client.get(path)
        assert response.status_code == 200
        assert not re.search(r'(src|href)="(https?:)?//|url\(http|import .*http', response.text)
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == response.headers["content-length"]


def test_openapi_has_examples(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    addresses = {f"/v1/{name}" for name in ("classify", "model", "answer", "columns", "table", "systemone", "models")}
    assert addresses | {"/health", "/ready", "/metrics"} == set(schema["paths"])
    classify = schema["paths"]["/v1/classify"]["post"]
    assert {"200", "404", "413", "422", "429"} <= set(classify["responses"])
    (single, several) = schema["components"]["schemas"]["ClassifyRequest"]["examples"]
    for example in (single, several):
        assert ask(client, **example)["results"]
    (example,) = schema["components"]["schemas"]["SystemOneRequest"]["examples"]
    assert client.post("/v1/systemone", json=example).status_code == 200


def test_metrics_count_what_happened(client: TestClient) -> None:
    results = ask(client, texts=TEXTS)["results"]
    refusal(client, 413, texts="x" * 61)
    client.get("/nothing/here")
    page = client.get("/metrics").text
    label = results[0]["label"]
    count = float(sum(result["label"] == label for result in results))
    assert f'whinchat_answers_total{{label="{label}",model="first"}} {count}' in page
    assert 'whinchat_requests_total{path="/v1/classify",status="200"} 1.0' in page
    assert 'whinchat_requests_total{path="/v1/classify",status="413"} 1.0' in page
    assert 'whinchat_requests_total{path="other",status="404"} 1.0' in page
    assert "whinchat_batch_texts_sum 10.0" in page
    assert "whinchat_batch_texts_count 3.0" in page
