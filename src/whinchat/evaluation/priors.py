"""Label shares of texts that nobody has labelled, and whether they can be trusted.

N: rows. K: labels. B: bins.

Re-estimation assumes that only the shares of the labels differ from the validation rows: texts of one label look as
they did there ("label shift"). Where more has changed, it makes answers worse, so the assumption is tested first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Of each label that is answered: unsure, likely, sure.
_CUTS = (1 / 3, 2 / 3)
# Below this the texts differ from the validation rows in more than their labels' shares.
SURE = 0.01
# Shares estimated from fewer texts are mostly chance.
FEWEST_TEXTS = 100


@dataclass(frozen=True)
class Reestimated:
    """What ``reestimate`` found.

    Attributes:
        prior: estimated share of each label, (K,).
        probabilities: under that prior, (N, K).
        iterations: rounds of EM until nothing moved.
    """

    prior: Floats
    probabilities: Floats
    iterations: int


def reestimate(probabilities: Floats, prior: Floats, tolerance: float = 1e-6, most: int = 10_000) -> Reestimated:
    """The shares under which ``probabilities`` (N, K), fitted where the shares were ``prior`` (K,), are most likely.

    Source: Saerens, Latinne and Decaestecker 2002, Adjusting the outputs of a classifier to new a priori
    probabilities, section 2.2: expectation maximization over the unknown labels.
    """
    current, moved, iterations = prior, np.inf, 0
    while moved >= tolerance and iterations < most:
        following = adjusted(probabilities, prior, current).mean(axis=0)
        current, moved, iterations = following, np.abs(following - current).max(), iterations + 1
    return Reestimated(current, adjusted(probabilities, prior, current), iterations)


def adjusted(probabilities: Floats, old: Floats, new: Floats) -> Floats:
    """``probabilities`` (N, K) with the prior ``old`` taken out and ``new`` put in."""
    weighted = probabilities * (new / old)
    shares: Floats = weighted / weighted.sum(axis=1, keepdims=True)
    return shares


@dataclass(frozen=True)
class ScoreBins:
    """How the scores of each label's rows lie, coarsely: what the test for label shift compares with.

    Attributes:
        edges: confidences that part the bins of each answered label, (K, B / K - 1).
        counts: validation rows of each true label in each bin, (K, B).
    """

    edges: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, probabilities: Floats, expected: Ints) -> ScoreBins:
        """Those of validation rows, (N, K) and (N,)."""
        size = probabilities.shape[1]
        top = probabilities.argmax(axis=1)
        confidence = probabilities.max(axis=1)
        edges = tuple(
            tuple(np.quantile(confidence[top == label], _CUTS).tolist()) if (top == label).any() else (0.5, 0.75)
            for label in range(size)
        )
        bins = _bins(probabilities, edges)
        counts = np.zeros((size, size * (len(_CUTS) + 1)), dtype=np.int64)
        np.add.at(counts, (expected, bins), 1)
        return cls(edges, tuple(tuple(row) for row in counts.tolist()))


@dataclass(frozen=True)
class ShiftTest:
    """Whether the texts could be validation texts in other shares.

    Attributes:
        p_value: how often a difference as large would come from chance.
        moved: share of the rows that would have to change bins to fit, 0 to 1.
    """

    p_value: float
    moved: float

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the assumption."""
        return self.p_value >= SURE


def shift_test(probabilities: Floats, prior: Floats, bins: ScoreBins) -> ShiftTest:
    """Test that rows with ``probabilities`` (N, K) are a mixture of the labels in shares ``prior`` (K,).

    A chi-squared test of the counts in the bins against the mixture's. The mixture's own error, from a limited number
    of validation rows, is counted in, so that a large N does not reject what validation cannot tell apart.
    """
    counts = np.array(bins.counts, dtype=np.float64)  # (K, B)
    rows = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shape = counts / rows
    expected = prior @ shape  # (B,)
    observed = np.bincount(_bins(probabilities, bins.edges), minlength=counts.shape[1]) / len(probabilities)
    variance = expected * (1 - expected) / len(probabilities) + prior**2 @ (shape * (1 - shape) / rows)
    # A bin that validation left empty has no variance of its own: a row there counts as one of so many.
    variance = np.maximum(variance, 1 / (len(probabilities) * rows.sum()))
    statistic = float(((observed - expected) ** 2 / variance * (1 - expected)).sum())
    # Bins add up to one, and K - 1 shares were fitted.
    freedom = max(1, counts.shape[1] - counts.shape[0])
    return ShiftTest(float(chi2.sf(statistic, freedom)), float(np.abs(observed - expected).sum() / 2))


@dataclass(frozen=True)
class Reestimation:
    """Label shares estimated from unlabelled texts, and whether to believe them.

    Attributes:
        labels: their order is that of the shares.
        fitted: share of each label among the rows that the calibrator was fitted on.
        estimated: among the texts.
        texts: how many there were.
        changed: texts that get another label under the estimated shares.
        p_value, moved: of the test that nothing but the shares has changed; see ``ShiftTest``.
    """

    labels: tuple[str, ...]
    fitted: tuple[float, ...]
    estimated: tuple[float, ...]
    texts: int
    changed: int
    p_value: float
    moved: float

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the assumption behind the estimate."""
        return ShiftTest(self.p_value, self.moved).trusted

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the verdict among them."""
        return {**asdict(self), "trusted": self.trusted}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """The record that ``to_dict`` wrote."""
        own = {name: value for name, value in record.items() if name != "trusted"}
        return cls(**{**own, **{name: tuple(record[name]) for name in ("labels", "fitted", "estimated")}})


def _bins(probabilities: Floats, edges: tuple[tuple[float, ...], ...]) -> Ints:
    """The bin of each row, (N,): its answered label, and how sure it is of it."""
    top = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    width = len(edges[0]) + 1
    inner = (confidence[:, None] >= np.array(edges)[top]).sum(axis=1)
    found: Ints = top * width + inner
    return found
