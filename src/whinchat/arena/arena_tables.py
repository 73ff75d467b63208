"""An arena's results as tables and sentences."""

from whinchat.arena.arena_results import SEEDS_FOR_A_CLAIM, ArenaResults, MethodComparison, MethodSummary, Verdict
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


def results_table(results: ArenaResults) -> TextTable:
    """Return a table with one row for each method and size."""
    return _table(results, _COLUMNS)


def brief_results_table(results: ArenaResults) -> TextTable:
    """Return the columns of ``results_table`` that fit a terminal."""
    return _table(results, _BRIEF_COLUMNS)


def comparisons_table(results: ArenaResults) -> TextTable:
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
    return TextTable.of("Against the best simple method", results.comparisons, columns, heads=3)


def conclusions(results: ArenaResults) -> tuple[str, ...]:
    """Return sentences that say which methods beat the simple ones at each size, as far as the seeds allow."""
    sentences = []
    for rows in results.sizes:
        if comparisons := [comparison for comparison in results.comparisons if comparison.rows == rows]:
            sentences.append(_at_size(rows, comparisons))
    if any(comparison.verdict in {"better", "worse"} for comparison in results.comparisons):
        sentences.append(
            "A method counts as better or worse only where both 95 % intervals of its gain exclude zero: the "
            "t-interval over seeds, and the interval over resampled rows. The intervals are not corrected for the "
            f"{format_count(len(results.comparisons))} comparisons that were made."
        )
    sentences += results.notes
    if results.failed:
        sentences.append(f"Failed: {'; '.join(f'{trial} ({error})' for trial, error in results.failed)}.")
    if results.missing:
        sentences.append(f"{format_count(results.missing)} trials were not run yet.")
    return tuple(sentences)


def _at_size(rows: int, comparisons: list[MethodComparison]) -> str:
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
    sentence = f"With {format_count(rows)} training rows: {'; '.join(parts)}."
    if {"better", "no claim"} & {comparison.verdict for comparison in comparisons}:
        return sentence
    return f"{sentence} No method has been shown to be worth more than {against} at this size."


def _table(results: ArenaResults, columns: Columns[MethodSummary]) -> TextTable:
    """Rows by size, best method first; methods that the size does not change come last."""
    ordered = sorted(
        results.summaries, key=lambda summary: (summary.rows is None, summary.rows or 0, -summary.mean_macro_f1)
    )
    return TextTable.of("Arena", ordered, columns, heads=2)


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
    return format_number(summary.mean_macro_f1) + (f" ({_seeds(summary)})" if len(summary.seeds) > 1 else "")


_COLUMNS: Columns[MethodSummary] = {
    "rows": _rows,
    "method": lambda summary: summary.method,
    "macro-F1": lambda summary: format_number(summary.mean_macro_f1),
    "seeds": _seeds,
    "95 % over rows": lambda summary: format_interval(summary.over_rows),
    "macro recall": lambda summary: format_number(summary.macro_recall),
    "accuracy": lambda summary: format_number(summary.accuracy),
    "training": _training,
    "texts/s": _rate,
    "memory": lambda summary: format_bytes(summary.peak_device_bytes or summary.peak_memory_bytes),
    "trained": lambda summary: format_count(summary.trainable_parameters),
}
_BRIEF_COLUMNS: Columns[MethodSummary] = {
    "rows": _rows,
    "method": _COLUMNS["method"],
    "macro-F1 (seeds)": _with_seeds,
    **{column: _COLUMNS[column] for column in ("training", "texts/s", "memory")},
}
