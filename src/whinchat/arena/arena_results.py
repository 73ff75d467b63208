"""Summarize the records of trials as means, spreads and comparisons.

R: resamples of the evaluated rows. S: seeds.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any, Literal

import numpy as np
from scipy import stats

from whinchat.arena.resampled_scores import Floats, interval_of_rows, resample_scores
from whinchat.arena.spec import ArenaSpec, Method
from whinchat.arena.trials import Trial, TrialRecord, TrialResult
from whinchat.errors import RunError
from whinchat.evaluation.question_metric_registry import QUESTION_METRICS
from whinchat.evaluation.results import Interval
from whinchat.wording import counted

Verdict = Literal["better", "worse", "open", "no claim"]

SEEDS_FOR_A_CLAIM = 3
MEAN_METRIC = "mean of main metrics"
MEAN_TITLE = "mean over questions"


@dataclass(frozen=True)
class MethodSummary:
    """How a method does at one size of the training set, in one question or over all of them.

    Every number is the mean over the method's seeds unless said otherwise.

    Attributes:
        method, kind: the method's name and its kind of contestant.
        rows: size of the training set; None for a method that more rows would not change.
        rows_used: training rows that the method read.
        seeds: seeds of the trials that succeeded.
        scores: main metric of each seed, (S,).
        mean_score: mean of ``scores``.
        low, high: the least and the greatest of ``scores``.
        over_rows: 95 % interval of ``mean_score`` over resamples of the evaluated rows.
        others: other metrics by the keys of ``Standings.others``; None where a metric is not defined for every seed.
        answers_per_second: evaluated texts divided by the time to answer all of them, with all questions.
        peak_memory_bytes, peak_device_bytes: the largest of all seeds.
    """

    method: str
    kind: str
    rows: int | None
    rows_used: int
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    mean_score: float
    low: float
    high: float
    over_rows: Interval
    others: Mapping[str, float | None]
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
        against: the simple method with the best mean of the main metric.
        seeds: number of seeds that both methods have.
        gain: mean difference in the main metric.
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
class Standings:
    """How the methods stand in one question, or in the mean over all questions.

    Attributes:
        question: the question; None for the labels of a task with labels, and for the mean over questions.
        metric: title of the main metric.
        rows: evaluated rows that have an answer; of the mean, all evaluated rows.
        others: headings of the other metrics by name; of the mean, of the main metric of each question.
        summaries: one for each method and size.
        comparisons: each other method against the best simple method, at each size.
    """

    question: str | None
    metric: str
    rows: int
    others: Mapping[str, str]
    summaries: tuple[MethodSummary, ...]
    comparisons: tuple[MethodComparison, ...]

    @property
    def title(self) -> str:
        """What the standings are of, as a heading: a question, the mean over questions, or nothing for labels."""
        return MEAN_TITLE if self.metric == MEAN_METRIC else self.question or ""

    def at(self, rows: int) -> tuple[MethodSummary, ...]:
        """Return the summaries at one size; methods that the size does not change are among them."""
        return tuple(summary for summary in self.summaries if summary.rows in (rows, None))


@dataclass(frozen=True)
class ArenaResults:
    """The results of an arena's trials so far.

    Attributes:
        name: the arena's name.
        sizes: sizes of the training set, ascending.
        evaluated_rows: number of evaluated rows.
        standings: of the labels of a task with labels. Of a task with questions those of the mean over questions, where
            there are several, and then those of each question; empty without a finished trial.
        notes: sentences about different machines and libraries of trials, and about models that had learned texts.
        failed: failed trials with their errors.
        missing: number of trials that were not run yet.
    """

    name: str
    sizes: tuple[int, ...]
    evaluated_rows: int
    standings: tuple[Standings, ...]
    notes: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    missing: int

    def to_dict(self) -> dict[str, Any]:
        """Return the results as JSON types; the standings of labels stand at the top."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        standings = content.pop("standings")
        if any(own.title for own in standings):
            return content | {"standings": [asdict(own) for own in standings]}
        return content | {
            "summaries": [_of_labels(summary) for own in standings for summary in own.summaries],
            "comparisons": [asdict(comparison) for own in standings for comparison in own.comparisons],
        }


def _of_labels(summary: MethodSummary) -> dict[str, Any]:
    """Return the summary of a method on labels as JSON types, each metric under its own name."""
    content = asdict(summary)
    named = {"macro_f1": content.pop("scores"), "mean_macro_f1": content.pop("mean_score"), **content.pop("others")}
    return content | named


Results = Mapping[Trial, TrialResult]
# Trials of a method by seed.
BySeed = Mapping[int, Trial]


@dataclass(frozen=True)
class Scores:
    """The trials in one question, or in the mean over questions.

    Attributes:
        question, metric, rows, headings: ``question``, ``metric``, ``rows`` and ``others`` of the standings.
        values: main metric of each trial.
        resampled: main metric of each trial in each resample, (R,).
        others: other metrics of each trial by name.
    """

    question: str | None
    metric: str
    rows: int
    headings: Mapping[str, str]
    values: Mapping[Trial, float]
    resampled: Mapping[Trial, Floats]
    others: Mapping[Trial, Mapping[str, float | None]]


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
    return ArenaResults(
        name=spec.name,
        sizes=tuple(sorted(spec.rows)),
        evaluated_rows=next(iter(results.values())).evaluated_rows if results else 0,
        standings=tuple(_standings(spec, results, scores) for scores in _scores(results)),
        notes=_notes(results),
        failed=tuple((str(trial), record.error) for trial, record in done.items() if record.error is not None),
        missing=len(trials) - len(done),
    )


def _scores(results: Results) -> list[Scores]:
    """Return the scores of the mean over questions, where there are several, and those of each question."""
    if not results:
        return []
    resamples = resample_scores(results)
    found = []
    for index, question in enumerate(next(iter(results.values())).questions):
        metrics = QUESTION_METRICS[question.type]
        headings = {name: metric.label for name, metric in metrics.items() if name != question.headline.name}
        own = {trial: result.questions[index] for trial, result in results.items()}
        found.append(
            Scores(
                question.name,
                question.headline.label,
                len({row for decision in question.decisions for row in decision.rows}),
                headings,
                {trial: answered.score for trial, answered in own.items()},
                {trial: resampled[index] for trial, resampled in resamples.items()},
                {
                    trial: {name: answered.metrics.values.get(name) for name in headings}
                    for trial, answered in own.items()
                },
            )
        )
    evaluated_rows = next(iter(results.values())).evaluated_rows
    return [_mean_over_questions(found, evaluated_rows), *found] if len(found) > 1 else found


def _mean_over_questions(found: Sequence[Scores], evaluated_rows: int) -> Scores:
    """Return the mean of the main metrics of several questions, in which every question counts alike."""
    trials = found[0].values
    return Scores(
        None,
        MEAN_METRIC,
        evaluated_rows,
        {str(one.question): f"{one.question}: {one.metric}" for one in found},
        {trial: fmean(one.values[trial] for one in found) for trial in trials},
        {trial: np.mean([one.resampled[trial] for one in found], axis=0) for trial in trials},
        {trial: {str(one.question): one.values[trial] for one in found} for trial in trials},
    )


def _standings(spec: ArenaSpec, results: Results, scores: Scores) -> Standings:
    sizes = sorted(spec.rows)
    tables: dict[tuple[str, int], BySeed] = {}
    summaries = []
    for method, rows in itertools.product(spec.methods, sizes):
        key = (method.name, rows)
        by_seed = {trial.seed: trial for trial in results if (trial.method, trial.rows) == key}
        if by_seed and (rows == sizes[0] or not method.flat):
            tables[key] = by_seed
            summaries.append(_summary(method, rows, by_seed, results, scores))
    comparisons = tuple(one for rows in sizes for one in _compare(spec, rows, tables, scores))
    return Standings(scores.question, scores.metric, scores.rows, scores.headings, tuple(summaries), comparisons)


def _summary(method: Method, rows: int, by_seed: BySeed, results: Results, scores: Scores) -> MethodSummary:
    trials = [results[trial] for trial in by_seed.values()]
    values = tuple(scores.values[trial] for trial in by_seed.values())
    others = [scores.others[trial] for trial in by_seed.values()]
    costs = [trial.cost for trial in trials]
    answer_seconds = fmean(cost.answer_seconds for cost in costs)
    on_device = [cost.peak_device_bytes for cost in costs if cost.peak_device_bytes is not None]
    return MethodSummary(
        method=method.name,
        kind=method.kind,
        rows=None if method.flat else rows,
        rows_used=max(trial.rows_used for trial in trials),
        seeds=tuple(by_seed),
        scores=values,
        mean_score=fmean(values),
        low=min(values),
        high=max(values),
        over_rows=interval_of_rows(np.mean([scores.resampled[trial] for trial in by_seed.values()], axis=0)),
        others={name: _mean([other[name] for other in others]) for name in scores.headings},
        load_seconds=fmean(cost.load_seconds for cost in costs),
        fit_seconds=fmean(cost.fit_seconds for cost in costs),
        answer_seconds=answer_seconds,
        answers_per_second=trials[0].evaluated_rows / max(answer_seconds, 1e-9),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        peak_device_bytes=max(on_device) if on_device else None,
        parameters=costs[0].parameters,
        trainable_parameters=max(cost.trainable_parameters for cost in costs),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of all ``values``; None where one of them is not defined."""
    defined = [value for value in values if value is not None]
    return fmean(defined) if len(defined) == len(values) else None


def _compare(
    spec: ArenaSpec, rows: int, tables: Mapping[tuple[str, int], BySeed], scores: Scores
) -> list[MethodComparison]:
    """Compare every method that is not simple with the simple method of the best mean."""
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
    best = max(simple, key=lambda name: fmean(scores.values[trial] for trial in trials[name].values()))
    return [
        _compare_pair(rows, (method.name, trials[method.name]), (best, trials[best]), scores)
        for method in spec.methods
        if method.family != "simple" and method.name in trials and trials[method.name].keys() & trials[best].keys()
    ]


def _compare_pair(
    rows: int, method: tuple[str, BySeed], against: tuple[str, BySeed], scores: Scores
) -> MethodComparison:
    (name, ours), (simple, theirs) = method, against
    seeds = sorted(ours.keys() & theirs.keys())
    gains = [scores.values[ours[seed]] - scores.values[theirs[seed]] for seed in seeds]
    our_mean, their_mean = (
        np.mean([scores.resampled[side[seed]] for seed in seeds], axis=0) for side in (ours, theirs)
    )
    over_seeds, over_rows = _t_interval(gains), interval_of_rows(our_mean - their_mean)
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
    for method, count in {trial.method: found.learned_texts for trial, found in results.items()}.items():
        if count:
            notes.append(
                f"The model of {method} had learned {counted(count, 'text')} of train before, so {method} knows more "
                "of this task than the rows of a trial say."
            )
    return tuple(notes)
