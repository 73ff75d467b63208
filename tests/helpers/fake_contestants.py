"""Contestants that cost nothing, for the tests of their processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import Measured, UnavailableError


class Steady:
    """Writes each command to the file ``journal``, and prints to stdout.

    ``fails_at`` and ``dies_at`` are the rounds that raise an exception and end the process.
    """

    def __init__(self, options: dict[str, Any], split: object = None) -> None:
        self.options = options
        self.facts = {"kind": "fake"}
        self.rounds = 0

    def load(self) -> None:
        print("a library says hello on stdout")
        os.write(1, b"and so does its C code\n")
        self._note("load")

    def run(self, *, warm_up: bool = False) -> Measured:
        if warm_up:
            return Measured(1, 1.0)
        self.rounds += 1
        self._note(f"round {self.rounds}")
        if self.rounds == self.options.get("fails_at"):
            raise RuntimeError("out of luck")
        if self.rounds == self.options.get("dies_at"):
            sys.exit(3)
        return Measured(10, self.options.get("seconds", 2.0), {"round": self.rounds})

    def count_flops(self) -> float:
        return 5e9

    def _note(self, what: str) -> None:
        with Path(self.options["journal"]).open("a", encoding="utf-8") as journal:
            journal.write(f"{self.options['name']} {what}\n")


class Missing(Steady):
    """Lacks its library."""

    def load(self) -> None:
        raise UnavailableError("it is not installed; make something builds it")
