"""``python -m benchmarks.serving RUN``: throughput and latency against concurrency, rounds interleaved."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.machine import machine, provenance, versions
from benchmarks.report import save
from benchmarks.serving.client import Load, load
from whinchat.export.export_run import export_run
from whinchat.report.figures.style import LIGHT, PNG_DPI, figure_theme, new_figure

RESULT = Path(__file__).parents[1] / "results" / "serving.json"
FIGURE = Path(__file__).parents[2] / "docs" / "images" / "benchmarks-serving.png"
OURS, MERGED, PEER = "whinchat serve", "whinchat serve, merged", "pipeline behind FastAPI"
START_SECONDS = 180


@contextmanager
def server(command: Sequence[str], port: int) -> Iterator[str]:
    """A server on this machine, once it is ready; its address."""
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, "-m", *command], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as one:
        try:
            for _ in range(START_SECONDS):
                try:
                    urllib.request.urlopen(f"{address}/ready", timeout=START_SECONDS).close()
                    break
                except urllib.error.URLError:
                    if one.poll() is not None:
                        raise SystemExit(f"{' '.join(command)}: ended before it was ready") from None
                    time.sleep(1)
            yield address
        finally:
            one.terminate()


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


def measure(
    addresses: Mapping[str, str], texts: Sequence[str], points: Sequence[int], seconds: float, rounds: int
) -> dict[str, list[list[Load]]]:
    """For each server the rounds, each with a load of every point."""
    found: dict[str, list[list[Load]]] = {name: [] for name in addresses}
    for name, address in addresses.items():
        asyncio.run(load(address, texts, max(points), min(seconds, 3)))  # warm
        print(f"{name}: warm", flush=True)
    for at in range(rounds):
        for name, address in addresses.items():
            found[name].append([asyncio.run(load(address, texts, point, seconds)) for point in points])
            said = ", ".join(f"{one.concurrency}: {one.per_second:.1f}/s" for one in found[name][-1])
            print(f"round {at + 1}, {name}: {said}", flush=True)
    return found


def summarize(rounds: Sequence[Sequence[Load]]) -> list[dict[str, Any]]:
    """Medians over the rounds, with the least and greatest rate."""
    points = []
    for ones in zip(*rounds, strict=True):
        rates = [one.per_second for one in ones]
        points.append(
            {
                "concurrency": ones[0].concurrency,
                "per_second": {"median": median(rates), "min": min(rates), "max": max(rates)},
                "p50": median(one.p50 for one in ones),
                "p99": median(one.p99 for one in ones),
                "answers": sum(one.answers for one in ones),
                "refused": sum(one.refused for one in ones),
            }
        )
    return points


def table(servers: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The same for people, as Markdown."""
    lines = [
        "| clients | server | answers a second (rounds) | p50 | p99 |",
        "|---|---|---|---|---|",
    ]
    for points in zip(*servers.values(), strict=True):
        for name, one in zip(servers, points, strict=True):
            rate = one["per_second"]
            spread = f"{rate['median']:.1f} ({rate['min']:.1f} to {rate['max']:.1f})"
            latency = " | ".join(f"{1000 * one[quantile]:,.0f} ms" for quantile in ("p50", "p99"))
            lines.append(f"| {one['concurrency']} | {name} | {spread} | {latency} |")
    return "\n".join(lines)


def draw(servers: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Throughput, and latency, against the number of clients."""
    with figure_theme(LIGHT):
        figure = new_figure(9.0, 3.9)
        rate, latency = figure.subplots(1, 2)
        for name, color in ((OURS, LIGHT.after), (MERGED, LIGHT.accent), (PEER, LIGHT.before)):
            points = servers[name]
            clients = [one["concurrency"] for one in points]
            rates = [one["per_second"] for one in points]
            rate.plot(clients, [one["median"] for one in rates], "o-", color=color, label=name)
            rate.fill_between(
                clients, [one["min"] for one in rates], [one["max"] for one in rates], color=color, alpha=0.18, lw=0
            )
            for quantile, line in (("p50", "o-"), ("p99", "^--")):
                latency.plot(clients, [one[quantile] for one in points], line, color=color, label=f"{name}, {quantile}")
        rate.set(ylabel="answers a second", ylim=(0, None))
        latency.set(ylabel="seconds to an answer", yscale="log")
        # Plain numbers, since the style reads no mathematics.
        latency.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=12))
        latency.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        latency.yaxis.set_minor_locator(NullLocator())
        for ax in (rate, latency):
            ax.set(xscale="log", xlabel="clients at a time")
            ax.set_xticks(clients, list(map(str, clients)))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.grid()
            ax.legend(fontsize=8.5)
        figure.suptitle("Serving SmolLM2-135M, one tweet a request", x=0.0, ha="left")
        figure.savefig(path, dpi=PNG_DPI, bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run whose labels are one token each")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=8, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    texts = pq.read_table(asked.run / "predictions.parquet", columns=["text"])["text"].to_pylist()[:400]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        export_run(asked.run, "merged", folder / "merged")
        export_run(asked.run, "classifier", folder / "classifier")
        commands = {
            OURS: (free_port(), ["whinchat", "serve", str(asked.run), "--port"]),
            MERGED: (free_port(), ["whinchat", "serve", str(folder / "merged"), "--port"]),
            PEER: (free_port(), ["benchmarks.serving.peer", str(folder / "classifier")]),
        }
        addresses = {
            name: stack.enter_context(server([*command, str(port)], port)) for name, (port, command) in commands.items()
        }
        found = measure(addresses, texts, asked.concurrency, asked.seconds, asked.rounds)
    servers = {name: summarize(rounds) for name, rounds in found.items()}
    result = {
        "machine": machine(None),
        "versions": versions(),
        "provenance": {**provenance(), "command": " ".join(["python -m benchmarks.serving", *sys.argv[1:]])},
        "servers": servers,
        "rounds": {name: [[asdict(one) for one in ones] for ones in rounds] for name, rounds in found.items()},
    }
    save(json.loads(json.dumps(result)), RESULT)
    draw(servers, FIGURE)
    print(table(servers))


if __name__ == "__main__":
    main()
