"""The figure of an arena in which quality stands against cost, with the methods that no other method beats in both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from whinchat.arena.arena_results import ArenaResults, MethodSummary, Standings
from whinchat.arena.method_style import MethodStyle
from whinchat.report.figures.style import Theme, new_figure, shorten
from whinchat.report.formatting import format_count, format_duration, format_number

# A logarithmic axis cannot show zero, and a method that is not trained has no training time.
_SMALLEST_SECONDS = 0.01


class _Point(NamedTuple):
    """A method with its cost in seconds and its main metric."""

    method: str
    cost: float
    score: float


def frontier(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Return the methods that no other method beats in cost and score at once, by rising cost.

    Of methods that are equal in both, the first counts.
    """
    found: list[int] = []
    for index in sorted(range(len(costs)), key=lambda one: (costs[one], -scores[one])):
        if not found or scores[index] > scores[found[-1]]:
            found.append(index)
    return found


def draw_frontier(
    results: ArenaResults, standings: Standings, styles: Mapping[str, MethodStyle], theme: Theme
) -> Figure:
    """Draw the main metric of each method at the largest size against its time for a text, and its training time.

    Args:
        results: the arena.
        standings: of a question, of the mean, or of the labels.
        styles: colour and marker of each method.
        theme: light or dark.
    """
    rows = max((summary.rows for summary in standings.summaries if summary.rows is not None), default=0)
    summaries = standings.at(rows)
    figure = new_figure(10.2, 4.6)
    answering, training = figure.subplots(1, 2, sharey=True)

    def text_seconds(summary: MethodSummary) -> float:
        return 1 / summary.answers_per_second

    def fit_seconds(summary: MethodSummary) -> float:
        return max(summary.fit_seconds, _SMALLEST_SECONDS)

    costs: tuple[tuple[Axes, str, Callable[[MethodSummary], float]], ...] = (
        (answering, "time per text" if standings.title else "time per answer", text_seconds),
        (training, "training time", fit_seconds),
    )
    for ax, label, cost_of in costs:
        points = [_Point(one.method, cost_of(one), one.mean_score) for one in summaries]
        _draw_points(ax, points, styles, theme)
        ax.set(xlabel=label)
    training.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, labelcolor=theme.ink)
    answering.set(ylabel=f"{standings.metric} on {format_count(standings.rows)} rows")
    subject = f"{standings.title}, quality against cost" if standings.title else "quality against cost"
    figure.suptitle(f"{shorten(results.name)}: {subject}, {format_count(rows)} training rows", x=0.0, ha="left")
    explained = "line: methods that no other method beats in both"
    answering.set_title(explained, color=theme.muted, fontsize=9, fontweight="normal")
    return figure


def _draw_points(ax: Axes, points: Sequence[_Point], styles: Mapping[str, MethodStyle], theme: Theme) -> None:
    """Draw a point for each method, and the frontier as a line."""
    best = [points[index] for index in frontier([one.cost for one in points], [one.score for one in points])]
    ax.plot(
        [one.cost for one in best], [one.score for one in best],
        color=theme.muted, linewidth=1.2, drawstyle="steps-post", zorder=1,
    )  # fmt: skip
    for one in sorted(points, key=lambda point: -point.score):
        style, name = styles[one.method], f"{shorten(one.method)}  {format_number(one.score)}"
        ax.plot(
            one.cost, one.score, style.marker, color=style.color, markersize=9, markeredgecolor=theme.paper, label=name
        )
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    ax.set_xticks(ticks, [_time(tick) for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid()


def _time(seconds: float) -> str:
    return f"{1000 * seconds:g} ms" if seconds < 1 else format_duration(seconds)
