"""Dot plots of values before and after training: for each label of a run, and for each of several runs."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whinchat.evaluation.results import Interval, LabelMetrics, Metrics
from whinchat.report.comparison import row_groups
from whinchat.report.figures.style import Theme, new_figure, set_title, shorten, wrap_name
from whinchat.report.formatting import MODE_NAMES, format_bytes, format_count, format_duration, format_number
from whinchat.storage.run_record import RunRecord

ROW_HEIGHT = 0.36  # inches
CHARACTER_WIDTH, MARGIN, NARROWEST_COLUMN = 0.082, 0.2, 0.62  # inches, for the columns beside the plot
POINTS = 72  # in an inch
OVERLAP_SHIFT = 0.17  # rows; moves two intervals apart that would cover each other

Estimate = tuple[float, Interval | None]
Pair = tuple[Estimate, Estimate]  # before and after training


def draw_per_label(before: Metrics, after: Metrics, title: str, theme: Theme) -> Figure:
    """Draw F1 of each label before and after training, with macro-F1 and its 95 % intervals on top."""
    rows = [
        (new.label, format_count(new.support), (_f1(old), _f1(new)))
        for old, new in zip(before.per_label, after.per_label, strict=True)
    ]
    beside = f", after training with {MODE_NAMES[after.mode]} (beside each label: number of its texts)"
    axis = "F1 (· number of texts)" if theme.is_narrow else f"F1{beside}"
    return draw_estimates(rows, axis, title, theme, ("macro-F1 (95 % interval)", (_macro_f1(before), _macro_f1(after))))


def draw_estimates(
    rows: Sequence[tuple[str, str, Pair]],
    axis: str,
    title: str,
    theme: Theme,
    summary: tuple[str, Pair] | None = None,
) -> Figure:
    """Draw values before and after training, with the 95 % interval of each value that has one.

    Args:
        rows: for each row a name, a note beside the name, which may be empty, and the values.
        axis: what the horizontal axis shows.
        title: the title of the figure.
        theme: the colours.
        summary: name and values of a row above the others, apart from them.
    """
    name = wrap_name if theme.is_narrow else shorten
    names = [f"{name(label)} · {note}" if note else name(label) for label, note, _ in rows]
    positions, pairs = list(map(float, range(len(rows)))), [pair for _, _, pair in rows]
    if summary is not None:
        names, positions, pairs = [name(summary[0]), *names], [-1.4, *positions], [summary[1], *pairs]
    figure = new_figure(min(7.4, theme.widest), 1.5 + ROW_HEIGHT * (len(rows) + (0 if summary is None else 1.6)))
    ax = figure.subplots()
    _draw_rows(ax, positions, pairs, {}, theme)
    _finish_axes(ax, positions, names, theme)
    if summary is not None:
        ax.axhline(-0.7, color=theme.line, linewidth=0.8)
        ax.get_yticklabels()[0].set_fontweight("bold")
    lowest = min((value for pair in pairs for value, _ in pair if not math.isnan(value)), default=0.0)
    if lowest < 0:  # a kappa worse than chance
        ax.set_xlim(left=lowest - 0.05)
    ax.set_xlabel(axis)
    set_title(figure, title)
    return figure


def draw_comparison(records: Mapping[str, RunRecord], theme: Theme) -> Figure:
    """Draw macro-F1 of each run before and after training, with 95 % intervals, beside training time and memory."""
    figure = new_figure(9.2, 1.5 + (ROW_HEIGHT + 0.12) * len(records))
    ax = figure.subplots()
    positions = list(map(float, range(len(records))))
    pairs = [(_macro_f1(record.before.score), _macro_f1(record.shipped)) for record in records.values()]
    columns = {
        "training": [format_duration(record.manifest.timings_seconds.get("train")) for record in records.values()],
        "peak memory": [format_bytes(record.manifest.peak_memory_bytes) for record in records.values()],
    }
    _draw_rows(ax, positions, pairs, columns, theme)
    groups = row_groups(records)
    several = len(set(groups.values())) > 1
    names = [shorten(name) + (f" [{groups[name]}]" if several else "") for name in records]
    _finish_axes(ax, positions, names, theme)
    ax.set_xlabel(
        "macro-F1 of what `whinchat predict` answers, and its 95 % interval"
        + ("\nRuns with different numbers in brackets were evaluated on different texts." if several else "")
    )
    set_title(figure, "Macro-F1 of each run before and after training")
    return figure


def _macro_f1(metrics: Metrics) -> Estimate:
    return metrics.macro_f1, metrics.intervals.get("macro_f1")


def _f1(label: LabelMetrics) -> Estimate:
    return math.nan if label.f1 is None else label.f1, None


def _draw_rows(
    ax: Axes, positions: list[float], pairs: list[Pair], columns: dict[str, list[str]], theme: Theme
) -> None:
    """Dots of each pair; beside the plot their values before and after training, then the further ``columns``."""
    for y, (before, after) in zip(positions, pairs, strict=True):
        _draw_pair(ax, y, before, after, theme)
    if theme.is_narrow:  # the table beside the figure has the values
        return
    values = {
        "before": [format_number(before) for (before, _), _ in pairs],
        "after": [format_number(after) for _, (after, _) in pairs],
    }
    _draw_columns(ax, positions, values | columns, theme)


def _draw_pair(ax: Axes, y: float, before: Estimate, after: Estimate, theme: Theme) -> None:
    """A hollow dot, a filled dot, a line between them, and the interval of each value that has one."""
    shift = OVERLAP_SHIFT if _overlap(before[1], after[1]) else 0.0
    ax.plot([before[0], after[0]], [y + shift, y - shift], color=theme.line, linewidth=4, zorder=1)
    for (value, interval), height, edge, face in (
        (before, y + shift, theme.before, theme.paper),
        (after, y - shift, theme.after, theme.after),
    ):
        if interval is not None:
            ends = [interval.low, interval.high]
            ax.plot(ends, [height, height], "-|", color=edge, linewidth=2, markersize=9, markeredgewidth=1.6, zorder=2)
        # Not clipped, so that dots at 0 and 1 are whole.
        ax.plot(
            value, height, "o", markersize=8, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=2, zorder=3,
            clip_on=False,
        )  # fmt: skip


def _overlap(first: Interval | None, second: Interval | None) -> bool:
    return first is not None and second is not None and first.low <= second.high and second.low <= first.high


def _draw_columns(ax: Axes, positions: list[float], columns: dict[str, list[str]], theme: Theme) -> None:
    """Columns of numbers with a heading, to the right of the plot."""
    right = 0.0
    for heading, cells in columns.items():
        right += POINTS * max(MARGIN + CHARACTER_WIDTH * max(map(len, [heading, *cells])), NARROWEST_COLUMN)
        color = {"before": theme.muted, "after": theme.after}.get(heading, theme.ink)
        for y, cell in zip(positions, cells, strict=True):
            ax.annotate(
                cell, (1, y), (right, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points", ha="right",
                va="center", color=color,
            )  # fmt: skip
        ax.annotate(
            heading, (1, 1), (right, 6), xycoords="axes fraction", textcoords="offset points", ha="right",
            color=theme.muted,
        )  # fmt: skip


def _finish_axes(ax: Axes, positions: list[float], names: list[str], theme: Theme) -> None:
    """Names, limits, grid and legend."""
    ax.set_yticks(positions, names)
    ax.set(xlim=(-0.01, 1.01), ylim=(max(positions) + 0.7, min(positions) - 0.7))
    ax.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    ax.tick_params(length=0, pad=7)
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    for name, edge, face in (
        ("before training", theme.before, theme.paper),
        ("after training", theme.after, theme.after),
    ):
        ax.plot([], [], "o", markersize=8, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=2, label=name)
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=1 if theme.is_narrow else 2,
        handletextpad=0.2,
        columnspacing=1.2,
        borderpad=0.1,
    )
