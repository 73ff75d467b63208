"""An arena's results in tables and in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from whinchat.arena.arena_results import SEEDS_FOR_A_CLAIM, ArenaResults, MethodComparison, MethodSummary
from whinchat.report.formatting import (
    NOT_MEASURED,
    format_bytes,
    format_count,
    format_duration,
    format_interval,
    format_number,
    format_signed,
)
from whinchat.report.text_table import TextTable

Show = Callable[[MethodSummary], str]


def results_table(results: ArenaResults) -> TextTable:
    """One line a method and size."""
    return TextTable("Arena", tuple(_COLUMNS), tuple(_cells(one, _COLUMNS) for one in _ordered(results)), heads=2)


def brief_results_table(results: ArenaResults) -> TextTable:
    """What of it fits a terminal."""
    return TextTable("Arena", tuple(_BRIEF), tuple(_cells(one, _BRIEF) for one in _ordered(results)), heads=2)


def comparisons_table(results: ArenaResults) -> TextTable:
    """Each method against the best simple one, size by size."""
    columns = ("rows", "method", "against", "gain", "95 % over seeds", "95 % over rows", "verdict")
    rows = tuple(
        (
            format_count(one.rows),
            one.method,
            one.against,
            format_signed(one.gain),
            NOT_MEASURED if one.over_seeds is None else format_interval(one.over_seeds),
            format_interval(one.over_rows),
            one.verdict,
        )
        for one in results.comparisons
    )
    return TextTable("Against the best simple method", columns, rows, heads=3)


def conclusions(results: ArenaResults) -> tuple[str, ...]:
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
            f"{format_count(pairs)} comparisons were made; the intervals are not corrected for that."
        )
    said += results.notes
    if results.failed:
        said.append(f"Failed: {'; '.join(f'{cell} ({error})' for cell, error in results.failed)}.")
    if results.missing:
        said.append(f"{format_count(results.missing)} cells were not run yet.")
    return tuple(said)


def _at_size(rows: int, ones: list[MethodComparison]) -> str:
    against, where = ones[0].against, f"With {format_count(rows)} training rows"
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


def _listed(ones: list[MethodComparison]) -> str:
    return ", ".join(f"{one.method} ({format_signed(one.gain)})" for one in sorted(ones, key=lambda one: -one.gain))


def _ordered(results: ArenaResults) -> list[MethodSummary]:
    """By size, best first; what size does not change comes at the end."""
    return sorted(results.summaries, key=lambda one: (one.rows is None, one.rows or 0, -one.mean_macro_f1))


def _rows(one: MethodSummary) -> str:
    return f"{format_count(one.rows_used)} shown" if one.rows is None else format_count(one.rows)


def _rate(one: MethodSummary) -> str:
    return f"{one.answers_per_second:,.0f}" if one.answers_per_second < 1e6 else "> 1 million"


def _training(one: MethodSummary) -> str:
    if not one.trainable_parameters:
        return "none"
    return format_duration(one.fit_seconds) if one.fit_seconds >= 0.01 else "< 0.01 s"


def _with_seeds(one: MethodSummary) -> str:
    return format_number(one.mean_macro_f1) + (
        f" ({format_number(one.low)}–{format_number(one.high)})" if len(one.seeds) > 1 else ""
    )


_COLUMNS: dict[str, Show] = {
    "rows": _rows,
    "method": lambda one: one.method,
    "macro-F1": lambda one: format_number(one.mean_macro_f1),
    "seeds": lambda one: f"{format_number(one.low)}–{format_number(one.high)}" if len(one.seeds) > 1 else "one seed",
    "95 % over rows": lambda one: format_interval(one.over_rows),
    "macro recall": lambda one: format_number(one.macro_recall),
    "accuracy": lambda one: format_number(one.accuracy),
    "training": _training,
    "texts/s": _rate,
    "memory": lambda one: format_bytes(one.peak_device_bytes or one.peak_memory_bytes),
    "trained": lambda one: format_count(one.trainable_parameters),
}
_BRIEF: dict[str, Show] = {
    "rows": _rows,
    "method": _COLUMNS["method"],
    "macro-F1 (seeds)": _with_seeds,
    **{column: _COLUMNS[column] for column in ("training", "texts/s", "memory")},
}


def _cells(one: MethodSummary, columns: Mapping[str, Show]) -> tuple[str, ...]:
    return tuple(show(one) for show in columns.values())
