"""A server beyond its capacity: nothing lost or mixed up, honest refusals, bounded waiting and memory."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from benchmarks.serving.overload import Overload, measure_overload

from tests.helpers import finished_runs, tiny_models
from tests.helpers.served import LIMITS, serving
from whinchat.server.served_models import ModelHost


def test_three_times_the_capacity(tiny_llama: Path) -> None:
    host = ModelHost.load({"first": finished_runs.finished_run(tiny_llama)})
    texts = list(dict.fromkeys(tiny_models.toy_rows(40, tiny_models.ONE_TOKEN, 5)[0]))
    # Four texts in at least 0.1 s: 40 texts wait no longer than some seconds, even on a busy machine.
    with serving(host, LIMITS, delay=0.1) as served:
        address = f"http://127.0.0.1:{served.port}"
        process = psutil.Process()
        found = asyncio.run(measure_overload(address, process, texts, seconds=5, factor=3, tolerance=1e-4, clients=8))
    assert found.faults == []
    assert set(found.statuses) == {"200", "429"}
    assert found.capacity <= 40
    assert found.statuses["429"] > found.statuses["200"] / 4
    assert found.texts > LIMITS.max_waiting
    # 4/3 of the texts in the queue are computed before a request is answered, and two batches; the rest is for a
    # machine whose speed varies.
    queue = LIMITS.max_waiting / found.answered
    assert found.p99 < 2 * (4 / 3 * queue + 8 / found.answered)
    assert queue / 4 < found.retry_after < 3 * queue
    assert found.rss[1] - found.rss[0] < 200_000_000


@pytest.mark.parametrize(
    ("statuses", "mixed_up", "faults"),
    [
        ({"200": 3, "429": 2, "503": 1}, 0, []),
        ({"200": 3, "500": 1, "lost": 2}, 4, ["1 requests: 500", "2 requests: lost", "4 answers to other texts"]),
    ],
)
def test_what_counts_as_a_fault(statuses: dict[str, int], mixed_up: int, faults: list[str]) -> None:
    found = Overload(1, 2, 3, statuses, mixed_up)
    assert found.faults == faults
    assert json.loads(json.dumps(asdict(found)))["statuses"] == statuses
