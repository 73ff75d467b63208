"""A worker process as the driver sees it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.protocol import decode, encode

ROOT = Path(__file__).resolve().parent.parent


class WorkerFailedError(Exception):
    """The contestant raised, died or took too long; the message says which, and where its log is."""


class WorkerUnavailableError(Exception):
    """The contestant cannot run on this machine; the message says why."""


class WorkerProcess:
    """One contestant; its stderr goes to ``log``. Use as a context manager, so that it never outlives the driver."""

    def __init__(self, kind: str, options: dict[str, Any], log: Path, threads: int | None = None) -> None:
        self.log = log
        self._started = time.perf_counter()
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ, PYTHONPATH=_python_path(), TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        command = [sys.executable, "-m", "benchmarks.worker", kind, "--options-json", json.dumps(options)]
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        self._answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait_until_started(self, timeout: float) -> None:
        """Wait until the process has imported what it needs; then, and only then, it can be asked.

        Raises:
            WorkerFailedError, WorkerUnavailableError: see there; the worker is of no more use then.
        """
        self._answer("start", timeout)

    def ask(self, command: str, timeout: float) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Raises:
            WorkerFailedError, WorkerUnavailableError: see there; the worker is of no more use then.
        """
        assert self._process.stdin is not None
        # A process that has died is noticed where its answer is missing.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(encode({"command": command}))
            self._process.stdin.flush()
        return self._answer(command, timeout)

    def age(self) -> float:
        """Seconds since the process was started."""
        return time.perf_counter() - self._started

    def end(self) -> None:
        """Ask the process to end, and make it end where it does not."""
        if self._process.poll() is None:
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(encode({"command": "end"}))
                self._process.stdin.close()
            except (BrokenPipeError, ValueError):
                pass
            try:
                # One that is in the middle of a command does not listen.
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def _answer(self, command: str, timeout: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            self._process.kill()
            raise WorkerFailedError(f"{command} took longer than {timeout:g} s; see {self.log}") from None
        if line is None:
            raise WorkerFailedError(
                f"the worker ended with exit code {self._process.wait()} at {command}; see {self.log}"
            )
        answer = decode(line)
        if "unavailable" in answer:
            raise WorkerUnavailableError(answer["unavailable"])
        if not answer["ok"]:
            raise WorkerFailedError(f"{answer['error']} (at {command}; see {self.log})")
        return answer

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)


def _python_path() -> str:
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
