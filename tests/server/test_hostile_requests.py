"""Requests that no honest client sends: each is refused with one sentence, at a cost that its size bounds."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.helpers.served import LIMITS, client_of
from whinchat.errors import ModelError, WhinchatError
from whinchat.inference.predictor import Predictions
from whinchat.server.access_rules import AccessRules
from whinchat.server.api_key import read_api_key
from whinchat.server.app import create_app
from whinchat.server.response_watch import SECURITY_HEADERS
from whinchat.server.served_models import ModelHost, ModelKey

JSON = {"Content-Type": "application/json"}
ROUTES = ("/v1/classify", "/v1/table?name=t.csv")


def refused(client: TestClient, status: int, url: str = "/v1/classify", method: str = "POST", **request: Any) -> str:
    """Send a request, check its refusal and return the reason."""
    response = client.request(method, url, **request)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"detail"}
    assert len(response.text) < 3000
    for name, value in SECURITY_HEADERS.items():
        assert response.headers[name] == value
    detail = response.json()["detail"]
    assert isinstance(detail, str)
    return detail


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"texts":["fine",NaN]}', 422, "texts[1]: Input should be a valid string"),
        (b'{"texts":["fine",1e999]}', 422, "texts[1]: Input should be a valid string"),
        (b'{"texts":"a","id":"\\ud83d"}', 422, "id: Extra inputs are not permitted"),
        (b'{"texts":"a","\\ud83d":1}', 422, "unable to parse raw data as a unicode string"),
        (b'{"texts":"a","model":"\\ud83d"}', 404, "no classifier '\\ud83d'"),
        (b'{"texts":"a","model":""}', 404, "no classifier ''"),
        (b'{"texts":"a","model":"' + b"m" * 9000 + b'"}', 404, "mmm...'"),
        (b'{"texts":"a","' + b"k" * 9000 + b'":1}', 422, "Extra inputs"),
        (b'{"texts":"a","before":"yes"}', 422, "before: Input should be a valid boolean"),
        (b'{"texts":"a","before":1}', 422, "before: Input should be a valid boolean"),
        (b'{"texts":["a",' + b"1" * 5000 + b"]}", 422, "texts[1]: Input should be a valid string"),
        (b'{"texts":' + b"[" * 90 + b"]" * 90 + b"}", 422, "texts[0]: Input should be a valid string"),
        (b'{"texts":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422, "100,001 values; a request may hold at most 40"),
        (b'{"texts":"a","texts":"b"}', 422, "the body has the key 'texts' twice"),
        (b'{"texts":"\xff"}', 422, "the body is not UTF-8: byte 10 (0xff)"),
        ('{"texts":"a"}'.encode("utf-16"), 422, "not UTF-8: byte 0"),
        (b'\xef\xbb\xbf{"texts":"a"}', 422, "not JSON: Unexpected UTF-8 BOM"),
        (b'{"texts":"a}', 422, "not JSON: Unterminated string starting at at line 1, column 10"),
        (b'{"texts":"a"}{}', 422, "not JSON: Extra data at line 1, column 14"),
        (b"", 422, "body: Field required"),
        (b"null", 422, "body: Input should be a valid"),
        (b"[]", 422, "body: Input should be a valid"),
        (b'{"texts":{}}', 422, "texts: Input should be a valid string"),
        (b'{"texts":[1,2,3,4,5]}', 422, "texts[2]: Input should be a valid string; and 2 more"),
        (b' { "texts" : [' + b" , ".join([b'"[,"'] * 200) + b' ] , "before":true}', 413, "hold at most 40 texts"),
        (b'{"texts":[' + b",".join([b"1"] * 200) + b"]}", 422, "201 values"),
        (b'{"texts":[' + b",".join([b'""'] * 41) + b"]}", 413, "texts: 41 texts; a request may hold at most 40"),
    ],
)
def test_bodies(client: TestClient, body: bytes, status: int, words: str) -> None:
    assert words in refused(client, status, content=body, headers=JSON)


@pytest.mark.parametrize("piece", [b"1,", b"[],", b'"\\"",', b'{"":0},', b"[", b'"', b'\\"', b'"\\"'])
def test_a_body_of_two_megabytes_is_refused_at_once(client: TestClient, piece: bytes) -> None:
    body = b'{"texts":[' + piece * (2_000_000 // len(piece))
    started = time.process_time()
    response = client.post("/v1/classify", content=body, headers=JSON)
    assert response.status_code in (413, 422)
    assert len(response.content) < 3000
    # Listing each element took minutes.
    assert time.process_time() - started < 2


def test_quotes_and_commas_in_texts_are_no_values(client: TestClient) -> None:
    texts = ['",",[{' * 9, "\\" * 60, '\\"' * 30]
    response = client.post("/v1/classify", json={"texts": texts})
    assert response.status_code == 200, response.text


def test_declared_as_something_else(client: TestClient) -> None:
    body = b'{"texts":"a"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x" * 9000):
        detail = refused(client, 415, content=body, headers={"Content-Type": kind})
        assert detail.startswith(f"Content-Type: is '{kind[:80]}")
    assert client.post("/v1/classify", content=body, headers={"Content-Type": ""}).status_code == 415
    good = client.post("/v1/classify", content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert good.status_code == 200
    for url in ROUTES:
        for encoding in ("gzip", "br", "identity, gzip"):
            headers = {**JSON, "Content-Encoding": encoding}
            assert "send the body uncompressed" in refused(client, 415, url, content=body, headers=headers)


def test_methods_and_addresses(client: TestClient) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
        assert refused(client, 405, "/v1/classify", method) == "this address takes POST only"
    assert refused(client, 405, "/health") == "this address takes GET only"
    for path in ("/redoc", "/health/", "/%00", "/..%2f..%2fetc/passwd", "/runs/%ff/card", "/" + "a" * 9000):
        assert refused(client, 404, path, "GET") in (
            "there is no such address; /docs lists them all",
            "there is no such page",
        )
    got, head = client.get("/v1/model"), client.head("/v1/model")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    paths = re.findall(r'whinchat_requests_total{path="([^"]*)"', client.get("/metrics").text)
    assert set(paths) == {
        "/v1/classify", "/health", "/v1/model", "/runs/{name}/card", "other",
    }  # fmt: skip


def test_query_strings(client: TestClient) -> None:
    assert refused(client, 422, "/v1/table") == "name: Field required"
    assert "at most 255 characters" in refused(client, 422, f"/v1/table?name={'n' * 9000}.csv")
    assert "no classifier 'mmm" in refused(client, 404, f"/v1/table?name=t.csv&model={'m' * 9000}")
    assert "no column '\ufffd'" in refused(client, 422, "/v1/table?name=t.csv&column=%ff", content=b"text\na\n")
    assert client.get(f"/v1/model?{'a=b&' * 5000}").status_code == 200


def test_the_names_of_a_server_on_this_machine(client: TestClient) -> None:
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "localhost."):
        assert client.get("/v1/model", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "", "localhost:80:80", "a@localhost"):
        assert "is no name of this server" in refused(client, 403, "/v1/model", "GET", headers={"Host": host})
        assert client.get("/health", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites(client: TestClient) -> None:
    good = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}
    assert client.post("/v1/classify", json={"texts": "a"}, headers=good).status_code == 200
    for origin in ("http://evil.example", "null", "http://localhost:3000", "http://localhost", "file://", "a" * 9000):
        for url in ROUTES:
            detail = refused(client, 403, url, content=b"{}", headers={**JSON, **good, "Origin": origin})
            assert "is another site" in detail


def test_allowed_names_and_every_address(host: ModelHost) -> None:
    rules = AccessRules.build("0.0.0.0", ["app.example", "*"], None)
    assert rules.is_public
    assert not AccessRules.build("127.0.0.1", [], None).is_public
    with client_of(
        create_app(host.models, host.predict, LIMITS, 4, AccessRules.build("0.0.0.0", ["app.example"], None))
    ) as client:
        for name in ("10.1.2.3:8000", "[fe80::1]", "app.example", "localhost"):
            assert client.get("/v1/model", headers={"Host": name}).status_code == 200, name
        assert "Host" in refused(client, 403, "/v1/model", "GET", headers={"Host": "evil.example"})
        proxied = {"Host": "10.1.2.3:8000", "Origin": "https://app.example"}
        assert client.post("/v1/classify", json={"texts": "a"}, headers=proxied).status_code == 200
    with client_of(create_app(host.models, host.predict, LIMITS, 4, rules)) as client:
        assert client.get("/v1/model", headers={"Host": "any.example"}).status_code == 200
        headers = {**JSON, "Host": "any.example", "Origin": "http://evil.example"}
        assert "Origin" in refused(client, 403, content=b"{}", headers=headers)


def test_pages_of_allowed_origins(host: ModelHost) -> None:
    rules = AccessRules.build("127.0.0.1", [], "s3cret", ["https://App.example:443/", "http://localhost:3000"])
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    with client_of(create_app(host.models, host.predict, LIMITS, 4, rules)) as client:
        for origin in ("https://app.example", "http://localhost:3000"):
            preflight = client.options("/v1/classify", headers={"Origin": origin, **ask})
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == origin
            headers = {"Origin": origin, "Authorization": "Bearer s3cret"}
            good = client.post("/v1/classify", json={"texts": "a"}, headers=headers)
            assert (good.status_code, good.headers["access-control-allow-origin"]) == (200, origin)
            # The page can read why it was refused.
            keyless = client.post("/v1/classify", json={"texts": "a"}, headers={"Origin": origin})
            assert (keyless.status_code, keyless.headers["access-control-allow-origin"]) == (401, origin)
        for origin in ("http://app.example", "https://app.example.evil", "https://app.example:8443", "null"):
            preflight = client.options("/v1/classify", headers={"Origin": origin, **ask})
            assert preflight.status_code == 400
            headers = {"Origin": origin, "Authorization": "Bearer s3cret"}
            detail = refused(client, 403, json={"texts": "a"}, headers=headers)
            assert detail.endswith("is another site; allow it with --allowed-origin")
            assert "access-control-allow-origin" not in preflight.headers
    # Off without the option.
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as client:
        assert client.options("/v1/classify", headers={"Origin": "https://app.example", **ask}).status_code == 403
    for wrong in ("app.example", "*", "https://app.example/page", "null", "https://user@app.example", "ftp://a"):
        with pytest.raises(WhinchatError, match=r"--allowed-origin: .* is no site; give scheme and name"):
            AccessRules.build("127.0.0.1", [], None, [wrong])


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret\n", encoding="utf-8")
    assert read_api_key(None, None, {}) is None
    assert read_api_key(None, None, {"WHINCHAT_API_KEY": "a"}) == "a"
    assert read_api_key("MY_KEY", None, {"MY_KEY": "b", "WHINCHAT_API_KEY": "a"}) == "b"
    assert read_api_key(None, file, {"WHINCHAT_API_KEY": "a"}) == "s3cret"
    (tmp_path / "bytes").write_bytes(b"\xff")
    refusals: list[tuple[str | None, Path | None, str]] = [
        ("MY_KEY", None, "MY_KEY: there is no such environment variable"),
        ("EMPTY", None, "EMPTY: the key is empty"),
        (None, tmp_path / "none", r"none: the key cannot be read \(No such file"),
        (None, tmp_path / "bytes", r"bytes: the key cannot be read \(is not UTF-8\)"),
        ("MY_KEY", file, "exclude each other"),
    ]
    for variable, path, words in refusals:
        with pytest.raises(WhinchatError, match=words):
            read_api_key(variable, path, {"EMPTY": ""})


def test_the_key(host: ModelHost) -> None:
    rules = AccessRules.build("127.0.0.1", [], "s3cret")
    with client_of(create_app(host.models, host.predict, LIMITS, 4, rules)) as client:
        assert client.get("/health").text == "ok"
        assert client.get("/ready").text == "ready"
        for path in ("/", "/page.js", "/v1/model", "/metrics", "/openapi.json", "/runs/first/card", "/none"):
            assert "has no valid key" in refused(client, 401, path, "GET")
        challenges = client.get("/").headers.get_list("www-authenticate")
        assert [challenge.split()[0] for challenge in challenges] == ["Basic", "Bearer"]
        for header in (
            "Bearer",
            "Bearer s3cre",
            "Bearer s3crett",
            "Bearer \u00e9",
            "Basic s3cret",
            "Basic czNjcmV0",
            "s3cret",
        ):
            headers = {"Authorization": header.encode("latin-1")}
            assert "has no valid key" in refused(client, 401, "/v1/model", "GET", headers=headers)
        assert client.get("/v1/model", headers={"Authorization": "bearer s3cret"}).status_code == 200
        assert client.get("/", auth=("any", "s3cret")).status_code == 200
    for key in ("", " ", "two words", "\u00e9", "a\nb"):
        with pytest.raises(WhinchatError, match="api_key: the key is empty or has characters"):
            AccessRules.build("127.0.0.1", [], key)


def test_errors_tell_nothing_of_the_inside(host: ModelHost, caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = [OSError(13, "secret", "/secret/path"), RuntimeError("torch ran out of secret memory")]

    def fails(key: ModelKey, texts: Sequence[str]) -> Predictions:
        raise errors[0]

    app = create_app(host.models, fails, LIMITS, 4)
    with client_of(app, raise_server_exceptions=False) as client:
        assert refused(client, 500, json={"texts": "a"}) == "the server failed; its log says why"
        assert client.get("/ready").status_code == 503
        assert client.get("/ready").text == "not ready: first cannot compute"
        assert client.get("/health").status_code == 200
        del errors[0]
        assert refused(client, 503, json={"texts": "a"}).startswith("first could not compute the texts; send fewer")
        assert "secret memory" in caplog.text
        errors[0] = KeyError("secret")
        events = client.post("/v1/table?name=t.csv", content=b"text\na\n").text.splitlines()
        assert json.loads(events[-1])["error"] == "the server failed; its log says why"
        assert 'status="500"' in client.get("/metrics").text


def test_a_table_that_cannot_go_on_says_so(host: ModelHost, client: TestClient) -> None:
    def fails_at_last(key: ModelKey, texts: Sequence[str]) -> Predictions:
        if "last" in texts:
            raise ModelError("'last' has scores that are not finite numbers")
        return host.predict(key, texts)

    body = b"text\n" + b"a\n" * 25 + b"last\n"
    with client_of(create_app(host.models, fails_at_last, LIMITS, 4)) as failing:
        lines = failing.post("/v1/table?name=in.csv", content=body).text.splitlines()
    events = [json.loads(line) for line in lines]
    reason = "the scores of first are not finite numbers; the server's log names the text"
    assert [(event["done"], event["error"]) for event in events] == [(0, None), (20, None), (20, reason)]
    assert {event["total"] for event in events} == {26}
    # A key that labelling adds is found before the first row is labelled; another prefix makes room.
    taken = b'{"text":"a"}\n{"text":"b","label":1}\n'
    advice = "choose a prefix for the added columns (`prefix`)"
    assert advice in refused(client, 422, "/v1/table?name=in.jsonl", content=taken)
    good = json.loads(client.post("/v1/table?name=in.jsonl&prefix=my_", content=taken).text.splitlines()[-1])
    assert (good["done"], good["error"]) == (2, None)
    deep = b'{"text":"a","id":' + b"[" * 5000 + b"]" * 5000 + b"}\n"
    last = json.loads(client.post("/v1/table?name=in.jsonl", content=deep).text.splitlines()[-1])
    assert (last["done"], last["bad"], last["error"]) == (1, _is_too_deep(deep), None)


def _is_too_deep(line: bytes) -> bool:
    """Whether this Python's JSON decoder gives up on the nesting of ``line``; 3.13 reads more than 3.11."""
    try:
        json.loads(line)
    except RecursionError:
        return True
    return False


def test_limits_of_tables(host: ModelHost) -> None:
    limits = LIMITS.model_copy(update={"max_table_rows": 30, "max_table_bytes": 1_000_000, "max_tables": 1})
    begun, go = threading.Event(), threading.Event()

    def slow(key: ModelKey, texts: Sequence[str]) -> Predictions:
        begun.set()
        assert go.wait(30)
        return host.predict(key, texts)

    with client_of(create_app(host.models, slow, limits, 4)) as client:
        url = "/v1/table?name=t.csv"
        assert "more than 30 rows" in refused(client, 413, url, content=b"text\n" + b"a\n" * 31)
        assert "a line is longer than 66,256 bytes" in refused(client, 413, url, content=b"text\n" + b"a" * 66_257)
        go.set()
        long = client.post(url, content=b"text\n" + b"a" * 61 + b"\nb\n").text.splitlines()
        last = json.loads(long[-1])
        assert (last["done"], last["bad"]) == (2, 1)
        assert "61 characters; a text may have at most 60" in last["table"]
        go.clear()
        begun.clear()
        first = threading.Thread(target=client.post, args=[url], kwargs={"content": b"text\na\n"})
        first.start()
        assert begun.wait(30)
        assert "as many tables are being labelled" in refused(client, 429, url, content=b"text\na\n")
        go.set()
        first.join()
        assert client.post(url, content=b"text\na\n").status_code == 200
        uploads: Path = client.app.state.uploads  # type: ignore[attr-defined]  # a FastAPI application
        assert list(uploads.iterdir()) == []
    assert not uploads.exists()
