"""Measure all groups, one after the other; their workers never run at the same time."""

import math
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import growth, plan
from benchmarks.machine import machine, provenance, versions
from benchmarks.measure import measure
from benchmarks.plan import Sizes
from benchmarks.ratios import judged, ratios
from benchmarks.shapes import shape_folder
from benchmarks.tables import save
from benchmarks.workload import read_workload
from whinchat.data.dataset import Split
from whinchat.errors import WhinchatError


def say(line: str) -> None:
    """Print one line of progress."""
    print(line, flush=True)


def run_all(
    sizes: Sizes, groups: Sequence[str], out: Path, *, data: str | None = None, threads: int | None = None
) -> dict[str, Any]:
    """Measure ``groups`` and return the result; it is saved to ``out`` after each group.

    Raises:
        WhinchatError: data, model or shapes cannot be had.
    """
    started = time.perf_counter()
    # The workers' libraries read these variables when they are imported.
    os.environ.update({"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    split, workload = read_workload(10_000 if sizes.full else max(4000, sizes.scored), data)
    result: dict[str, Any] = {
        "provenance": provenance(),
        "machine": machine(),
        "versions": versions(),
        "settings": {**asdict(sizes), "groups": list(groups)},
        "workload": workload,
    }
    shapes = _shapes(groups, split)
    plans = {
        "training": lambda: plan.training(sizes, split),
        "scoring": lambda: plan.scoring(sizes, split),
        "tinyllama": lambda: plan.tinyllama(sizes, split, shapes["tinyllama-shape"]),
    }
    contests = {group: make() for group, make in plans.items() if group in groups}
    listed = [f"{group} ({len(some)} contestants)" for group, some in contests.items()]
    listed += ["growth"] if "growth" in groups else []
    say(f"[plan] {', '.join(listed)}; {sizes.rounds} rounds where time allows")
    logs = out.parent / "logs"
    measured: dict[str, dict[str, Any]] = {}
    for group, some in contests.items():
        limit = math.inf if sizes.full else plan.LIMIT_SECONDS[group]
        entries = measure(group, some, sizes.rounds, logs, say, limit)
        measured[group] = {name: entry.to_dict() for name, entry in entries.items()}
        save(_complete(result, measured, {}, started), out)
    grown = _growth(sizes, split, shapes, measured, logs) if "growth" in groups else {}
    return _complete(result, measured, grown, started)


def _growth(
    sizes: Sizes, split: Split, shapes: Mapping[str, Path], measured: Mapping[str, Mapping[str, Any]], logs: Path
) -> dict[str, Any]:
    known = growth.reading_of(measured.get("tinyllama", {}).get("tinyllama-bfloat16", {}))
    points = growth.plan(split, shapes, full=sizes.full, measured_1b=known is not None)
    readings = growth.measure(points, logs, say)
    if known is not None:
        readings["parameters"].setdefault("train", []).append(known)
    return growth.summary(readings)


def _shapes(groups: Sequence[str], split: Split) -> dict[str, Path]:
    """Return model folders, each made in a process of its own, so that this process stays small.

    Raises:
        WhinchatError: a shape could not be made.
    """
    names = ["mistral-300m-shape"] if "growth" in groups else []
    names += ["tinyllama-shape"] if {"tinyllama", "growth"} & set(groups) else []
    folders = {}
    for name in names:
        say(f"[shapes] {name}")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            try:
                folders[name] = process.submit(shape_folder, name, split.texts).result()
            except (OSError, BrokenProcessPool) as fault:
                raise WhinchatError(f"benchmarks: {name} could not be made ({fault})") from None
    return folders


def _complete(
    result: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]], grown: Mapping[str, Any], started: float
) -> dict[str, Any]:
    values, ranges = ratios(measured)
    training = measured.get("training", {})
    failures = [
        f"{group}/{name}: {entry['error']}"
        for group, entries in measured.items()
        for name, entry in entries.items()
        if entry["error"]
    ]
    failures += [
        f"growth/{axis}/{job} at {point['x']:g}: {point['error']}"
        for axis, jobs in grown.items()
        for job, entry in jobs.items()
        for point in entry["points"]
        if point["error"]
    ]
    return {
        **result,
        "seconds": time.perf_counter() - started,
        "ratios": values,
        "ratio_ranges": ranges,
        "targets": judged(values),
        "peak": {name: training.get(f"peak-{name}", {}).get("per_second") for name in ("bfloat16", "float32")},
        "failures": failures,
        "contestants": measured,
        "growth": grown,
    }
