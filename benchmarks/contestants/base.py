"""What every contestant has in common."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from benchmarks.protocol import Measured
from benchmarks.workload import Workload, evenly
from whinchat.data.dataset import Split
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import Recipe


class Contestant(Protocol):
    """One way of doing the job. ``options`` of its constructor come from the plan, as JSON."""

    def load(self) -> None:
        """Load everything a round needs; not timed."""

    def run(self, *, warm_up: bool = False) -> Measured:
        """One round; a short one, whose result is thrown away, for ``warm_up``."""

    def facts(self) -> dict[str, Any]:
        """What a reader should know about what was run: tokens, data types, versions."""

    def count_flops(self) -> float | None:
        """Floating-point operations of the matrix products of one round, counted apart from any timing."""


class Base:
    """Options shared by most contestants: ``recipe``, ``overrides``, ``workload``, ``pool``, ``texts``, ``warm_up``."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self._facts: dict[str, Any] = {}

    def recipe(self) -> Recipe:
        """The recipe that whinchat's own loader makes of ``recipe`` and ``overrides``."""
        return load_recipe(self.options["recipe"], self.options.get("overrides", ()))

    def split(self, *, warm_up: bool = False) -> Split:
        """This contestant's texts: ``texts`` of the first ``pool``, drawn evenly over their length."""
        options = self.options
        pool = Workload.load(Path(options["workload"])).split(options.get("pool"))
        chosen = evenly(pool, options.get("texts") or len(pool))
        return evenly(chosen, options.get("warm_up", 16)) if warm_up else chosen

    def facts(self) -> dict[str, Any]:
        """What ``load`` and ``run`` noted."""
        return dict(self._facts)

    def count_flops(self) -> float | None:
        """Not counted, unless a contestant says otherwise."""
        return None


class Stopwatch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Wall-clock seconds from the first step's preparation to the end of the last: the same for every ``Trainer``."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Model and data are ready; the optimizer exists but holds no state yet."""
        self._started = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The last optimizer step is done."""
        self.seconds = time.perf_counter() - self._started


def mean_length(rows: list[Any]) -> float:
    """Mean length, rounded as a fact is."""
    return round(sum(map(len, rows)) / max(1, len(rows)), 1)
