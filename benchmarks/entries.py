"""The records between plan, driver, ratios and tables."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whinchat.data.dataset import Split


class UnavailableError(Exception):
    """A contestant cannot run on this machine; the message says why. It is left out, which is no failure."""


@dataclass(frozen=True)
class Measured:
    """One round: ``examples`` done in ``seconds`` of wall-clock time, and further facts."""

    examples: float
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contest:
    """A contestant in a group.

    ``kind`` is a name in ``measure.KINDS`` or a class as ``package.module:Class``, which is created with ``options`` and
    the texts of ``split``. ``unit`` is what its rounds count, ``examples`` or ``GFLOP``; ``count_flops`` asks for the
    matrix products of a round.
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
    """The results of a contestant. One that failed keeps its error and the rounds before it.

    ``total_seconds`` is the time from the start of its process to the end of its first round.
    """

    contest: Contest
    group: str
    rounds: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
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
        keys = ("group", "facts", "rounds", "loaded_bytes", "peak_bytes", "flops_per_round", "error", "unavailable")
        contest = {key: getattr(self.contest, key) for key in ("title", "ours", "kind", "unit", "options")}
        rates = spread([rate(one_round) for one_round in self.rounds])
        return {**contest, **{key: getattr(self, key) for key in keys}, "per_second": rates}


def rate(one_round: Mapping[str, Any]) -> float:
    """Return the examples a second of one round."""
    return float(one_round["examples"]) / float(one_round["seconds"])


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Return median, least and greatest value; None where nothing was measured."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None
