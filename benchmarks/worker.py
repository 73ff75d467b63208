"""A contestant in a process of its own, asked through a pipe.

The process answers ``start`` once its libraries are imported, ``prepare`` after loading and a warm-up, ``round`` with a
measured round, and ``count`` with the operations of a round. Between commands it waits and uses no processor time.
"""

import contextlib
import gc
import multiprocessing
import os
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Self

from benchmarks.entries import Contest, UnavailableError
from whinchat.data.dataset import Split
from whinchat.models.memory import give_back_memory, peak_memory_bytes

TIMEOUT_SECONDS = 1800.0
KINDS = {
    "whinchat-train": "benchmarks.contestants.ours:WhinchatTraining",
    "whinchat-score": "benchmarks.contestants.ours:WhinchatScoring",
    "trl-train": "benchmarks.contestants.trainers:TrlTraining",
    "seqcls-train": "benchmarks.contestants.trainers:HeadTraining",
    "seqcls-score": "benchmarks.contestants.trainers:HeadScoring",
    "generate": "benchmarks.contestants.generation:Generation",
    "llama-cpp": "benchmarks.contestants.llama_cpp:LlamaCpp",
    "peak": "benchmarks.contestants.peak:MatrixPeak",
}


def create(kind: str, options: dict[str, Any], split: Split | None = None) -> Any:
    """Import and return the contestant of ``kind``, a name in ``KINDS`` or a class as ``package.module:Class``.

    Raises:
        ValueError: there is no such kind.
    """
    target = KINDS.get(kind, kind)
    if ":" not in target:
        raise ValueError(f"{kind}: no such contestant; there are {', '.join(KINDS)}")
    return resolve_name(target)(options, split)


class WorkerError(Exception):
    """The contestant raised, died or took too long; the message says which, and where its log is."""


class Worker:
    """The driver's side. Use it as a context manager, so that the process never outlives the driver."""

    def __init__(self, contest: Contest, log: Path) -> None:
        self._log = log
        self._started = time.perf_counter()
        log.parent.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        self._pipe, pipe = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(pipe, contest, log))
        self._process.start()
        pipe.close()
        self._pipe.send("start")

    def __enter__(self) -> Self:
        return self

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

    def age(self) -> float:
        """Return the seconds since the process was started."""
        return time.perf_counter() - self._started

    def end(self) -> None:
        """Let the process end, and kill it if it is in the middle of a command for another 5 seconds."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def serve(pipe: Connection, contest: Contest, log: Path) -> None:
    """Answer commands until the driver closes the pipe; whatever libraries print goes to ``log``."""
    with log.open("w", encoding="utf-8") as stream, contextlib.suppress(EOFError, BrokenPipeError):
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
        contestant: Any = None
        while True:
            command = pipe.recv()
            try:
                contestant = contestant or create(contest.kind, contest.options, contest.split)
                answer = _answer(contestant, command) | {"peak_bytes": peak_memory_bytes()}
            except UnavailableError as reason:
                answer = {"unavailable": str(reason)}
            except Exception as fault:  # noqa: BLE001  # whatever a contestant dies of belongs in its entry
                traceback.print_exc()
                answer = {"error": f"{type(fault).__name__}: {fault}"}
            pipe.send(answer)
            # Leave the memory to the contestants that run while this one waits.
            gc.collect()
            give_back_memory()


def _answer(contestant: Any, command: str) -> dict[str, Any]:
    if command == "prepare":
        contestant.load()
        loaded = peak_memory_bytes()
        contestant.run(warm_up=True)
        return {"facts": contestant.facts, "loaded_bytes": loaded}
    if command == "round":
        measured = contestant.run()
        return {"examples": measured.examples, "seconds": measured.seconds, "facts": measured.facts}
    return {"flops": contestant.count_flops()} if command == "count" else {}
