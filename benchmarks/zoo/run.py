"""The command line: examine all architectures, two at a time, and write the page."""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from tests.helpers.zoo import ZOO

from benchmarks.machine import ROOT, machine, provenance, versions
from benchmarks.tables import save
from benchmarks.zoo.examine import examine, start_worker
from benchmarks.zoo.page import faults, page

RESULT = Path("benchmarks/results/zoo.json")
PAGE = ROOT / "docs" / "backbones.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, which is 1 where a cell is wrong or a traceback."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description="Examine architectures.")
    parser.add_argument("--only", action="append", metavar="NAME", help="examine only this architecture; repeatable")
    parser.add_argument("--no-speed", action="store_true", help="leave the speed out")
    parser.add_argument("--no-runs", action="store_true", help="leave runs and exports out")
    parser.add_argument("--workers", type=int, default=2, help="architectures examined at the same time (2)")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON file to write")
    parser.add_argument("--render", type=Path, metavar="JSON", help="only write the page of this file")
    parser.add_argument("--publish", action="store_true", help="also write docs/backbones.md")
    options = parser.parse_args(arguments)
    if options.render:
        result = json.loads(options.render.read_text(encoding="utf-8"))
    else:
        names = options.only or list(ZOO)
        result = run_all(names, options.workers, speed=not options.no_speed, runs=not options.no_runs)
        save(result, options.out)
        options.out.with_suffix(".md").write_text(page(result), encoding="utf-8")
    if options.publish:
        PAGE.write_text(page(result), encoding="utf-8")
    for fault in faults(result):
        print(fault, file=sys.stderr)
    return 1 if faults(result) else 0


def run_all(names: Sequence[str], workers: int, *, speed: bool, runs: bool) -> dict[str, Any]:
    """Examine the architectures ``names`` in processes of their own, and return the result."""
    started = time.perf_counter()
    head = {"provenance": provenance("python -m benchmarks.zoo"), "machine": machine(), "versions": versions()}
    rows: dict[str, Any] = {}
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(RESULT.parent / "logs" / "zoo.log",),
    )
    with pool:
        jobs = {pool.submit(partial(examine, name, speed=speed, runs=runs)): name for name in names}
        for job in as_completed(jobs):
            rows[jobs[job]] = row = job.result()
            cells = {key: cell["verdict"] for key, cell in row.items() if isinstance(cell, dict) and "verdict" in cell}
            print(f"[{len(rows)}/{len(names)}] {row['name']}: {cells}", flush=True)
    return {**head, "seconds": time.perf_counter() - started, "rows": [rows[name] for name in names]}
