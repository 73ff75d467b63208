"""Summarize the records of trials as means, spreads and comparisons.

N: evaluated rows. K: labels. R: resamples. S: seeds.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from whinchat.arena.spec import ArenaSpec, Method
from whinchat.arena.trials import Trial, TrialRecord, TrialResult
from whinchat.errors import RunError
from whinchat.evaluation.results import Interval

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "open", "no claim"]

SEEDS_FOR_A_CLAIM = 3
_RESAMPLES = 1000


@dataclass(frozen=True)
class MethodSummary:
    """A method at one size of the training set; every number is the mean over its seeds unless said otherwise.

    Attributes:
        method, kind: the method's name and its kind of contestant.
        rows: size of the training set; None for a method that more rows would not change.
        rows_used: training rows that the method read.
        seeds: seeds of the trials that succeeded.
        macro_f1: macro-F1 of each seed, (S,).
        low, high: the least and the greatest macro-F1 of the seeds.
        over_rows: 95 % interval of the mean macro-F1 over resamples of the evaluated rows.
        answers_per_second: evaluated texts divided by the time to answer all of them.
        peak_memory_bytes, peak_device_bytes: the largest of all seeds.
    """

    method: str
    kind: str
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
    """A method compared with the best simple method at the same size, seed by seed.

    Attributes:
        rows: size of the training set.
        method: the compared method.
        against: the best simple method.
        seeds: number of seeds that both methods have.
        gain: mean difference in macro-F1.
        over_seeds: 95 % t-interval of ``gain`` over the seeds; None below two seeds.
        over_rows: 95 % interval of ``gain`` over resamples of the evaluated rows.
        verdict: better or worse only where both intervals exclude zero, and only from three seeds on.
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
    """The results of an arena's trials so far.

    Attributes:
        name: the arena's name.
        sizes: sizes of the training set, ascending.
        evaluated_rows: number of evaluated rows.
        summaries: one for each method and size.
        comparisons: each other method against the best simple method, at each size.
        notes: sentences about differences between the trials' machines and libraries.
        failed: failed trials with their errors.
        missing: number of trials that were not run yet.
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
        """Return the results as JSON types."""
        return asdict(self)

    def at(self, rows: int) -> tuple[MethodSummary, ...]:
        """Return the summaries at one size; methods that the size does not change are among them."""
        return tuple(summary for summary in self.summaries if summary.rows in (rows, None))


Results = Mapping[Trial, TrialResult]
# Trials of a method by seed.
BySeed = Mapping[int, Trial]
# Macro-F1 of a trial in each resample, (R,).
Resamples = Mapping[Trial, Floats]


def summarize_trials(spec: ArenaSpec, records: Mapping[Trial, TrialRecord], trials: Sequence[Trial]) -> ArenaResults:
    """Summarize the trials that were run.

    Args:
        spec: the arena.
        records: the records by trial.
        trials: all planned trials.

    Raises:
        RunError: trials were evaluated on, or trained with, different rows.
    """
    done = {trial: records[trial] for trial in trials if trial in records}
    results = {trial: record.result for trial, record in done.items() if record.result is not None}
    _require_equal_data(results)
    resamples = _resample(results)
    sizes = tuple(sorted(spec.rows))
    tables: dict[tuple[str, int], BySeed] = {}
    summaries = []
    for method, rows in itertools.product(spec.methods, sizes):
        key = (method.name, rows)
        by_seed = {trial.seed: trial for trial in results if (trial.method, trial.rows) == key}
        if by_seed and (rows == sizes[0] or not method.flat):
            tables[key] = by_seed
            summaries.append(_summary(method, rows, by_seed, results, resamples))
    return ArenaResults(
        name=spec.name,
        sizes=sizes,
        evaluated_rows=len(next(iter(results.values())).expected) if results else 0,
        summaries=tuple(summaries),
        comparisons=tuple(one for rows in sizes for one in _compare(spec, rows, tables, results, resamples)),
        notes=_notes(results),
        failed=tuple((str(trial), record.error) for trial, record in done.items() if record.error is not None),
        missing=len(trials) - len(done),
    )


def _resample(results: Results) -> Resamples:
    """Return the macro-F1 of every trial over the same R resamples of the evaluated rows, (R,) each."""
    if not results:
        return {}
    rows = len(next(iter(results.values())).expected)
    counts = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=_RESAMPLES)
    # Counts stay far below 2 ** 24, so float32 holds them exactly.
    drawn = counts.astype(np.float32)  # (R, N)
    macro_f1 = {}
    for trial, result in results.items():
        labels = np.arange(len(result.metrics.labels))
        expected = np.array(result.expected)[:, None] == labels  # (N, K)
        predicted = np.array(result.predicted)[:, None] == labels
        columns = (expected & predicted, expected, predicted)
        hits, support, answered = (drawn @ column.astype(np.float32) for column in columns)  # each (R, K)
        macro_f1[trial] = (2 * hits / np.maximum(support + answered, 1)).mean(axis=1).astype(np.float64)
    return macro_f1


def _summary(method: Method, rows: int, by_seed: BySeed, results: Results, resamples: Resamples) -> MethodSummary:
    trials = [results[trial] for trial in by_seed.values()]
    scores = tuple(trial.metrics.macro_f1 for trial in trials)
    costs = [trial.cost for trial in trials]
    answer_seconds = fmean(cost.answer_seconds for cost in costs)
    on_device = [cost.peak_device_bytes for cost in costs if cost.peak_device_bytes is not None]
    return MethodSummary(
        method=method.name,
        kind=method.kind,
        rows=None if method.flat else rows,
        rows_used=max(trial.rows_used for trial in trials),
        seeds=tuple(by_seed),
        macro_f1=scores,
        mean_macro_f1=fmean(scores),
        low=min(scores),
        high=max(scores),
        over_rows=_interval(np.mean([resamples[trial] for trial in by_seed.values()], axis=0)),
        macro_recall=fmean(trial.metrics.macro_recall for trial in trials),
        accuracy=fmean(trial.metrics.accuracy for trial in trials),
        load_seconds=fmean(cost.load_seconds for cost in costs),
        fit_seconds=fmean(cost.fit_seconds for cost in costs),
        answer_seconds=answer_seconds,
        answers_per_second=len(trials[0].expected) / max(answer_seconds, 1e-9),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        peak_device_bytes=max(on_device) if on_device else None,
        parameters=costs[0].parameters,
        trainable_parameters=max(cost.trainable_parameters for cost in costs),
    )


def _compare(
    spec: ArenaSpec, rows: int, tables: Mapping[tuple[str, int], BySeed], results: Results, resamples: Resamples
) -> list[MethodComparison]:
    """Compare every method that is not simple with the simple method of the best mean macro-F1."""
    trials: dict[str, BySeed] = {}
    for method in spec.methods:
        by_seed = tables.get((method.name, min(spec.rows) if method.flat else rows), {})
        if method.seedless and by_seed:
            # Another seed would give the same answers.
            by_seed = dict.fromkeys(spec.seeds, next(iter(by_seed.values())))
        if by_seed:
            trials[method.name] = by_seed
    simple = [method.name for method in spec.methods if method.family == "simple" and method.name in trials]
    if not simple:
        return []
    best = max(simple, key=lambda name: fmean(results[trial].metrics.macro_f1 for trial in trials[name].values()))
    return [
        _compare_pair(rows, (method.name, trials[method.name]), (best, trials[best]), results, resamples)
        for method in spec.methods
        if method.family != "simple" and method.name in trials and trials[method.name].keys() & trials[best].keys()
    ]


def _compare_pair(
    rows: int, method: tuple[str, BySeed], against: tuple[str, BySeed], results: Results, resamples: Resamples
) -> MethodComparison:
    (name, ours), (simple, theirs) = method, against
    seeds = sorted(ours.keys() & theirs.keys())
    gains = [results[ours[seed]].metrics.macro_f1 - results[theirs[seed]].metrics.macro_f1 for seed in seeds]
    our_mean, their_mean = (np.mean([resamples[side[seed]] for seed in seeds], axis=0) for side in (ours, theirs))
    over_seeds, over_rows = _t_interval(gains), _interval(our_mean - their_mean)
    verdict: Verdict = "no claim"
    if over_seeds is not None and len(seeds) >= SEEDS_FOR_A_CLAIM:
        low, high = min(over_seeds.low, over_rows.low), max(over_seeds.high, over_rows.high)
        verdict = "better" if low > 0 else "worse" if high < 0 else "open"
    return MethodComparison(rows, name, simple, len(seeds), fmean(gains), over_seeds, over_rows, verdict)


def _t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of (S,) values; None for a single value."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(fmean(values) - half, fmean(values) + half)


def _interval(values: Floats) -> Interval:
    """Return the 95 % interval of (R,) resampled values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))


def _require_equal_data(results: Results) -> None:
    """Refuse to put trials in one table that were run on different rows."""
    evaluated: dict[str, list[Trial]] = {}
    trained: dict[tuple[int, int], dict[str, list[Trial]]] = {}
    for trial, result in results.items():
        evaluated.setdefault(result.evaluated_on, []).append(trial)
        trained.setdefault((trial.rows, trial.seed), {}).setdefault(result.trained_on, []).append(trial)
    for action, by_rows in [("evaluated on", evaluated), *(("trained with", same) for same in trained.values())]:
        if len(by_rows) > 1:
            groups = "; ".join(
                str(group[0]) + (f" and {len(group) - 1} more" if len(group) > 1 else "") for group in by_rows.values()
            )
            raise RunError(
                f"arena: trials were {action} different rows ({groups}), so they cannot be compared; the data has "
                "changed since: use another --out, or delete the records of the old data"
            )


def _notes(results: Results) -> tuple[str, ...]:
    notes = []
    machines = sorted({f"{result.machine['processor']}, {result.machine['cores']}" for result in results.values()})
    if len(machines) > 1:
        notes.append(f"Times and memory come from different machines: {'; '.join(machines)}.")
    releases: dict[str, set[str]] = {}
    for result in results.values():
        for name, release in result.versions.items():
            releases.setdefault(name, set()).add(release)
    mixed = [f"{name} {' and '.join(sorted(found))}" for name, found in releases.items() if len(found) > 1]
    if mixed:
        notes.append(f"Not all trials were run with the same versions: {'; '.join(mixed)}.")
    return tuple(notes)
