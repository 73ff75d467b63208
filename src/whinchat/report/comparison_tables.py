"""Lay out a comparison of runs as tables of text cells."""

from collections.abc import Callable
from functools import partial

from whinchat.evaluation.metric_registry import METRICS
from whinchat.report.formatting import (
    NOT_MEASURED,
    format_bytes,
    format_count,
    format_duration,
    format_estimate,
    format_interval,
    format_number,
    format_p_value,
    format_percent,
    format_signed,
)
from whinchat.report.text_table import Columns, TextTable
from whinchat.storage.run_comparison import ComparisonRow, RunComparison, RunPair, SeedGroup, StoredComparison
from whinchat.wording import counted


def comparison_table(comparison: RunComparison) -> TextTable:
    """Return the metrics of the runs as a table of text cells."""
    columns: Columns[ComparisonRow] = {
        "run": _run_name(comparison),
        "base model": lambda row: row.model,
        "method": lambda row: row.method,
        "train rows": lambda row: format_count(row.train_rows),
        "trainable parameters": lambda row: format_count(row.trainable_parameters),
        "macro-F1 before": lambda row: format_estimate(row.before_macro_f1, row.before_interval),
        "macro-F1 after": lambda row: format_estimate(row.after_macro_f1, row.after_interval),
        **{METRICS[name].heading: partial(_format_other_metric, name) for name in other_metrics()},
        "macro-F1, label scoring": lambda row: format_number(row.score_macro_f1),
        "macro-F1, free generation": lambda row: format_number(row.generate_macro_f1) + _sample_size(row),
        "invalid answers": lambda row: format_percent(row.invalid_rate) + _sample_size(row),
        "macro-F1, first label word": lambda row: format_number(row.first_word_macro_f1) + _sample_size(row),
        "training time": lambda row: format_duration(row.train_seconds),
        "peak memory": lambda row: format_bytes(row.peak_memory_bytes),
    }
    return TextTable.of("Comparison of runs", comparison.rows, columns, heads=3)


def methods_table(stored: StoredComparison) -> TextTable:
    """Return the short table of the compared runs that stands on the card and the report of one of them."""
    name = _run_name(stored.comparison)
    columns: Columns[ComparisonRow] = {
        "run": lambda row: f"{name(row)} (this run)" if row.name == stored.run else name(row),
        "base model": lambda row: row.model,
        "method": lambda row: row.method,
        "train rows": lambda row: format_count(row.train_rows),
        "learning rate": lambda row: f"{row.learning_rate:g}",
        "macro-F1 before": lambda row: format_number(row.before_macro_f1),
        "macro-F1 after": lambda row: format_estimate(row.after_macro_f1, row.after_interval),
        "macro-F1, free generation": lambda row: format_number(row.generate_macro_f1) + _sample_size(row),
        "training time": lambda row: format_duration(row.train_seconds),
    }
    return TextTable.of("Comparison with other methods", stored.comparison.rows, columns, heads=3)


def differing_settings_table(comparison: RunComparison) -> TextTable:
    """Return the settings that differ between the runs, one row each."""
    name = _run_name(comparison)
    rows = tuple((setting.key, *setting.values) for setting in comparison.settings)
    return TextTable("Settings that differ", ("setting", *map(name, comparison.rows)), rows, numeric=False)


def seeds_table(comparison: RunComparison) -> TextTable:
    """Return the mean and the standard deviation of runs that differ in their seed alone."""
    columns: Columns[SeedGroup] = {
        "runs": lambda group: ", ".join(group.runs),
        "seeds": lambda group: ", ".join(map(str, group.seeds)),
        **{metric.heading: partial(_format_spread, name) for name, metric in METRICS.items()},
    }
    return TextTable.of("Mean ± standard deviation of several seeds", comparison.seed_groups, columns, heads=2)


def _format_spread(name: str, group: SeedGroup) -> str:
    if name not in group.means:
        return NOT_MEASURED
    return f"{format_number(group.means[name])} ± {format_number(group.deviations[name])}"


def pair_table(comparison: RunComparison, run: str | None = None) -> TextTable:
    """Return the paired tests as a table of text cells; only those of ``run`` if it is given."""
    columns: Columns[RunPair] = {
        "first run": lambda pair: pair.first,
        "second run": lambda pair: pair.second,
        "macro-F1, second minus first": lambda pair: format_signed(pair.paired.macro_f1_gain),
        "95 % interval": lambda pair: format_interval(pair.paired.interval),
        "only second correct": lambda pair: format_count(pair.paired.fixed),
        "only first correct": lambda pair: format_count(pair.paired.broken),
        "McNemar test": lambda pair: format_p_value(pair.paired.mcnemar_p),
    }
    pairs = [pair for pair in comparison.pairs if run is None or run in {pair.first, pair.second}]
    return TextTable.of("Paired tests of two runs on the same rows", pairs, columns, heads=2)


def _run_name(comparison: RunComparison) -> Callable[[ComparisonRow], str]:
    """The function that names a run in a table, with the number of its rows if there are several sets of rows."""
    numbered = any(row.measured_on > 1 for row in comparison.rows)
    return lambda row: f"{row.name} [{row.measured_on}]" if numbered else row.name


def other_metrics() -> list[str]:
    """Return the names of the registered metrics that are not macro-F1."""
    return [name for name in METRICS if name != "macro_f1"]


def _sample_size(row: ComparisonRow) -> str:
    """Return how many texts were answered freely, in brackets, where they are a sample of the evaluated texts."""
    return "" if row.generate_rows in {None, row.rows} else f" ({counted(row.generate_rows, 'text')})"


def _format_other_metric(name: str, row: ComparisonRow) -> str:
    return format_number(row.other_metrics.get(name))
