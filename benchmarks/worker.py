"""One contestant in a process of its own: ``python -m benchmarks.worker KIND --options-json '{...}'``.

Imports what it needs and says so, then reads commands from stdin and answers on stdout (see ``protocol``): ``prepare``
loads and warms up, ``round`` measures, ``count`` counts the products of a round, ``end`` ends. Between commands it
waits and uses no processor time.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import sys
import traceback
from typing import IO, TYPE_CHECKING, Any

from benchmarks.contestants import create
from benchmarks.protocol import UnavailableError, decode, encode, peak_memory_bytes

if TYPE_CHECKING:
    from benchmarks.contestants.base import Contestant


def main() -> None:
    """Serve one contestant until ``end`` or until the driver is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", help="a kind named in benchmarks.contestants, or MODULE:CLASS")
    parser.add_argument("--options-json", default="{}")
    arguments = parser.parse_args()
    answers = _private_stdout()
    contestant: Contestant | None = None
    command = "start"
    while command != "end":
        try:
            contestant = contestant or create(arguments.kind, json.loads(arguments.options_json))
            answer = _obey(contestant, command)
        except UnavailableError as reason:
            answer = {"ok": False, "unavailable": str(reason)}
        except Exception as fault:  # noqa: BLE001  # whatever a contestant dies of belongs in its entry
            traceback.print_exc()
            answer = {"ok": False, "error": f"{type(fault).__name__}: {fault}"}
        answers.write(encode(answer))
        answers.flush()
        line = sys.stdin.readline()
        command = decode(line)["command"] if line else "end"


def _obey(contestant: Contestant, command: str) -> dict[str, Any]:
    answer: dict[str, Any]
    if command == "start":
        answer = {}
    elif command == "prepare":
        contestant.load()
        loaded = peak_memory_bytes()
        contestant.run(warm_up=True)
        answer = {"facts": contestant.facts(), "loaded_bytes": loaded}
    elif command == "round":
        measured = contestant.run()
        answer = {"examples": measured.examples, "seconds": measured.seconds, "facts": measured.facts}
    elif command == "count":
        answer = {"flops": contestant.count_flops()}
    else:
        raise ValueError(f"unknown command {command!r}")
    answer = {"ok": True, "peak_bytes": peak_memory_bytes(), **answer}
    _give_memory_back()
    return answer


def _private_stdout() -> IO[str]:
    """The real stdout for answers alone; whatever libraries print, C code included, goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def _give_memory_back() -> None:
    """Leave the machine's memory to the others while this worker waits."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library; its free memory stays with this process


if __name__ == "__main__":
    main()
