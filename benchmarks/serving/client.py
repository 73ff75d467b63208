"""A bounded number of clients that each ask, wait for the answer, and ask again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import httpx2
import numpy as np


@dataclass(frozen=True)
class Load:
    """What so many clients at a time got.

    Attributes:
        concurrency: clients.
        per_second: answers a second, from the first question to the last answer.
        p50, p99: seconds from a question to its answer.
        answers, refused: how many.
    """

    concurrency: int
    per_second: float
    p50: float
    p99: float
    answers: int
    refused: int


async def load(address: str, texts: Sequence[str], concurrency: int, seconds: float) -> Load:
    """Ask one text a request for ``seconds``; questions under way then are waited for."""
    turns = cycle(texts)
    times: list[float] = []
    refused = 0
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as client:
        start = time.perf_counter()

        async def ask() -> None:
            nonlocal refused
            while time.perf_counter() - start < seconds:
                begun = time.perf_counter()
                response = await client.post(f"{address}/v1/classify", json={"texts": next(turns)})
                if response.status_code == 200:
                    times.append(time.perf_counter() - begun)
                else:
                    refused += 1

        await asyncio.gather(*(ask() for _ in range(concurrency)))
        elapsed = time.perf_counter() - start
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return Load(concurrency, len(times) / elapsed, float(p50), float(p99), len(times), refused)
