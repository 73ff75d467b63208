"""All groups, one after the other: their workers never run at the same time."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import growth, interleave, plan
from benchmarks.entries import Contest
from benchmarks.machine import machine, provenance, versions
from benchmarks.plan import Sizes
from benchmarks.process import ROOT
from benchmarks.ratios import judged, ratios
from benchmarks.report import save
from benchmarks.workload import read_workload
from whinchat.errors import WhinchatError
from whinchat.report.formatting import format_duration


def say(line: str) -> None:
    """One line of progress."""
    print(line, flush=True)


def run_all(
    sizes: Sizes, groups: Sequence[str], out: Path, *, data: str | None = None, threads: int | None = None
) -> dict[str, Any]:
    """Measure ``groups`` and return the result; it is saved to ``out`` after each group.

    Raises:
        WhinchatError: data, model or shapes cannot be had.
    """
    started = time.perf_counter()
    result = {
        "provenance": provenance(),
        "machine": machine(threads),
        "versions": versions(),
        "settings": {**asdict(sizes), "groups": list(groups)},
    }
    with tempfile.TemporaryDirectory(prefix="whinchat-benchmarks-") as folder:
        file = Path(folder) / "workload.json"
        workload = read_workload(10_000 if sizes.full else max(4000, sizes.scored), data)
        workload.save(file)
        result["workload"] = {"source": workload.source, "description": workload.description}
        shapes = _shapes(groups, file)
        contests = _contests(sizes, groups, file, shapes)
        _announce(sizes, contests, groups, file, shapes)
        logs = out.parent / "logs"
        measured: dict[str, dict[str, Any]] = {}
        for group, some in contests.items():
            limit = math.inf if sizes.full else plan.LIMIT_SECONDS[group]
            entries = interleave.measure(group, some, sizes.rounds, logs, say, threads, limit)
            measured[group] = {name: entry.to_dict() for name, entry in entries.items()}
            save(_complete(result, measured, {}, started), out)
        grown: dict[str, Any] = {}
        if "growth" in groups:
            grown = _growth(sizes, file, shapes, measured, logs, threads)
        return _complete(result, measured, grown, started)


def _contests(
    sizes: Sizes, groups: Sequence[str], workload: Path, shapes: Mapping[str, Path]
) -> dict[str, list[Contest]]:
    makers = {
        "training": lambda: plan.training(sizes, workload),
        "scoring": lambda: plan.scoring(sizes, workload),
        "tinyllama": lambda: plan.tinyllama(sizes, workload, shapes["tinyllama-shape"]),
    }
    return {group: make() for group, make in makers.items() if group in groups}


def _growth(
    sizes: Sizes,
    workload: Path,
    shapes: Mapping[str, Path],
    measured: Mapping[str, Mapping[str, Any]],
    logs: Path,
    threads: int | None,
) -> dict[str, Any]:
    known = growth.reading_of(measured.get("tinyllama", {}).get("tinyllama-bfloat16", {}))
    points = growth.plan(workload, shapes, full=sizes.full, measured_1b=known is not None)
    found = growth.measure(points, logs, say, threads)
    if known is not None:
        found["parameters"].setdefault("train", []).append(known)
    return growth.summary(found)


def _shapes(groups: Sequence[str], workload: Path) -> dict[str, Path]:
    """Model folders, each made in a process of its own, so that this one stays small."""
    names = []
    if "tinyllama" in groups or "growth" in groups:
        names.append("tinyllama-shape")
    if "growth" in groups:
        names.insert(0, "mistral-300m-shape")
    folders = {}
    for name in names:
        say(f"[shapes] {name}")
        command = [sys.executable, "-m", "benchmarks.shapes", name, "--workload", str(workload)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
        if done.returncode != 0:
            raise WhinchatError(f"benchmarks: {name} could not be made; its messages stand above")
        folders[name] = Path(done.stdout.strip().splitlines()[-1])
    return folders


def _announce(
    sizes: Sizes,
    contests: Mapping[str, Sequence[Contest]],
    groups: Sequence[str],
    workload: Path,
    shapes: Mapping[str, Path],
) -> None:
    expected = {group: plan.estimate_seconds(some, sizes.rounds) for group, some in contests.items()}
    if "growth" in groups:
        points = growth.plan(workload, shapes, full=sizes.full, measured_1b="tinyllama" in groups)
        expected["growth"] = growth.estimate_seconds(points)
    parts = ", ".join(f"{group} {format_duration(seconds)}" for group, seconds in expected.items())
    say(f"[plan] about {format_duration(sum(expected.values()))} on two cores: {parts}")


def _complete(
    result: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]], grown: Mapping[str, Any], started: float
) -> dict[str, Any]:
    found, ranges = ratios(measured)
    return {
        **result,
        "seconds": time.perf_counter() - started,
        "ratios": found,
        "ratio_ranges": ranges,
        "targets": judged(found),
        "peak": {name: measured.get("training", {}).get(f"peak-{name}", {}).get("per_second") for name in _PEAKS},
        "failures": _failures(measured, grown),
        "contestants": measured,
        "growth": grown,
    }


_PEAKS = ("bfloat16", "float32")


def _failures(measured: Mapping[str, Mapping[str, Any]], grown: Mapping[str, Any]) -> list[str]:
    failed = [
        f"{group}/{name}: {entry['error']}"
        for group, entries in measured.items()
        for name, entry in entries.items()
        if entry["error"]
    ]
    return failed + [
        f"growth/{axis}/{job} at {point['x']:g}: {point['error']}"
        for axis, jobs in grown.items()
        for job, entry in jobs.items()
        for point in entry["points"]
        if point["error"]
    ]
