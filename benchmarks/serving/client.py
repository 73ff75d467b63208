"""Clients that each send a text, wait for the answer, and send the next."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import httpx2
import numpy as np


@dataclass(frozen=True)
class Load:
    """The result of a number of clients at a time.

    Attributes:
        concurrency: number of clients.
        per_second: answers a second, from the first request to the last answer.
        p50, p99: quantiles of the seconds from a request to its answer.
        answers, refused: number of answers and of refused requests.
    """

    concurrency: int
    per_second: float
    p50: float
    p99: float
    answers: int
    refused: int


async def load(address: str, texts: Sequence[str], concurrency: int, seconds: float) -> Load:
    """Send requests of one text for ``seconds``, and wait for those that are under way then."""
    turns = cycle(texts)
    times: list[float] = []
    refused = 0
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as client:
        start = time.perf_counter()

        async def ask() -> None:
            nonlocal refused
            while time.perf_counter() - start < seconds:
                sent = time.perf_counter()
                response = await client.post(f"{address}/v1/classify", json={"texts": next(turns)})
                if response.status_code == 200:
                    times.append(time.perf_counter() - sent)
                else:
                    refused += 1

        await asyncio.gather(*(ask() for _ in range(concurrency)))
        elapsed = time.perf_counter() - start
    p50, p99 = np.quantile(times, [0.5, 0.99]).tolist()
    return Load(concurrency, len(times) / elapsed, p50, p99, len(times), refused)
