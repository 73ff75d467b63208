"""An arena's results in tables and in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from whinchat.arena.results import SEEDS_FOR_A_CLAIM, Comparison, Results, Summary
from whinchat.publish.tables import Table
from whinchat.publish.wording import NOT_MEASURED, between, count, duration, memory, number, signed

Show = Callable[[Summary], str]


def table(results: Results) -> Table:
    """One line a method and size."""
    return Table("Arena", tuple(_COLUMNS), tuple(_cells(one, _COLUMNS) for one in _ordered(results)), heads=2)


def brief_table(results: Results) -> Table:
    """What of it fits a terminal."""
    return Table("Arena", tuple(_BRIEF), tuple(_cells(one, _BRIEF) for one in _ordered(results)), heads=2)


def comparisons(results: Results) -> Table:
    """Each method against the best simple one, size by size."""
    columns = ("rows", "method", "against", "gain", "95 % over seeds", "95 % over rows", "verdict")
    rows = tuple(
        (
            count(one.rows),
            one.method,
            one.against,
            signed(one.gain),
            NOT_MEASURED if one.over_seeds is None else between(one.over_seeds),
            between(one.over_rows),
            one.verdict,
        )
        for one in results.comparisons
    )
    return Table("Against the best simple method", columns, rows, heads=3)


def sentences(results: Results) -> tuple[str, ...]:
    """When a chat model beats the simple methods and when it does not; no more than the seeds allow."""
    said = []
    for rows in results.sizes:
        ones = [one for one in results.comparisons if one.rows == rows]
        if ones:
            said.append(_at_size(rows, ones))
    pairs = len(results.comparisons)
    if any(one.verdict in {"better", "worse"} for one in results.comparisons):
        said.append(
            "A verdict needs both 95 % intervals on one side of zero: over seeds (t) and over resampled rows. "
            f"{count(pairs)} comparisons were made; the intervals are not corrected for that."
        )
    said += results.notes
    if results.failed:
        said.append(f"Failed: {'; '.join(f'{cell} ({error})' for cell, error in results.failed)}.")
    if results.missing:
        said.append(f"{count(results.missing)} cells were not run yet.")
    return tuple(said)


def _at_size(rows: int, ones: list[Comparison]) -> str:
    against, where = ones[0].against, f"With {count(rows)} training rows"
    groups = {verdict: [one for one in ones if one.verdict == verdict] for verdict in ("better", "worse", "open")}
    silent = [one.method for one in ones if one.verdict == "no claim"]
    parts = []
    if groups["better"]:
        parts.append(f"better than {against}, the best simple method: {_listed(groups['better'])}")
    if groups["worse"]:
        parts.append(f"worse than {against}: {_listed(groups['worse'])}")
    if groups["open"]:
        parts.append(f"not told apart from {against}: {_listed(groups['open'])}")
    if silent:
        parts.append(f"no claim about {', '.join(silent)}, which takes {SEEDS_FOR_A_CLAIM} seeds of both")
    ends = "" if groups["better"] or silent else " None of them has shown that it is worth its cost at this size."
    return f"{where}: {'; '.join(parts)}.{ends}"


def _listed(ones: list[Comparison]) -> str:
    return ", ".join(f"{one.method} ({signed(one.gain)})" for one in sorted(ones, key=lambda one: -one.gain))


def _ordered(results: Results) -> list[Summary]:
    """By size, best first; what size does not change comes at the end."""
    return sorted(results.summaries, key=lambda one: (one.rows is None, one.rows or 0, -one.mean_macro_f1))


def _rows(one: Summary) -> str:
    return f"{count(one.rows_used)} shown" if one.rows is None else count(one.rows)


def _rate(one: Summary) -> str:
    return f"{one.answers_per_second:,.0f}" if one.answers_per_second < 1e6 else "> 1 million"


def _training(one: Summary) -> str:
    if not one.trainable_parameters:
        return "none"
    return duration(one.fit_seconds) if one.fit_seconds >= 0.01 else "< 0.01 s"


def _with_seeds(one: Summary) -> str:
    return number(one.mean_macro_f1) + (f" ({number(one.low)}–{number(one.high)})" if len(one.seeds) > 1 else "")


_COLUMNS: dict[str, Show] = {
    "rows": _rows,
    "method": lambda one: one.method,
    "macro-F1": lambda one: number(one.mean_macro_f1),
    "seeds": lambda one: f"{number(one.low)}–{number(one.high)}" if len(one.seeds) > 1 else "one seed",
    "95 % over rows": lambda one: between(one.over_rows),
    "macro recall": lambda one: number(one.macro_recall),
    "accuracy": lambda one: number(one.accuracy),
    "training": _training,
    "texts/s": _rate,
    "memory": lambda one: memory(one.peak_device_bytes or one.peak_memory_bytes),
    "trained": lambda one: count(one.trainable_parameters),
}
_BRIEF: dict[str, Show] = {
    "rows": _rows,
    "method": _COLUMNS["method"],
    "macro-F1 (seeds)": _with_seeds,
    **{column: _COLUMNS[column] for column in ("training", "texts/s", "memory")},
}


def _cells(one: Summary, columns: Mapping[str, Show]) -> tuple[str, ...]:
    return tuple(show(one) for show in columns.values())
