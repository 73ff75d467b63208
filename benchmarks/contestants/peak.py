"""The most this machine multiplies: square matrix products, the limit that everything else is held against."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from benchmarks.contestants.base import Base
from benchmarks.protocol import Measured


class MatrixPeak(Base):
    """Median GFLOP/s of ``a @ b`` for each of ``sizes``; the best size counts. "Examples" are GFLOP here."""

    def load(self) -> None:
        self.dtype = getattr(torch, self.options["dtype"])
        draw = torch.Generator().manual_seed(0)
        self.pairs = {
            size: [torch.randn(size, size, generator=draw).to(self.dtype) for _ in range(2)]
            for size in self.options.get("sizes", (1024, 2048, 4096))
        }
        self._facts = {"dtype": self.options["dtype"], "threads": torch.get_num_threads()}

    def run(self, *, warm_up: bool = False) -> Measured:
        budget = 0.1 if warm_up else self.options.get("seconds_a_size", 1.0)
        medians = {size: _median_seconds(a, b, budget) for size, (a, b) in self.pairs.items()}
        rates = {size: _gflop(size) / seconds for size, seconds in medians.items()}
        best = max(rates, key=rates.__getitem__)
        facts: dict[str, Any] = {"gflops_by_size": {str(size): round(rate, 1) for size, rate in rates.items()}}
        return Measured(_gflop(best), medians[best], facts)


def _gflop(size: int) -> float:
    return 2 * size**3 / 1e9


def _median_seconds(a: torch.Tensor, b: torch.Tensor, budget: float) -> float:
    """Median over as many products as fit into ``budget`` seconds, at least five."""
    out = a @ b
    times: list[float] = []
    while len(times) < 5 or sum(times) < budget:
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
