"""An arena's results as tables and sentences."""

from functools import partial

from whinchat.arena.arena_results import (
    MEAN_TITLE,
    SEEDS_FOR_A_CLAIM,
    ArenaResults,
    MethodComparison,
    MethodSummary,
    Standings,
    Verdict,
)
from whinchat.report.formatting import (
    NOT_MEASURED,
    format_bytes,
    format_count,
    format_duration,
    format_interval,
    format_number,
    format_signed,
)
from whinchat.report.text_table import Columns, TextTable


def results_table(standings: Standings, *, with_costs: bool = True) -> TextTable:
    """Return a table with one row for each method and size; costs are the same in all standings of an arena."""
    columns: Columns[MethodSummary] = {
        **_HEADS,
        standings.metric: lambda summary: format_number(summary.mean_score),
        "seeds": _seeds,
        "95 % over rows": lambda summary: format_interval(summary.over_rows),
        **{heading: partial(_other, name) for name, heading in standings.others.items()},
    }
    trained: Columns[MethodSummary] = {"trained": lambda summary: format_count(summary.trainable_parameters)}
    return _table(standings, {**columns, **_COSTS, **trained} if with_costs else columns)


def brief_results_table(standings: Standings, *, with_costs: bool = True) -> TextTable:
    """Return the columns of ``results_table`` that fit a terminal."""
    columns: Columns[MethodSummary] = {**_HEADS, f"{standings.metric} (seeds)": _with_seeds}
    return _table(standings, {**columns, **_COSTS} if with_costs else columns)


def comparisons_table(standings: Standings) -> TextTable:
    """Return a table that compares each method with the best simple one, size by size."""
    columns: Columns[MethodComparison] = {
        "rows": lambda comparison: format_count(comparison.rows),
        "method": lambda comparison: comparison.method,
        "against": lambda comparison: comparison.against,
        "gain": lambda comparison: format_signed(comparison.gain),
        "95 % over seeds": lambda comparison: (
            NOT_MEASURED if comparison.over_seeds is None else format_interval(comparison.over_seeds)
        ),
        "95 % over rows": lambda comparison: format_interval(comparison.over_rows),
        "verdict": lambda comparison: comparison.verdict,
    }
    return TextTable.of(_caption("Against the best simple method", standings), standings.comparisons, columns, heads=3)


def conclusions(results: ArenaResults) -> tuple[str, ...]:
    """Return sentences that say which methods beat the simple ones at each size, as far as the seeds allow."""
    sentences = [
        _at_size(standings, rows, comparisons)
        for standings in results.standings
        for rows in results.sizes
        if (comparisons := [comparison for comparison in standings.comparisons if comparison.rows == rows])
    ]
    compared = [comparison for standings in results.standings for comparison in standings.comparisons]
    if any(comparison.verdict in {"better", "worse"} for comparison in compared):
        sentences.append(
            "A method counts as better or worse only where both 95 % intervals of its gain exclude zero: the "
            "t-interval over seeds, and the interval over resampled rows. The intervals are not corrected for the "
            f"{format_count(len(compared))} comparisons that were made."
        )
    sentences += results.notes
    if results.failed:
        sentences.append(f"Failed: {'; '.join(f'{trial} ({error})' for trial, error in results.failed)}.")
    if results.missing:
        sentences.append(f"{format_count(results.missing)} trials were not run yet.")
    return tuple(sentences)


def _at_size(standings: Standings, rows: int, comparisons: list[MethodComparison]) -> str:
    against = comparisons[0].against
    phrases: dict[Verdict, str] = {
        "better": f"better than {against}, the best simple method",
        "worse": f"worse than {against}",
        "open": f"no clear difference from {against}",
    }
    by_gain = sorted(comparisons, key=lambda comparison: -comparison.gain)
    parts = []
    for verdict, phrase in phrases.items():
        if group := [comparison for comparison in by_gain if comparison.verdict == verdict]:
            listed = (f"{comparison.method} ({format_signed(comparison.gain)})" for comparison in group)
            parts.append(f"{phrase}: {', '.join(listed)}")
    if silent := [comparison.method for comparison in comparisons if comparison.verdict == "no claim"]:
        parts.append(f"no claim about {', '.join(silent)}, which would take {SEEDS_FOR_A_CLAIM} seeds of both methods")
    with_rows = f"{format_count(rows)} training rows"
    beginning = {"": "With", MEAN_TITLE: "Mean over questions,"}.get(
        standings.title, f"{standings.title} ({standings.metric}),"
    )
    sentence = f"{beginning} {with_rows}: {'; '.join(parts)}."
    if {"better", "no claim"} & {comparison.verdict for comparison in comparisons}:
        return sentence
    return f"{sentence} No method has been shown to be worth more than {against} at this size."


def _table(standings: Standings, columns: Columns[MethodSummary]) -> TextTable:
    """Rows by size, best method first; methods that the size does not change come last."""
    ordered = sorted(
        standings.summaries, key=lambda summary: (summary.rows is None, summary.rows or 0, -summary.mean_score)
    )
    return TextTable.of(_caption("Arena", standings), ordered, columns, heads=2)


def _caption(words: str, standings: Standings) -> str:
    return f"{words}: {standings.title}" if standings.title else words


def _rows(summary: MethodSummary) -> str:
    return f"{format_count(summary.rows_used)} shown" if summary.rows is None else format_count(summary.rows)


def _rate(summary: MethodSummary) -> str:
    return f"{summary.answers_per_second:,.0f}" if summary.answers_per_second < 1e6 else "> 1 million"


def _training(summary: MethodSummary) -> str:
    if not summary.trainable_parameters:
        return "none"
    return format_duration(summary.fit_seconds) if summary.fit_seconds >= 0.01 else "< 0.01 s"


def _seeds(summary: MethodSummary) -> str:
    return f"{format_number(summary.low)}–{format_number(summary.high)}" if len(summary.seeds) > 1 else "one seed"


def _with_seeds(summary: MethodSummary) -> str:
    return format_number(summary.mean_score) + (f" ({_seeds(summary)})" if len(summary.seeds) > 1 else "")


def _other(name: str, summary: MethodSummary) -> str:
    return format_number(summary.others[name])


_HEADS: Columns[MethodSummary] = {"rows": _rows, "method": lambda summary: summary.method}
_COSTS: Columns[MethodSummary] = {
    "training": _training,
    "texts/s": _rate,
    "memory": lambda summary: format_bytes(summary.peak_device_bytes or summary.peak_memory_bytes),
}
