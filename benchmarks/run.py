"""The command line, and all groups, one after the other; their contestants never run at the same time."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import growth, plan
from benchmarks.cost import ANSWERS, read_stored, stored_ratios
from benchmarks.machine import machine, provenance, versions
from benchmarks.measure import measure
from benchmarks.plan import GROUPS, Sizes, read_workload
from benchmarks.ratios import ratios
from benchmarks.shapes import SHAPES, shape_folder
from benchmarks.tables import publish, save, write
from whinchat.errors import WhinchatError

RESULTS = Path("benchmarks/results")
say = partial(print, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, which is 1 where a contestant failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure whinchat and its alternatives.")
    parser.add_argument("--full", action="store_true", help="all contestants and points, more rounds (over an hour)")
    parser.add_argument("--only", action="append", choices=GROUPS, help="measure only this group; may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds of each contestant (6 if time allows; 5 with --full)")
    parser.add_argument("--texts", type=int, help="texts in a training round (64; 128 with --full)")
    parser.add_argument("--data", help="a TweetEval sentiment folder; else $WHINCHAT_TWEETEVAL, ../shared, VADER")
    parser.add_argument("--out", type=Path, help="the JSON file to write; tables and figures go beside it")
    parser.add_argument("--threads", type=int, help="threads of each contestant; all cores by default")
    parser.add_argument("--render", type=Path, metavar="JSON", help="only write tables and figures of this file")
    parser.add_argument("--publish", action="store_true", help="also write docs/benchmarks.md and its images")
    options = parser.parse_args(arguments)
    if options.render:
        result, out = json.loads(options.render.read_text(encoding="utf-8")), options.render
    else:
        texts = options.texts or (128 if options.full else 64)
        sizes = Sizes(options.rounds or (5 if options.full else 6), texts, max(256, 2 * texts), options.full)
        groups = tuple(group for group in GROUPS if not options.only or group in options.only)
        # Results of some of the groups must not replace the latest results of all.
        out = options.out or RESULTS / ("latest.json" if groups == GROUPS else f"{'-'.join(groups)}.json")
        # The contestants' libraries read these variables when they are imported.
        os.environ.update({"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})
        if options.threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(options.threads)
        try:
            result = run_all(sizes, groups, out, options.data)
        except WhinchatError as fault:
            print(f"error: {fault}", file=sys.stderr)
            return 1
    for path in [*write(result, out), *(publish(result) if options.publish else ())]:
        print(path)
    for failure in result["failures"]:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if result["failures"] else 0


def run_all(sizes: Sizes, groups: Sequence[str], out: Path, data: str | None = None) -> dict[str, Any]:
    """Measure ``groups`` and return the result; it is saved to ``out`` after each group.

    Raises:
        WhinchatError: data or model cannot be had.
    """
    started = time.perf_counter()
    split, workload = read_workload(10_000 if sizes.full else max(4000, sizes.scored), data)
    result = {
        "provenance": provenance(),
        "machine": machine(),
        "versions": versions(),
        "settings": {**asdict(sizes), "groups": list(groups)},
        "workload": workload,
    }
    names = SHAPES if "growth" in groups else ["tinyllama-shape"] if "tinyllama" in groups else []
    shapes = {name: shape_folder(name, split.texts) for name in sorted(names)}
    plans = {
        "training": lambda: plan.training(sizes, split),
        "scoring": lambda: plan.scoring(sizes, split),
        "tinyllama": lambda: plan.tinyllama(sizes, split, shapes["tinyllama-shape"]),
    }
    contests = {group: make() for group, make in plans.items() if group in groups}
    listed = [f"{group} ({len(contests[group])} contestants)" if group in contests else group for group in groups]
    say(f"[plan] {', '.join(listed)}; {sizes.rounds} rounds where time allows")
    logs = out.parent / "logs"
    measured: dict[str, dict[str, Any]] = {}
    for group, contestants in contests.items():
        limit = math.inf if sizes.full else plan.LIMIT_SECONDS[group]
        entries = measure(group, contestants, sizes.rounds, logs, say, limit)
        measured[group] = {name: entry.to_dict() for name, entry in entries.items()}
        save(_complete(result, measured, {}, started), out)
    grown: dict[str, Any] = {}
    if "growth" in groups:
        known = measured.get("tinyllama", {}).get("tinyllama-bfloat16", {})
        points = growth.plan(split, shapes, full=sizes.full, measured_1b=bool(known.get("rounds")))
        readings = growth.measure(points, logs, say)
        if known.get("rounds"):
            readings["parameters"].setdefault("train", []).append(growth.reading(known))
        grown = growth.summary(readings)
    return _complete(result, measured, grown, started)


def _complete(
    result: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]], grown: Mapping[str, Any], started: float
) -> dict[str, Any]:
    values, ranges = ratios(measured)
    training = measured.get("training", {})
    errors = {f"{group}/{name}": entry["error"] for group in measured for name, entry in measured[group].items()}
    for axis, jobs in grown.items():
        for job, entry in jobs.items():
            errors |= {f"growth/{axis}/{job} at {point['x']:g}": point["error"] for point in entry["points"]}
    return {
        **result,
        "seconds": time.perf_counter() - started,
        "ratios": values | stored_ratios(),
        "answer_cost": read_stored(ANSWERS),
        "ratio_ranges": ranges,
        "peak": {name: training.get(f"peak-{name}", {}).get("per_second") for name in ("bfloat16", "float32")},
        "failures": [f"{name}: {error}" for name, error in errors.items() if error],
        "contestants": measured,
        "growth": grown,
    }
