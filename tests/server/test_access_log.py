"""The access log: what each line holds, and what it must not hold."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator

import pytest

from tests.helpers.served import LIMITS, client_of
from whinchat.server import access_log
from whinchat.server.access_log import write_access_log
from whinchat.server.access_rules import AccessRules
from whinchat.server.app import create_app
from whinchat.server.served_models import ModelHost

SECRET = "rain at the station"


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Return what was written to standard error since the last call; the logger is put back afterwards."""
    logger = logging.getLogger("whinchat.access")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield lambda: capsys.readouterr().err
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def send_requests(host: ModelHost) -> None:
    rules = AccessRules(api_key="k3y")
    headers = {"Authorization": "Bearer k3y"}
    with client_of(create_app(host.models, host.predict, LIMITS, 4, rules), headers=headers) as client:
        assert client.post("/v1/classify", json={"texts": [SECRET, SECRET]}).status_code == 200
        assert client.post(f"/v1/table?name={SECRET}.csv", content=f"text\n{SECRET}\nb\nc\n").status_code == 200
        assert client.get("/no%0Asuch page").status_code == 404
        assert client.head("/v1/model?k3y", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/health").status_code == 200


REQUESTS = [
    ("POST", "/v1/classify", 200, 2),
    ("POST", "/v1/table", 200, 3),
    ("GET", "/no%0Asuch%20page", 404, 0),
    ("HEAD", "/v1/model", 401, 0),
]


def test_json(host: ModelHost, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    others = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(others)])
    write_access_log("json")
    send_requests(host)
    written = log()
    requests = [json.loads(line) for line in written.splitlines()]
    assert [(one["method"], one["path"], one["status"], one["texts"]) for one in requests] == REQUESTS
    assert all(one["ms"] > 0 and one["logger"] == "whinchat.access" for one in requests)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"]) for one in requests)
    # The lines of other loggers, too.
    logging.getLogger("whinchat").warning("of another logger")
    other = json.loads(others.getvalue())
    assert (other["level"], other["message"]) == ("warning", "of another logger")
    assert SECRET not in written
    assert "k3y" not in written


def test_text(host: ModelHost, log: Callable[[], str]) -> None:
    write_access_log("text")
    send_requests(host)
    lines = log().splitlines()
    for line, (method, path, status, texts) in zip(lines, REQUESTS, strict=True):
        assert re.fullmatch(rf"[\d-]+T[\d:.]+Z {method} {re.escape(path)} {status} [\d.]+ ms, {texts} texts", line)


def test_a_client_that_went_away_has_no_status(log: Callable[[], str]) -> None:
    write_access_log("json")
    access_log.log_request({"method": "POST", "raw_path": b"/v1/classify?a", "state": {"texts": 1}}, None, 0.5)
    assert {"status": None, "ms": 500.0, "texts": 1}.items() <= json.loads(log()).items()
    write_access_log("text")
    access_log.log_request({"method": "GET", "raw_path": b"/%s", "state": {}}, None, 0)
    assert log().endswith(" GET /%s - 0 ms, 0 texts\n")


def test_without_the_option_nothing_is_logged(host: ModelHost, log: Callable[[], str]) -> None:
    send_requests(host)
    assert log() == ""
