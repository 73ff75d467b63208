"""Rounds of a group's contestants in turn, so that whatever slows the machine down slows all of them."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.entries import Contest, Entry, UnavailableError, rate
from benchmarks.worker import Worker, WorkerError
from whinchat.report.formatting import format_duration

Say = Callable[[str], object]

# Fewer rounds say nothing about their spread, so this many are run on the slowest machine.
LEAST_ROUNDS = 2


def measure(
    group: str,
    contests: Sequence[Contest],
    rounds: int,
    logs: Path,
    say: Say,
    limit_seconds: float = math.inf,
) -> dict[str, Entry]:
    """Prepare every contestant, run rounds in turn, then count matrix products where the contest asks for it.

    A contestant that fails keeps its error and its rounds so far; the others go on. All processes have ended on return.

    Args:
        group: the group's name.
        contests: the contestants.
        rounds: rounds of each contestant.
        logs: the folder of the contestants' logs.
        say: called with each line of progress.
        limit_seconds: after ``LEAST_ROUNDS`` rounds, no round begins that would probably end later than this.
    """
    started = time.perf_counter()
    entries = {contest.name: Entry(contest, group) for contest in contests}
    with ExitStack() as stack:
        workers = {
            contest.name: stack.enter_context(Worker(contest, logs / f"{contest.name}.log")) for contest in contests
        }

        def ask_each(command: str, note: Callable[[Entry, dict[str, Any]], object]) -> None:
            for name, entry in entries.items():
                if not entry.alive or (command == "count" and not entry.contest.count_flops):
                    continue
                try:
                    answer = workers[name].ask(command)
                except (UnavailableError, WorkerError) as fault:
                    field = "unavailable" if isinstance(fault, UnavailableError) else "error"
                    setattr(entry, field, str(fault))
                    say(f"[{group}] {entry.contest.title}: {'left out' if entry.unavailable else 'FAILED'}: {fault}")
                    workers[name].end()
                else:
                    entry.peak_bytes = max(answer["peak_bytes"], entry.peak_bytes or 0)
                    note(entry, answer)

        def note_facts(entry: Entry, answer: dict[str, Any]) -> None:
            entry.facts, entry.loaded_bytes = answer["facts"], answer["loaded_bytes"]
            say(f"[{group}] {entry.contest.title}: ready")

        def note_round(entry: Entry, answer: dict[str, Any]) -> None:
            if not entry.rounds:
                entry.total_seconds = workers[entry.contest.name].age()
            entry.rounds.append({key: answer[key] for key in ("examples", "seconds", "facts", "peak_bytes")})
            speed = f"{rate(answer):.1f} {entry.contest.unit}/s ({answer['seconds']:.1f} s)"
            say(f"[{group} {len(entry.rounds)}/{rounds}] {entry.contest.title}: {speed}")

        # All processes import their libraries at the same time; everything else is done in turn.
        ask_each("start", lambda entry, answer: None)
        ask_each("prepare", note_facts)
        for number in range(1, rounds + 1):
            began = time.perf_counter()
            ask_each("round", note_round)
            now = time.perf_counter()
            if LEAST_ROUNDS <= number < rounds and 2 * now - began - started > limit_seconds:
                say(f"[{group}] {number} rounds of {rounds}: the group's {format_duration(limit_seconds)} are used up")
                break
        ask_each("count", lambda entry, answer: setattr(entry, "flops_per_round", answer["flops"]))
    return entries
