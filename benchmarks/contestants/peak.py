"""The machine's peak: square matrix products, the upper limit of every contestant's speed."""

import statistics
import time

import torch

from benchmarks.contestants.base import Contestant
from benchmarks.entries import Measured


class MatrixPeak(Contestant):
    """Rounds of ``a @ b`` for each of ``sizes``: the median time of the fastest size. "Examples" are GFLOP here."""

    def load(self) -> None:
        dtype, draw = getattr(torch, self.options["dtype"]), torch.Generator().manual_seed(0)
        self.pairs = {
            size: [torch.randn(size, size, generator=draw).to(dtype) for _ in range(2)]
            for size in self.options.get("sizes", (1024, 2048, 4096))
        }
        self.facts = {"dtype": self.options["dtype"], "threads": torch.get_num_threads()}

    def run(self, *, warm_up: bool = False) -> Measured:
        budget = 0.1 if warm_up else self.options.get("seconds_a_size", 1.0)
        gflop = {size: 2 * size**3 / 1e9 for size in self.pairs}
        seconds = {size: _median_seconds(a, b, budget) for size, (a, b) in self.pairs.items()}
        rates = {size: gflop[size] / seconds[size] for size in self.pairs}
        best = max(rates, key=rates.__getitem__)
        facts = {"gflops_by_size": {str(size): round(rate, 1) for size, rate in rates.items()}}
        return Measured(gflop[best], seconds[best], facts)


def _median_seconds(a: torch.Tensor, b: torch.Tensor, budget: float) -> float:
    """Return the median time of as many products as fit into ``budget`` seconds, at least five."""
    out = a @ b
    times: list[float] = []
    while len(times) < 5 or sum(times) < budget:
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
