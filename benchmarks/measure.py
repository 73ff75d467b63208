"""Contestants in processes of their own, whose rounds alternate, so that whatever slows the machine slows all of them.

A process answers ``start`` once its libraries are imported, ``prepare`` after loading and a warm-up, ``round`` with a
measured round, and ``count`` with the operations of a round. Between commands it waits and uses no processor time.
"""

import contextlib
import gc
import math
import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from whinchat.data.dataset import Split
from whinchat.models.memory import give_back_memory, peak_memory_bytes
from whinchat.report.formatting import format_duration

Say = Callable[[str], object]

LEAST_ROUNDS = 2  # a single round says nothing about their spread
TIMEOUT_SECONDS = 1800.0
KINDS = {
    "whinchat-train": "benchmarks.contestants.ours:WhinchatTraining",
    "whinchat-score": "benchmarks.contestants.ours:WhinchatScoring",
    "trl-train": "benchmarks.contestants.peers:TrlTraining",
    "seqcls-train": "benchmarks.contestants.peers:HeadTraining",
    "seqcls-score": "benchmarks.contestants.peers:HeadScoring",
    "generate": "benchmarks.contestants.peers:Generation",
    "llama-cpp": "benchmarks.contestants.peers:LlamaCpp",
    "minilm": "benchmarks.contestants.peers:MiniLMScoring",
    "peak": "benchmarks.contestants.peers:MatrixPeak",
}


class WorkerError(Exception):
    """The contestant raised, died or took too long; the message says which, and where its log is."""


class UnavailableError(Exception):
    """A contestant cannot run on this machine; the message says why. It is left out, which is no failure."""


@dataclass(frozen=True)
class Measured:
    """One round: ``examples`` done in ``seconds`` of wall-clock time, and further facts.

    ``cpu_seconds`` is the processor time of all threads of the process; 0 where it was not measured.
    """

    examples: float
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Contest:
    """A contestant in a group.

    ``kind`` is a name in ``KINDS`` or a class as ``package.module:Class``, which is created with ``options``
    and the texts of ``split``. ``unit`` is what its rounds count, ``examples`` or ``GFLOP``; ``count_flops`` asks for
    the matrix products of a round.
    """

    name: str
    kind: str
    title: str
    options: dict[str, Any]
    split: Split | None = None
    ours: bool = False
    unit: str = "examples"
    count_flops: bool = False


@dataclass
class Entry:
    """The results of a contestant; a failed contestant keeps its error and the rounds before it.

    ``total_seconds`` is the time from the start of its process to the end of its first round.
    """

    contest: Contest
    group: str
    facts: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    loaded_bytes: int | None = None
    peak_bytes: int | None = None
    total_seconds: float | None = None
    flops_per_round: float | None = None
    error: str | None = None
    unavailable: str | None = None

    @property
    def alive(self) -> bool:
        """Whether the contestant can run another round."""
        return self.error is None and self.unavailable is None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as it stands in the JSON; rates are in examples a second."""
        contest = {key: getattr(self.contest, key) for key in ("title", "ours", "kind", "unit", "options")}
        results = {key: value for key, value in vars(self).items() if key not in ("contest", "total_seconds")}
        return {**contest, **results, "per_second": spread([rate(one_round) for one_round in self.rounds])}


def rate(one_round: Mapping[str, Any]) -> float:
    """Return the examples a second of one round."""
    return float(one_round["examples"]) / float(one_round["seconds"])


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Return median, least and greatest value; None where nothing was measured."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None


def measure(
    group: str, contests: Sequence[Contest], rounds: int, logs: Path, say: Say, limit_seconds: float = math.inf
) -> dict[str, Entry]:
    """Prepare every contestant, run rounds in turn, then count matrix products where the contest asks for it.

    A contestant that fails keeps its error and its rounds so far; the others go on. All processes have ended on return.
    After ``LEAST_ROUNDS`` rounds, no round begins that would probably end later than ``limit_seconds``.
    """
    started = time.perf_counter()
    entries = {contest.name: Entry(contest, group) for contest in contests}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(entries[name].contest, logs / f"{name}.log")) for name in entries}

        def ask_each(command: str) -> Iterator[tuple[Entry, dict[str, Any]]]:
            for name, entry in entries.items():
                if not entry.alive or (command == "count" and not entry.contest.count_flops):
                    continue
                try:
                    answer = workers[name].ask(command)
                except (UnavailableError, WorkerError) as fault:
                    setattr(entry, "unavailable" if isinstance(fault, UnavailableError) else "error", str(fault))
                    say(f"[{group}] {entry.contest.title}: {'left out' if entry.unavailable else 'FAILED'}: {fault}")
                    workers[name].end()
                else:
                    entry.peak_bytes = max(answer["peak_bytes"], entry.peak_bytes or 0)
                    yield entry, answer

        # All processes import their libraries at the same time; everything else is done in turn.
        list(ask_each("start"))
        for entry, answer in ask_each("prepare"):
            entry.facts, entry.loaded_bytes = answer["facts"], answer["loaded_bytes"]
            say(f"[{group}] {entry.contest.title}: ready")
        for number in range(1, rounds + 1):
            began = time.perf_counter()
            for entry, answer in ask_each("round"):
                if number == 1:
                    entry.total_seconds = time.perf_counter() - workers[entry.contest.name].started
                entry.rounds.append(answer)
                speed = f"{rate(answer):.1f} {entry.contest.unit}/s ({answer['seconds']:.1f} s)"
                say(f"[{group} {number}/{rounds}] {entry.contest.title}: {speed}")
            now = time.perf_counter()
            if LEAST_ROUNDS <= number < rounds and 2 * now - began - started > limit_seconds:
                say(f"[{group}] {number} rounds of {rounds}: the group's {format_duration(limit_seconds)} are used up")
                break
        for entry, answer in ask_each("count"):
            entry.flops_per_round = answer["flops"]
    return entries


class Worker(contextlib.AbstractContextManager["Worker"]):
    """The driver's side of a process, which ends with the context."""

    def __init__(self, contest: Contest, log: Path) -> None:
        self.started = time.perf_counter()
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        self._pipe, pipe = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(pipe, contest, log))
        self._process.start()
        pipe.close()
        self._pipe.send("start")

    def __exit__(self, *_: object) -> None:
        self.end()

    def ask(self, command: str, timeout: float = TIMEOUT_SECONDS) -> dict[str, Any]:
        """Send a command, and wait for its answer; ``start`` was sent when the process was made.

        Raises:
            UnavailableError: the contestant cannot run on this machine.
            WorkerError: the contestant failed. The worker is of no more use.
        """
        try:
            if command != "start":
                self._pipe.send(command)
            if not self._pipe.poll(timeout):
                self._process.kill()
                raise WorkerError(f"{command} took longer than {timeout:g} s; see {self._log}")
            answer: dict[str, Any] = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            raise WorkerError(f"the worker ended with exit code {code} at {command}; see {self._log}") from None
        if "unavailable" in answer:
            raise UnavailableError(answer["unavailable"])
        if "error" in answer:
            raise WorkerError(f"{answer['error']} (at {command}; see {self._log})")
        return answer

    def end(self) -> None:
        """Let the process end, and kill it if it is in the middle of a command for another 5 seconds."""
        self._pipe.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, contest: Contest, log: Path) -> None:
    """Answer commands until the driver closes the pipe; whatever libraries print goes to ``log``."""
    with log.open("w", encoding="utf-8") as stream, contextlib.suppress(EOFError, BrokenPipeError):
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
        contestant: Any = None
        while True:
            command = pipe.recv()
            try:
                contestant = contestant or create(contest.kind, contest.options, contest.split)
                answer: dict[str, Any] = {}
                if command == "prepare":
                    contestant.load()
                    answer = {"loaded_bytes": peak_memory_bytes(), "facts": contestant.facts}
                    contestant.run(warm_up=True)
                elif command == "round":
                    answer = asdict(contestant.run())
                elif command == "count":
                    answer = {"flops": contestant.count_flops()}
                pipe.send(answer | {"peak_bytes": peak_memory_bytes()})
            except UnavailableError as reason:
                pipe.send({"unavailable": str(reason)})
            except Exception as fault:  # noqa: BLE001  # whatever a contestant dies of belongs in its entry
                traceback.print_exc()
                pipe.send({"error": f"{type(fault).__name__}: {fault}"})
            # Leave the memory to the contestants that run while this one waits.
            gc.collect()
            give_back_memory()


def create(kind: str, options: dict[str, Any], split: Any = None) -> Any:
    """Import and return the contestant of ``kind``, a name in ``KINDS`` or a class as ``package.module:Class``."""
    target = KINDS.get(kind, kind)
    if ":" not in target:
        raise ValueError(f"{kind}: no such contestant; there are {', '.join(KINDS)}")
    return resolve_name(target)(options, split)
