"""Servers under test: limits small enough to reach, clients of an application, and a server in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from whinchat.inference.predictor import Predictions
from whinchat.server.api_schema import Limits
from whinchat.server.app import create_app
from whinchat.server.serve import listen, server_config
from whinchat.server.served_models import ModelHost, ModelKey

LIMITS = Limits(max_chars=60, max_texts=40, max_waiting=40, max_table_bytes=20_000)
# Seconds after which a test gives up.
LONGEST = 30


def client_of(app: FastAPI, **options: Any) -> TestClient:
    """Return a client that asks the application by a name that it knows."""
    return TestClient(app, base_url="http://localhost", **options)


@dataclass
class Served:
    """A server in a thread, whose classifier computes while ``go`` is set, and ``delay`` seconds a batch longer."""

    server: uvicorn.Server
    port: int
    delay: float = 0
    go: threading.Event = field(default_factory=threading.Event)
    batches: list[Sequence[str]] = field(default_factory=list)

    def connect(self, sent: bytes = b"") -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=LONGEST)
        client.sendall(sent)
        return client

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(LONGEST * 100):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("the server did not come so far")


@contextmanager
def serving(host: ModelHost, limits: Limits, delay: float = 0) -> Iterator[Served]:
    """Run a server in a thread."""
    listening = listen("127.0.0.1", 0)

    def predict(key: ModelKey, texts: Sequence[str]) -> Predictions:
        served.batches.append(texts)
        assert served.go.wait(LONGEST)
        time.sleep(served.delay)
        return host.predict(key, texts)

    app = create_app(host.models, predict, limits, 4)
    served = Served(uvicorn.Server(server_config(app, limits)), listening.getsockname()[1], delay)
    served.go.set()
    thread = threading.Thread(target=served.server.run, kwargs={"sockets": [listening]})
    thread.start()
    served.until(lambda: served.server.started)
    try:
        yield served
    finally:
        served.go.set()
        served.server.should_exit = True
        thread.join(LONGEST)
        assert not thread.is_alive()
