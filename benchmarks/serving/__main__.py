"""``python -m benchmarks.serving RUN``: throughput and latency by number of clients, with rounds in turn."""

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import numpy as np
import pyarrow.parquet as pq
from matplotlib.ticker import NullLocator

from benchmarks.figures import plain_log_ticks, save_png
from benchmarks.machine import ROOT, machine, provenance, versions
from benchmarks.markdown import format_spread, markdown_table
from benchmarks.measure import spread
from benchmarks.tables import save
from whinchat.export.export_run import export_run
from whinchat.report.figures.style import LIGHT, figure_theme, new_figure

RESULT = ROOT / "benchmarks" / "results" / "serving.json"
FIGURE = ROOT / "docs" / "images" / "benchmarks-serving.png"
OURS, MERGED, PEER = "whinchat serve", "whinchat serve, merged", "pipeline behind FastAPI"
START_SECONDS = 180

Load = dict[str, Any]


async def load(address: str, texts: Sequence[str], clients: int, seconds: float) -> Load:
    """Let clients send a text, wait for the answer and send the next, for ``seconds``; return rate and latencies."""
    turns, times, refused = cycle(texts), list[float](), 0
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as client:
        start = time.perf_counter()

        async def ask() -> None:
            nonlocal refused
            while (sent := time.perf_counter()) - start < seconds:
                response = await client.post(f"{address}/v1/classify", json={"texts": next(turns)})
                if response.status_code == 200:
                    times.append(time.perf_counter() - sent)
                else:
                    refused += 1

        await asyncio.gather(*(ask() for _ in range(clients)))
        rate = len(times) / (time.perf_counter() - start)
    p50, p99 = np.quantile(times, [0.5, 0.99]).tolist()
    return {
        "concurrency": clients, "per_second": rate, "p50": p50, "p99": p99, "answers": len(times), "refused": refused,
    }  # fmt: skip


@contextmanager
def server(command: Sequence[str]) -> Iterator[str]:
    """Start a server on a free port of this machine, and give its address once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, silent = f"http://127.0.0.1:{port}", subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-m", *command, str(port)], stderr=silent, stdout=silent) as process:
        try:
            for _ in range(START_SECONDS):
                try:
                    urllib.request.urlopen(f"{address}/ready", timeout=START_SECONDS).close()
                    break
                except urllib.error.URLError:
                    if process.poll() is not None:
                        raise SystemExit(f"{' '.join(command)}: ended before it was ready") from None
                    time.sleep(1)
            yield address
        finally:
            process.terminate()


def measure(
    addresses: Mapping[str, str], texts: Sequence[str], clients: Sequence[int], seconds: float, rounds: int
) -> dict[str, list[list[Load]]]:
    """Return the rounds of each server, each with a load for each number of clients."""
    loads: dict[str, list[list[Load]]] = {name: [] for name in addresses}
    for name, address in addresses.items():
        asyncio.run(load(address, texts, max(clients), min(seconds, 3)))
        print(f"{name}: warm", flush=True)
    for number in range(1, rounds + 1):
        for name, address in addresses.items():
            loads[name].append([asyncio.run(load(address, texts, count, seconds)) for count in clients])
            rates = ", ".join(f"{one['concurrency']}: {one['per_second']:.1f}/s" for one in loads[name][-1])
            print(f"round {number}, {name}: {rates}", flush=True)
    return loads


def summarize(rounds: Sequence[Sequence[Load]]) -> list[Load]:
    """Return medians over the rounds for each number of clients, with the least and the greatest rate."""
    merge = {"concurrency": max, "per_second": spread, "p50": median, "p99": median, "answers": sum, "refused": sum}
    return [
        {key: function([point[key] for point in loads]) for key, function in merge.items()}
        for loads in zip(*rounds, strict=True)
    ]


def table(servers: Mapping[str, Sequence[Load]]) -> str:
    """Return the medians as Markdown."""
    rows = [
        (
            str(point["concurrency"]), name, format_spread(point["per_second"], 1),
            f"{1000 * point['p50']:,.0f} ms", f"{1000 * point['p99']:,.0f} ms",
        )
        for points in zip(*servers.values(), strict=True)
        for name, point in zip(servers, points, strict=True)
    ]  # fmt: skip
    return markdown_table(("clients", "server", "answers a second (rounds)", "p50", "p99"), rows)


def draw(servers: Mapping[str, Sequence[Load]], path: Path) -> None:
    """Draw throughput and latency against the number of clients."""
    with figure_theme(LIGHT):
        figure = new_figure(9.0, 3.9)
        rate, latency = figure.subplots(1, 2)
        for name, color in ((OURS, LIGHT.after), (MERGED, LIGHT.accent), (PEER, LIGHT.before)):
            points = servers[name]
            clients = [point["concurrency"] for point in points]
            middle, low, high = ([point["per_second"][key] for point in points] for key in ("median", "min", "max"))
            rate.plot(clients, middle, "o-", color=color, label=name)
            rate.fill_between(clients, low, high, color=color, alpha=0.18, lw=0)
            for quantile, line in (("p50", "o-"), ("p99", "^--")):
                seconds = [point[quantile] for point in points]
                latency.plot(clients, seconds, line, color=color, label=f"{name}, {quantile}")
        rate.set(ylabel="answers a second", ylim=(0, None))
        latency.set(ylabel="seconds to an answer", yscale="log")
        plain_log_ticks(latency, (1.0, 3.0))
        for ax in (rate, latency):
            ax.set(xscale="log", xlabel="clients at a time")
            ax.set_xticks(clients, list(map(str, clients)))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.grid()
            ax.legend(fontsize=8.5)
        figure.suptitle("Serving SmolLM2-135M, one tweet a request", x=0.0, ha="left")
        save_png(figure, path)


def main() -> None:
    """Measure all servers, write the result, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run whose labels are one token each")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 64], help="numbers of clients")
    parser.add_argument("--seconds", type=float, default=8, help="duration of each load")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    texts = pq.read_table(options.run / "predictions.parquet", columns=["text"])["text"].to_pylist()[:400]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        export_run(options.run, "merged", folder / "merged")
        export_run(options.run, "classifier", folder / "classifier")
        commands = {
            OURS: ["whinchat", "serve", str(options.run), "--port"],
            MERGED: ["whinchat", "serve", str(folder / "merged"), "--port"],
            PEER: ["benchmarks.serving.peer", str(folder / "classifier")],
        }
        addresses = {name: stack.enter_context(server(command)) for name, command in commands.items()}
        loads = measure(addresses, texts, options.concurrency, options.seconds, options.rounds)
    servers = {name: summarize(rounds) for name, rounds in loads.items()}
    about = {"machine": machine(), "versions": versions(), "provenance": provenance("python -m benchmarks.serving")}
    save({**about, "servers": servers, "rounds": loads}, RESULT)
    draw(servers, FIGURE)
    print(table(servers))


if __name__ == "__main__":
    main()
