"""The command line: examine all architectures, two at a time, and write the page."""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.helpers.zoo import ZOO

from benchmarks.machine import ROOT, machine, provenance, versions
from benchmarks.tables import save
from benchmarks.zoo.examine import examine, start_worker
from benchmarks.zoo.page import faults, page
from whinchat.export.export_registry import export_names

RESULT = Path("benchmarks/results/zoo.json")
PAGE = ROOT / "docs" / "backbones.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, which is 1 where a cell is wrong or a traceback."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description="Examine architectures.")
    parser.add_argument("--only", action="append", metavar="NAME", help="examine only this architecture; repeatable")
    parser.add_argument(
        "--skip", action="append", default=[], choices=("speed", "run", *export_names()), help="leave this column out"
    )
    parser.add_argument("--add", action="store_true", help="keep what --out holds and is not measured anew")
    parser.add_argument("--workers", type=int, default=2, help="architectures examined at the same time (2)")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON file to write; the page goes beside it")
    parser.add_argument("--render", type=Path, metavar="JSON", help="only write the page of this file")
    parser.add_argument("--publish", action="store_true", help="also write docs/backbones.md")
    options = parser.parse_args(arguments)
    out = options.render or options.out
    if not options.render:
        known = json.loads(out.read_text(encoding="utf-8"))["rows"] if options.add else []
        for result in examined(options.only or list(ZOO), options.workers, options.skip, known):
            save(result, out)
    result = json.loads(out.read_text(encoding="utf-8"))
    for path in (out.with_suffix(".md"), *([PAGE] if options.publish else ())):
        path.write_text(page(result), encoding="utf-8")
    for fault in faults(result):
        print(fault, file=sys.stderr)
    return 1 if faults(result) else 0


def examined(
    names: Sequence[str], workers: int, skipped: Sequence[str] = (), known: Sequence[Mapping[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """Examine the architectures ``names`` in processes of their own, and yield the result after each of them.

    Args:
        names: of ``ZOO``.
        workers: number of processes.
        skipped: columns to leave out.
        known: rows of an earlier result, whose other cells are kept.
    """
    started = time.perf_counter()
    head = {"provenance": provenance("python -m benchmarks.zoo"), "machine": machine(), "versions": versions()}
    rows: dict[str, dict[str, Any]] = {row["name"]: dict(row) for row in known}
    spawn = multiprocessing.get_context("spawn")
    log = RESULT.parent / "logs" / "zoo.log"
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=start_worker, initargs=(log,)) as pool:
        jobs = [pool.submit(examine, name, skipped) for name in names]
        for count, job in enumerate(as_completed(jobs), start=1):
            row = job.result()
            rows[row["name"]] = {**rows.get(row["name"], {}), **row}
            cells = {key: cell["verdict"] for key, cell in row.items() if isinstance(cell, dict) and "verdict" in cell}
            print(f"[{count}/{len(names)}] {row['name']}: {cells}", flush=True)
            done = [rows[name] for name in ZOO if name in rows]
            yield {**head, "seconds": time.perf_counter() - started, "rows": done}
