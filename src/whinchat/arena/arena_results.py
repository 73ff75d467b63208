"""From records of cells to means, spreads and, with three seeds or more, what they say.

N: evaluated rows. K: labels. R: resamples. S: seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from whinchat.arena.spec import SIMPLE, ArenaSpec, ContestantKind, Method
from whinchat.arena.trials import Trial, TrialRecord, TrialResult
from whinchat.errors import RunError
from whinchat.evaluation.results import Interval

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "open", "no claim"]

SEEDS_FOR_A_CLAIM = 3
_RESAMPLES = 1000


@dataclass(frozen=True)
class MethodSummary:
    """One method at one size of the training set. Figures are means over its seeds.

    Attributes:
        method, kind, rows: which; ``rows`` is None for a method that more rows would not change.
        rows_used: training rows that it read.
        seeds: those that ended well.
        macro_f1: of each seed, in their order, (S,).
        low, high: least and greatest of them.
        over_rows: 95 % interval of the mean over resamples of the evaluated rows.
        answers_per_second: evaluated texts by the time that all of them took.
        peak_memory_bytes, peak_device_bytes: the largest of all seeds.
    """

    method: str
    kind: ContestantKind
    rows: int | None
    rows_used: int
    seeds: tuple[int, ...]
    macro_f1: tuple[float, ...]
    mean_macro_f1: float
    low: float
    high: float
    over_rows: Interval
    macro_recall: float
    accuracy: float
    load_seconds: float
    fit_seconds: float
    answer_seconds: float
    answers_per_second: float
    peak_memory_bytes: int
    peak_device_bytes: int | None
    parameters: int
    trainable_parameters: int


@dataclass(frozen=True)
class MethodComparison:
    """A method against the best simple one at the same size, seed by seed.

    Attributes:
        rows: the size.
        method, against: who is held against whom.
        seeds: how many both have.
        gain: mean of the differences in macro-F1.
        over_seeds: their 95 % t-interval; None below two seeds.
        over_rows: 95 % interval of ``gain`` over resamples of the evaluated rows.
        verdict: better or worse only where both intervals leave zero out.
    """

    rows: int
    method: str
    against: str
    seeds: int
    gain: float
    over_seeds: Interval | None
    over_rows: Interval
    verdict: Verdict


@dataclass(frozen=True)
class ArenaResults:
    """What an arena has found so far.

    ``missing`` counts cells that were not run yet; ``failed`` names those that could not be.
    """

    name: str
    sizes: tuple[int, ...]
    evaluated_rows: int
    summaries: tuple[MethodSummary, ...]
    comparisons: tuple[MethodComparison, ...]
    notes: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    missing: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def at(self, rows: int) -> tuple[MethodSummary, ...]:
        """Every method at one size, those that size does not change included."""
        return tuple(one for one in self.summaries if one.rows in (rows, None))


def summarize(spec: ArenaSpec, records: Mapping[Trial, TrialRecord], cells: Sequence[Trial]) -> ArenaResults:
    """Results of the cells that were run.

    Args:
        spec: what was asked.
        records: what was found, by cell.
        cells: the whole plan.

    Raises:
        RunError: the records were measured on, or trained with, different rows.
    """
    found = {cell: one.found for cell in cells if (one := records.get(cell)) is not None and one.found is not None}
    methods = {method.name: method for method in spec.methods}
    _require_equal_data(found, methods)
    draws = _Draws(found)
    sizes = tuple(sorted(spec.rows))
    tables = {
        (method.name, rows): {cell.seed: cell for cell in found if (cell.method, cell.rows) == (method.name, rows)}
        for method in spec.methods
        for rows in (sizes[:1] if method.flat else sizes)
    }
    summaries = tuple(
        _summary(
            methods[name], rows, {seed: found[cell] for seed, cell in by_seed.items()}, draws.mean(by_seed.values())
        )
        for (name, rows), by_seed in tables.items()
        if by_seed
    )
    comparisons = tuple(one for rows in sizes for one in _compare(spec, rows, tables, found, draws))
    failed = tuple(
        (str(cell), one.error) for cell in cells if (one := records.get(cell)) is not None and one.error is not None
    )
    missing = sum(cell not in records for cell in cells)
    size = len(next(iter(found.values())).expected) if found else 0
    return ArenaResults(spec.name, sizes, size, summaries, comparisons, _notes(found), failed, missing)


class _Draws:
    """Macro-F1 of every cell over the same R resamples of the evaluated rows."""

    def __init__(self, found: Mapping[Trial, TrialResult]) -> None:
        self._by_cell: dict[Trial, Floats] = {}
        if not found:
            return
        rows = len(next(iter(found.values())).expected)
        weights = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=_RESAMPLES)
        # Counts stay far below 2 ** 24, so float32 holds them exactly.
        drawn = weights.astype(np.float32)  # (R, N)
        for cell, one in found.items():
            labels = np.arange(len(one.measured.labels))
            expected = np.array(one.expected)[:, None] == labels  # (N, K)
            predicted = np.array(one.predicted)[:, None] == labels
            hits, support, answered = (
                drawn @ columns.astype(np.float32) for columns in (expected & predicted, expected, predicted)
            )  # each (R, K)
            self._by_cell[cell] = (2 * hits / np.maximum(support + answered, 1)).mean(axis=1).astype(np.float64)

    def mean(self, cells: Iterable[Trial]) -> Floats:
        """Mean over several cells, (R,)."""
        mean: Floats = np.mean([self._by_cell[cell] for cell in cells], axis=0)
        return mean


def _summary(method: Method, rows: int, by_seed: Mapping[int, TrialResult], draws: Floats) -> MethodSummary:
    ones = list(by_seed.values())
    scores = tuple(one.measured.macro_f1 for one in ones)
    costs = [one.cost for one in ones]
    answering = fmean(cost.answer_seconds for cost in costs)
    on_device = [cost.peak_device_bytes for cost in costs if cost.peak_device_bytes is not None]
    return MethodSummary(
        method=method.name,
        kind=method.kind,
        rows=None if method.flat else rows,
        rows_used=max(one.rows_used for one in ones),
        seeds=tuple(by_seed),
        macro_f1=scores,
        mean_macro_f1=fmean(scores),
        low=min(scores),
        high=max(scores),
        over_rows=_quantiles(draws),
        macro_recall=fmean(one.measured.macro_recall for one in ones),
        accuracy=fmean(one.measured.accuracy for one in ones),
        load_seconds=fmean(cost.load_seconds for cost in costs),
        fit_seconds=fmean(cost.fit_seconds for cost in costs),
        answer_seconds=answering,
        answers_per_second=len(ones[0].expected) / max(answering, 1e-9),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        peak_device_bytes=max(on_device) if on_device else None,
        parameters=costs[0].parameters,
        trainable_parameters=max(cost.trainable_parameters for cost in costs),
    )


Tables = Mapping[tuple[str, int], Mapping[int, Trial]]


def _compare(
    spec: ArenaSpec, rows: int, tables: Tables, found: Mapping[Trial, TrialResult], draws: _Draws
) -> list[MethodComparison]:
    """Everything that is not simple against the simple method with the best mean."""
    smallest = min(spec.rows)
    cells: dict[str, dict[int, Trial]] = {}
    for method in spec.methods:
        by_seed = dict(tables.get((method.name, smallest if method.flat else rows), {}))
        if method.seedless and by_seed:
            # Another seed would find the same.
            by_seed = dict.fromkeys(spec.seeds, next(iter(by_seed.values())))
        if by_seed:
            cells[method.name] = by_seed
    simple = [one.name for one in spec.methods if one.kind in SIMPLE and one.name in cells]
    if not simple:
        return []
    best = max(simple, key=lambda name: fmean(found[cell].measured.macro_f1 for cell in cells[name].values()))
    return [
        _pair(rows, one.name, best, (cells[one.name], cells[best]), found, draws)
        for one in spec.methods
        if one.kind not in SIMPLE and one.name in cells and cells[one.name].keys() & cells[best].keys()
    ]


def _pair(
    rows: int,
    method: str,
    against: str,
    sides: tuple[Mapping[int, Trial], Mapping[int, Trial]],
    found: Mapping[Trial, TrialResult],
    draws: _Draws,
) -> MethodComparison:
    ours, theirs = sides
    seeds = sorted(ours.keys() & theirs.keys())
    gains = [found[ours[seed]].measured.macro_f1 - found[theirs[seed]].measured.macro_f1 for seed in seeds]
    over_rows = _quantiles(draws.mean(ours[seed] for seed in seeds) - draws.mean(theirs[seed] for seed in seeds))
    over_seeds = _t_interval(gains)
    verdict: Verdict = "no claim"
    if over_seeds is not None and len(seeds) >= SEEDS_FOR_A_CLAIM:
        low, high = min(over_seeds.low, over_rows.low), max(over_seeds.high, over_rows.high)
        verdict = "better" if low > 0 else "worse" if high < 0 else "open"
    return MethodComparison(rows, method, against, len(seeds), fmean(gains), over_seeds, over_rows, verdict)


def _t_interval(values: Sequence[float]) -> Interval | None:
    """95 % interval of the mean of (S,) values, or None of a single one."""
    if len(values) < 2:
        return None
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(fmean(values) - half, fmean(values) + half)


def _quantiles(draws: Floats) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(low), float(high))


def _require_equal_data(found: Mapping[Trial, TrialResult], methods: Mapping[str, Method]) -> None:
    """What was measured on different rows must not stand in one table."""
    evaluated: dict[str, list[Trial]] = {}
    trained: dict[tuple[int, int], dict[str, list[Trial]]] = {}
    for cell, one in found.items():
        evaluated.setdefault(one.evaluated_on, []).append(cell)
        trained.setdefault((cell.rows, cell.seed), {}).setdefault(one.trained_on, []).append(cell)
    groups = [("measured on", evaluated), *(("trained with", same) for same in trained.values())]
    for what, by_rows in groups:
        if len(by_rows) > 1:
            listed = "; ".join(
                str(group[0]) + (f" and {len(group) - 1} more" if len(group) > 1 else "") for group in by_rows.values()
            )
            raise RunError(
                f"arena: cells were {what} different rows ({listed}), so they cannot be compared; the data has changed "
                "since: use another --out, or delete the cells of the old data"
            )


def _notes(found: Mapping[Trial, TrialResult]) -> tuple[str, ...]:
    notes = []
    machines = sorted({", ".join(one.machine[key] for key in ("processor", "cores")) for one in found.values()})
    if len(machines) > 1:
        notes.append(f"Times and memory come from different machines: {'; '.join(machines)}.")
    versions: dict[str, set[str]] = {}
    for one in found.values():
        for name, release in one.versions.items():
            versions.setdefault(name, set()).add(release)
    mixed = [f"{name} {' and '.join(sorted(releases))}" for name, releases in versions.items() if len(releases) > 1]
    if mixed:
        notes.append(f"Not all cells were run with the same versions: {'; '.join(mixed)}.")
    return tuple(notes)
