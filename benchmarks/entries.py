"""What is to be measured, and what was: the records between plan, driver, ratios and tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contest:
    """One contestant of a group.

    Attributes:
        name: key in the results.
        kind: what the worker runs; see ``contestants.KINDS``.
        title: for tables and figures.
        options: for the worker.
        seconds: a round's expected duration, and ``preparing`` that of loading and warming up; for the estimate only.
        ours: whether it is whinchat itself.
        unit: what its "examples" are.
        count_flops: whether to count its products after the last round.
    """

    name: str
    kind: str
    title: str
    options: dict[str, Any]
    seconds: float
    preparing: float = 12.0
    ours: bool = False
    unit: str = "examples"
    count_flops: bool = False


@dataclass
class Entry:
    """A contestant's results; ``error`` or ``unavailable`` where it could not go on, with the rounds until then."""

    contest: Contest
    group: str
    rounds: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    loaded_bytes: int | None = None
    peak_bytes: int | None = None
    flops: float | None = None
    error: str | None = None
    unavailable: str | None = None

    @property
    def alive(self) -> bool:
        """Whether it can run another round."""
        return self.error is None and self.unavailable is None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON; rates in examples a second."""
        rates = [rate(one) for one in self.rounds]
        return {
            "group": self.group,
            "title": self.contest.title,
            "ours": self.contest.ours,
            "kind": self.contest.kind,
            "unit": self.contest.unit,
            "options": self.contest.options,
            "facts": self.facts,
            "rounds": self.rounds,
            "per_second": spread(rates),
            "loaded_bytes": self.loaded_bytes,
            "peak_bytes": self.peak_bytes,
            "flops_per_round": self.flops,
            "error": self.error,
            "unavailable": self.unavailable,
        }


def rate(one_round: dict[str, Any]) -> float:
    """Examples a second of one round."""
    return float(one_round["examples"]) / float(one_round["seconds"])


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Median, least and greatest; None where nothing was measured."""
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
