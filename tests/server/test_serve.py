"""The server as a process: it prints its address, answers, and ends only after every accepted request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import tiny_models
from whinchat.cli.options import parse_run_names
from whinchat.errors import RunError

SECONDS = 120


@pytest.fixture
def process(runs: dict[str, Path]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and its address."""
    command = [sys.executable, "-m", "whinchat", "serve", *(f"{name}={path}" for name, path in runs.items())]
    with subprocess.Popen(
        [*command, "--port", "0", "--json", "--batch-size", "1"], stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout is not None
            printed = "".join(started.stdout.readline() for _ in range(3))
            yield started, json.loads(printed)["address"]
        finally:
            started.kill()


def post(address: str, body: object) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(
        f"{address}/v1/classify", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        return response.status, json.load(response)


def test_it_ends_when_all_is_answered(process: tuple[subprocess.Popen[str], str]) -> None:
    server, address = process
    texts = list(tiny_models.toy_rows(500, tiny_models.ONE_TOKEN, 5)[0])
    responses: list[tuple[int, dict[str, object]]] = []
    client = threading.Thread(target=lambda: responses.append(post(address, {"texts": texts, "model": "second"})))
    client.start()
    # Once some of its 500 batches are computed, the request is under way.
    for _ in range(1000):
        metrics = urllib.request.urlopen(f"{address}/metrics", timeout=SECONDS).read().decode()
        if "whinchat_batch_texts_count 0.0" not in metrics:
            break
    os.kill(server.pid, signal.SIGTERM)
    client.join(SECONDS)
    ((status, body),) = responses
    assert status == 200
    results = body["results"]
    assert isinstance(results, list)
    assert len(results) == 500
    server.wait(SECONDS)
    with pytest.raises(OSError, match="refused"):
        post(address, {"texts": "a"})


def test_names_of_runs(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    paths = parse_run_names([str(tmp_path / "a"), f"b={tmp_path / 'a'}"])
    assert paths == {"a": tmp_path / "a", "b": tmp_path / "a"}
    with pytest.raises(RunError, match=r"'a' is already the name of .*; give another: OTHER="):
        parse_run_names(["runs/a", "elsewhere/a"])
