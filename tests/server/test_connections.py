"""Connections of clients that are slow, that lie, that vanish or that are too many, and the end of a server."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from tests.helpers.served import LIMITS, LONGEST, Served, serving
from whinchat.server.response_watch import SECURITY_HEADERS
from whinchat.server.served_models import ModelHost


def read_all(client: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    received = b""
    while piece := client.recv(1 << 16):
        received += piece
    return received


def next_response(client: socket.socket) -> http.client.HTTPResponse:
    """Return the next response, without waiting for the end of the connection."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return response


def refusal(response: bytes) -> tuple[int, str]:
    """Return status and reason of the one response in ``response``, which has all security headers."""
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    assert "server" not in headers
    for name, value in SECURITY_HEADERS.items():
        assert headers[name.lower()] == value
    return int(lines[0].split()[1]), json.loads(body)["detail"]


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def classify(length: int, *lines: str) -> bytes:
    return head("/v1/classify", "Content-Type: application/json", f"Content-Length: {length}", *lines)


@pytest.fixture(scope="module")
def quick(host: ModelHost) -> Iterator[Served]:
    """A server with little patience."""
    changes = {
        "head_seconds": 0.5, "idle_seconds": 2, "transfer_seconds": 0.5, "min_bytes_per_second": 1_000_000,
        "max_connections": 20, "grace_seconds": 1, "max_table_bytes": 8_000_000, "max_body_bytes": 4000,
    }  # fmt: skip
    with serving(host, LIMITS.model_copy(update=changes)) as served:
        served.server.config.timeout_keep_alive = 0  # uvicorn's own, which does not count
        yield served


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"", 408, "no request has arrived in 0.5 seconds"),
        (b"POST /v1/classify HTTP/1.1\r\nHost: local", 408, "no request has arrived"),
        (classify(100) + b'{"texts"', 408, "the body has not arrived"),
        (head("/v1/table?name=t.csv", "Content-Length: 100") + b"text\n", 408, "the body has not arrived"),
        (head("/v1/table?name=t.csv", "Transfer-Encoding: chunked") + b"5\r\ntext\n\r\n", 408, "the body has not"),
        (classify(10**15), 413, "the body is longer than 4,000 bytes"),
        (classify(10**30), 400, "this is no HTTP request"),
        (classify(5000) + b"x" * 5000, 413, "the body is longer than 4,000 bytes"),
        (head("/v1/classify", "Content-Type: application/json", "Transfer-Encoding: chunked")
         + b"%x\r\n%s\r\n" % (5000, b"x" * 5000), 413, "the body is longer than 4,000 bytes"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "this is no HTTP request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "this is no HTTP request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "this is no HTTP request"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000, 400, "or its head is too long"),
        (classify(-1), 400, "this is no HTTP request"),
        (classify(5, "Content-Length: 6"), 400, "this is no HTTP request"),
    ],
)  # fmt: skip
def test_slow_and_lying_requests_end(quick: Served, sent: bytes, status: int, words: str) -> None:
    started = time.monotonic()
    with quick.connect(sent) as client:
        found, detail = refusal(read_all(client))
    assert (found, words in detail) == (status, True), detail
    assert time.monotonic() - started < 10


def test_a_body_that_goes_on_after_its_refusal_is_cut_off(quick: Served) -> None:
    def send_on(client: socket.socket) -> None:
        for _ in range(LONGEST * 20):
            client.sendall(b"x" * 1000)
            time.sleep(0.05)

    # The system words it in several ways.
    with quick.connect(classify(10**9)) as client, pytest.raises(OSError, match=r"\[Errno"):
        send_on(client)


def test_old_clients_and_pipelines(quick: Served) -> None:
    body = b'{"texts":"a"}'
    old = b"POST /v1/classify HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n" + body
    with quick.connect(old) as client:
        assert read_all(client).startswith(b"HTTP/1.1 200 ")
    with quick.connect((classify(13) + body) * 2 + b"garbage\r\n\r\n") as client:
        received = read_all(client)
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert received.count(b"HTTP/1.1 400 ") == 1
    with quick.connect(classify(13, "Expect: 100-continue")) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(body)
        assert b"HTTP/1.1 200 " in client.recv(1000)


def answered(client: socket.socket) -> bool:
    """Read the next response, and return whether it is one of success."""
    response = next_response(client)
    return bool(response.read()) and response.status == 200


def test_an_idle_connection_is_kept_longer_than_most_clients_keep_theirs(quick: Served) -> None:
    # httpx closes an idle connection after 5 seconds, load balancers and Go's client after 60 and 90. Where the server
    # does so at the same time, a request can cross the closing, and is lost.
    assert LIMITS.idle_seconds > 90
    with quick.connect(classify(13) + b'{"texts":"a"}') as client:
        assert answered(client)
        time.sleep(1)
        client.sendall(classify(13) + b'{"texts":"a"}')
        assert answered(client)
        started = time.monotonic()
        assert read_all(client) == b""
        assert 1 < time.monotonic() - started < 10
    # Time for a head, once its first byte has come.
    with quick.connect(classify(13) + b'{"texts":"a"}') as client:
        assert answered(client)
        client.sendall(b"GET")
        started = time.monotonic()
        assert read_all(client) == b""
        assert time.monotonic() - started < 1.5


GET_MODEL = b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_too_many_connections(quick: Served) -> None:
    silent = [quick.connect() for _ in range(20)]
    try:
        with quick.connect(GET_MODEL) as client:
            refused = next_response(client)
            assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
            reason = "the server has 20 connections already; try again in 1 second"
            assert json.loads(refused.read()) == {"detail": reason}
            # The same connection is answered once there is room.
            silent.pop().close()
            quick.until(lambda: len(quick.server.server_state.connections) == 20)
            client.sendall(GET_MODEL)
            assert answered(client)
            # It is idle now, so it is closed when another one comes.
            with quick.connect(GET_MODEL) as newer:
                assert answered(newer)
            while client.recv(10_000):
                pass
        silent.append(quick.connect())
        with quick.connect(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") as client:
            assert read_all(client).startswith(b"HTTP/1.1 200 ")
    finally:
        for client in silent:
            client.close()
    quick.until(lambda: not quick.server.server_state.connections)


def test_too_many_connections_may_come_again_when_the_texts_are_computed(host: ModelHost) -> None:
    body = json.dumps({"texts": ["a"] * 28}).encode()
    with serving(host, LIMITS.model_copy(update={"max_connections": 1}), delay=0.4) as served:
        with served.connect(classify(len(body)) + body), served.connect() as client:
            served.until(lambda: len(served.batches) == 2)
            client.sendall(GET_MODEL)
            refused = next_response(client)
        # Twenty texts are waiting, and four take at least 0.4 seconds.
        assert 2 <= int(refused.headers["Retry-After"]) <= 20


def test_a_client_that_does_not_read_is_cut_off(quick: Served) -> None:
    table = b"text,more\n" + (b"a," + b"m" * 60_000 + b"\n") * 120
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(LONGEST)
    with client:
        client.connect(("127.0.0.1", quick.port))
        client.sendall(head("/v1/table?name=t.csv", f"Content-Length: {len(table)}") + table)
        quick.until(lambda: quick.server.server_state.tasks)
        quick.until(lambda: not quick.server.server_state.connections)
    app = quick.server.config.app
    quick.until(lambda: not list(app.state.uploads.iterdir()))  # type: ignore[union-attr]  # a FastAPI application


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/table?name=t.csv"])
def test_the_texts_of_a_client_that_has_gone_are_not_computed(host: ModelHost, path: str) -> None:
    limits = LIMITS.model_copy(update={"max_texts": 40})
    with serving(host, limits) as served:
        served.go.clear()
        texts = [f"gone {number}" for number in range(20)]
        body = json.dumps({"texts": texts}).encode() if "classify" in path else "\n".join(["text", *texts]).encode()
        with served.connect(head(path, "Content-Type: application/json", f"Content-Length: {len(body)}") + body):
            served.until(lambda: served.batches)
        served.until(lambda: not served.server.server_state.tasks)
        assert list(served.server.config.app.state.uploads.iterdir()) == []  # type: ignore[union-attr]  # as above
        served.go.set()
        with served.connect(classify(16, "Connection: close") + b'{"texts":"last"}') as client:
            assert b" 200 " in read_all(client).partition(b"\r\n")[0]
        # Four texts were under way when the client went, the others are in no batch.
        assert [list(batch) for batch in served.batches] == [texts[:4], ["last"]]


@pytest.mark.parametrize("held", ["body", "table", "model"])
def test_a_server_ends_within_its_grace(host: ModelHost, held: str) -> None:
    """A body that never ends, a table that nobody reads, and a model that computes on."""
    changes = {"grace_seconds": 1, "max_table_bytes": 8_000_000}
    with serving(host, LIMITS.model_copy(update=changes)) as served:
        if held == "body":
            client = served.connect(classify(100) + b'{"texts"')
        elif held == "table":
            table = b"text,more\n" + (b"a," + b"m" * 60_000 + b"\n") * 120
            client = served.connect(head("/v1/table?name=t.csv", f"Content-Length: {len(table)}") + table)
        else:
            served.go.clear()
            client = served.connect(classify(13) + b'{"texts":"a"}')
            served.until(lambda: served.batches)
        served.until(lambda: served.server.server_state.tasks)
        app = served.server.config.app
        started = time.monotonic()
        served.server.handle_exit(signal.SIGTERM, None)
        served.until(lambda: not app.state.uploads.exists())  # type: ignore[union-attr]  # the last act
        assert time.monotonic() - started < 8
        client.close()
        served.server._captured_signals.clear()
