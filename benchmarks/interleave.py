"""Rounds of a group's contestants in turn, so that whatever slows the machine down slows all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.entries import Contest, Entry, rate
from benchmarks.process import WorkerFailedError, WorkerProcess, WorkerUnavailableError
from whinchat.report.formatting import format_duration

Say = Callable[[str], None]
TIMEOUT_SECONDS = 1800.0


# However slow the machine: a median of fewer rounds says nothing of their spread.
LEAST_ROUNDS = 2


def measure(
    group: str,
    contests: Sequence[Contest],
    rounds: int,
    logs: Path,
    say: Say,
    threads: int | None = None,
    limit_seconds: float = math.inf,
) -> dict[str, Entry]:
    """Prepare every contestant, run ``rounds`` rounds in turn, then count products where that is asked for.

    After ``LEAST_ROUNDS`` no round begins that would likely end later than ``limit_seconds`` after the start.

    A contestant that fails keeps its error and its rounds so far; the others go on. All workers have ended on return.
    """
    started = time.perf_counter()
    entries = {contest.name: Entry(contest, group) for contest in contests}
    with ExitStack() as stack:
        workers = {
            contest.name: stack.enter_context(
                WorkerProcess(contest.kind, contest.options, logs / f"{contest.name}.log", threads)
            )
            for contest in contests
        }
        # Their imports may run at the same time; nothing else does.
        for name, entry in entries.items():
            _start(entry, workers[name], say)
        for name, entry in entries.items():
            _prepare(entry, workers[name], say)
        for number in range(1, rounds + 1):
            began = time.perf_counter()
            for name, entry in entries.items():
                _round(entry, workers[name], f"{group} {number}/{rounds}", say)
            now = time.perf_counter()
            if LEAST_ROUNDS <= number < rounds and 2 * now - began - started > limit_seconds:
                say(f"[{group}] {number} rounds of {rounds}: the group's {format_duration(limit_seconds)} are used up")
                break
        for name, entry in entries.items():
            if entry.contest.count_flops:
                _count(entry, workers[name], say)
    return entries


def _start(entry: Entry, worker: WorkerProcess, say: Say) -> None:
    try:
        worker.wait_until_started(TIMEOUT_SECONDS)
    except (WorkerFailedError, WorkerUnavailableError) as fault:
        _give_up(entry, worker, fault, say)


def _prepare(entry: Entry, worker: WorkerProcess, say: Say) -> None:
    if not entry.alive:
        return
    try:
        answer = worker.ask("prepare", TIMEOUT_SECONDS)
    except (WorkerFailedError, WorkerUnavailableError) as fault:
        _give_up(entry, worker, fault, say)
        return
    entry.facts, entry.loaded_bytes = answer["facts"], answer["loaded_bytes"]
    entry.peak_bytes = max(answer["peak_bytes"] or 0, entry.loaded_bytes or 0) or None
    say(f"[{entry.group}] {entry.contest.title}: ready")


def _round(entry: Entry, worker: WorkerProcess, place: str, say: Say) -> None:
    if not entry.alive:
        return
    try:
        answer = worker.ask("round", TIMEOUT_SECONDS)
    except (WorkerFailedError, WorkerUnavailableError) as fault:
        _give_up(entry, worker, fault, say)
        return
    entry.rounds.append({key: answer[key] for key in ("examples", "seconds", "facts", "peak_bytes")})
    # The kernel's own figure is a few pages off, either way.
    entry.peak_bytes = max(answer["peak_bytes"] or 0, entry.peak_bytes or 0) or None
    latest = entry.rounds[-1]
    unit = "GFLOP/s" if entry.contest.unit == "GFLOP" else f"{entry.contest.unit}/s"
    say(f"[{place}] {entry.contest.title}: {rate(latest):.1f} {unit} ({latest['seconds']:.1f} s)")


def _count(entry: Entry, worker: WorkerProcess, say: Say) -> None:
    if not entry.alive:
        return
    try:
        entry.flops = worker.ask("count", TIMEOUT_SECONDS)["flops"]
    except (WorkerFailedError, WorkerUnavailableError) as fault:
        _give_up(entry, worker, fault, say)


def _give_up(entry: Entry, worker: WorkerProcess, fault: Exception, say: Say) -> None:
    if isinstance(fault, WorkerUnavailableError):
        entry.unavailable = str(fault)
    else:
        entry.error = str(fault)
    say(f"[{entry.group}] {entry.contest.title}: {'left out' if entry.unavailable else 'FAILED'}: {fault}")
    worker.end()
