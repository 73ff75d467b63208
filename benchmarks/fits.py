"""How cost grows: a power law on log-log axes, and a straight line over the number of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HOUR = 3600.0
MANY = (10_000_000, 1_000_000_000)


@dataclass(frozen=True)
class PowerLaw:
    """cost = factor * size ** slope."""

    slope: float
    factor: float

    def at(self, size: float) -> float:
        """The fitted cost."""
        return float(self.factor * size**self.slope)


@dataclass(frozen=True)
class Line:
    """seconds = start_up + seconds_a_text * texts."""

    start_up: float
    seconds_a_text: float

    def hours(self, texts: int) -> float:
        """The fitted duration."""
        return (self.start_up + self.seconds_a_text * texts) / HOUR


def power_law(sizes: Sequence[float], costs: Sequence[float]) -> PowerLaw | None:
    """Least squares in the logarithms; None for fewer than two different sizes."""
    if len(set(sizes)) < 2:
        return None
    slope, logarithm = np.polyfit(np.log(sizes), np.log(costs), 1)
    return PowerLaw(float(slope), float(np.exp(logarithm)))


def line(texts: Sequence[float], seconds: Sequence[float]) -> Line | None:
    """Least squares on relative errors, so that the longest run does not decide alone; None for fewer than two."""
    if len(set(texts)) < 2:
        return None
    slope, start = np.polyfit(texts, seconds, 1, w=1 / np.asarray(seconds, dtype=float))
    return Line(float(start), float(slope))
