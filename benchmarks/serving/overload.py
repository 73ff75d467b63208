"""``python -m benchmarks.serving.overload RUN``: the server at twice its capacity, with every answer checked.

Requests come at a fixed rate whatever the server does, as those of many independent clients do. Each holds one to four
texts. Every answer is compared with that to the same text alone, asked before, so an answer that was lost or given to
another request is counted.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks.machine import ROOT, machine, provenance, versions
from benchmarks.tables import save

RESULT = ROOT / "benchmarks" / "results" / "overload.json"
_MOST_TEXTS = 4
# Beyond the longest wait in the queue.
_PATIENCE_SECONDS = 300


@dataclass
class Overload:
    """What happened under overload.

    Attributes:
        capacity: texts answered a second by requests that each wait for the last one.
        offered: texts sent a second, accepted or not.
        seconds: duration.
        statuses: requests by status; "lost: ERROR" for a request without an answer.
        mixed_up: texts whose answer differs from that to the same text alone by more than the tolerance.
        largest_difference: largest difference of a probability from that to the same text alone.
        same_bytes: texts whose answer is exactly that to the same text alone.
        texts: texts that were answered.
        p50, p99: seconds from request to answer, of accepted requests.
        retry_after: median of the header in refusals, in seconds.
        slowest_health: longest answer of ``/health``, in seconds, asked once a second.
        rss: bytes of the server's memory: at the start, at most, and at the end.
        answered: texts answered a second, under this load.
    """

    capacity: float
    offered: float
    seconds: float
    statuses: dict[str, int] = field(default_factory=dict)
    mixed_up: int = 0
    largest_difference: float = 0
    same_bytes: int = 0
    texts: int = 0
    p50: float = 0
    p99: float = 0
    retry_after: float = 0
    slowest_health: float = 0
    rss: tuple[int, int, int] = (0, 0, 0)
    answered: float = 0

    @property
    def faults(self) -> list[str]:
        """What an overloaded server must not do, and this one did."""
        odd = {status: count for status, count in self.statuses.items() if status not in ("200", "429", "503")}
        found = [f"{count} requests: {status}" for status, count in odd.items()]
        return found + ([f"{self.mixed_up} answers to other texts"] if self.mixed_up else [])


class _Clients:
    """Requests to one server, and what became of them."""

    def __init__(self, client: httpx2.AsyncClient, texts: Sequence[str], tolerance: float) -> None:
        self._client, self._texts, self._tolerance = client, texts, tolerance
        self._random = random.Random(0)
        self._expected: dict[str, Mapping[str, Any]] = {}
        self.latencies: list[float] = []
        self.largest_difference = 0.0
        self.retries: list[int] = []
        self.counts = Counter[str]()
        self.statuses = Counter[str]()

    async def learn(self) -> None:
        """Ask for each text alone, and keep the answers to compare with."""
        for text in self._texts:
            response = await self._client.post("/v1/classify", json={"texts": text})
            response.raise_for_status()
            (self._expected[text],) = response.json()["results"]

    async def ask(self) -> None:
        """Send one request and count its outcome."""
        texts = self._random.choices(self._texts, k=self._random.randint(1, _MOST_TEXTS))
        sent = time.perf_counter()
        try:
            response = await self._client.post("/v1/classify", json={"texts": texts})
        except httpx2.HTTPError as error:
            self.statuses[f"lost: {type(error).__name__}"] += 1
            return
        self.statuses[str(response.status_code)] += 1
        if response.status_code == 200:
            self.latencies.append(time.perf_counter() - sent)
            for text, result in zip(texts, response.json()["results"], strict=True):
                self._compare(result, self._expected[text])
        elif "retry-after" in response.headers:
            self.retries.append(int(response.headers["retry-after"]))

    def forget(self) -> None:
        """Start to count anew."""
        for counted in (self.statuses, self.counts, self.latencies, self.retries):
            counted.clear()

    def _compare(self, result: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        found, wanted = result["probabilities"], expected["probabilities"]
        self.counts["texts"] += 1
        self.counts["same_bytes"] += result == expected
        difference = max(abs(found[label] - wanted[label]) for label in wanted)
        self.largest_difference = max(self.largest_difference, difference)
        self.counts["mixed_up"] += difference > self._tolerance


async def measure_overload(
    address: str,
    process: psutil.Process,
    texts: Sequence[str],
    *,
    seconds: float,
    factor: float,
    tolerance: float,
    clients: int,
) -> Overload:
    """Measure the server's capacity, and send ``factor`` times as much for ``seconds``.

    Args:
        address: URL of the server.
        process: of the server.
        texts: different texts to send.
        seconds: duration.
        factor: load as a multiple of the capacity.
        tolerance: largest difference of a probability by what is computed beside a text.
        clients: number of clients that measure the capacity, each with one request at a time.
    """
    pool = httpx2.Limits(max_connections=None, max_keepalive_connections=512)
    async with httpx2.AsyncClient(base_url=address, timeout=_PATIENCE_SECONDS, limits=pool) as client:
        load = _Clients(client, texts, tolerance)
        await load.learn()
        capacity = await _measure_capacity(load, clients, min(seconds, 20))
        found = Overload(capacity, capacity * factor, seconds)
        load.forget()
        start_rss = process.memory_info().rss
        watch = asyncio.create_task(_watch(client, process, found))
        asked, start = set[asyncio.Task[None]](), time.perf_counter()
        interval = (1 + _MOST_TEXTS) / 2 / found.offered
        for number in range(int(seconds / interval)):
            await asyncio.sleep(start + number * interval - time.perf_counter())
            task = asyncio.create_task(load.ask())
            asked.add(task)
            task.add_done_callback(asked.discard)
        while asked:
            await asyncio.wait(asked)
        found.answered = load.counts["texts"] / (time.perf_counter() - start)
        watch.cancel()
    found.statuses = dict(load.statuses)
    found.texts, found.same_bytes, found.mixed_up = (load.counts[key] for key in ("texts", "same_bytes", "mixed_up"))
    found.largest_difference = load.largest_difference
    found.p50, found.p99 = np.quantile(load.latencies, [0.5, 0.99]).tolist()
    found.retry_after = float(np.median(load.retries)) if load.retries else 0
    found.rss = (start_rss, max(start_rss, found.rss[1]), process.memory_info().rss)
    return found


async def _measure_capacity(load: _Clients, clients: int, seconds: float) -> float:
    start = time.perf_counter()

    async def ask_again() -> None:
        while time.perf_counter() - start < seconds:
            await load.ask()

    await asyncio.gather(*(ask_again() for _ in range(clients)))
    return load.counts["texts"] / (time.perf_counter() - start)


async def _watch(client: httpx2.AsyncClient, process: psutil.Process, found: Overload) -> None:
    while True:
        sent = time.perf_counter()
        (await client.get("/health")).raise_for_status()
        found.slowest_health = max(found.slowest_health, time.perf_counter() - sent)
        found.rss = (0, max(found.rss[1], process.memory_info().rss), 0)
        await asyncio.sleep(1)


@contextmanager
def _server(run: Path, options: Sequence[str]) -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", "whinchat", "serve", str(run), "--port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            printed = "".join(process.stdout.readline() for _ in range(3))
            yield json.loads(printed)["address"], psutil.Process(process.pid)
        finally:
            process.terminate()


def main() -> None:
    """Overload a server, write the result, and fail where an answer was lost or mixed up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--seconds", type=float, default=600, help="duration of the overload")
    parser.add_argument("--factor", type=float, default=2, help="load as a multiple of the capacity")
    parser.add_argument("--tolerance", type=float, default=0.1, help="largest difference of a probability by rounding")
    parser.add_argument("--max-waiting", type=int, default=256, help="the server's limit of texts that wait")
    options = parser.parse_args()
    column = pq.read_table(options.run / "predictions.parquet", columns=["text"])["text"]
    texts = list(dict.fromkeys(column.to_pylist()))
    settings = ["--max-waiting", str(options.max_waiting), "--max-texts", str(_MOST_TEXTS)]
    with _server(options.run, settings) as (address, process):
        found = asyncio.run(
            measure_overload(
                address,
                process,
                texts[:200],
                seconds=options.seconds,
                factor=options.factor,
                tolerance=options.tolerance,
                clients=options.max_waiting // _MOST_TEXTS,
            )
        )
    about = {
        "machine": machine(), "versions": versions(), "provenance": provenance("python -m benchmarks.serving.overload"),
    }  # fmt: skip
    save({**about, "max_waiting": options.max_waiting, **asdict(found)}, RESULT)
    print(json.dumps(asdict(found), indent=1))
    if found.faults:
        raise SystemExit("; ".join(found.faults))


if __name__ == "__main__":
    main()
