"""Learning curve, and quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from whinchat.arena.results import Results, Summary
from whinchat.arena.spec import SIMPLE
from whinchat.publish.figures import Plot
from whinchat.publish.style import Theme, new_figure, shorten
from whinchat.publish.wording import count, duration, memory, number

Line = tuple[int, tuple[int, ...]] | str

# Told apart by lightness as well as hue, and by marker and line as well as colour.
GREYS = ("#8a94a3", "#5f6b7a", "#a08060")
OCHRES = ("#d99a3d", "#b5541c")
BRIGHT = ("#1b6ca8", "#3a9d6f", "#8e5bb5", "#c2406b", "#6d8f1f", "#2aa7b8", "#5a6fd6", "#7d4a2d", "#d1495b")
LINES: dict[str, Line] = {"simple": (0, (5, 2)), "prompting": (0, (1, 1)), "trained": "solid"}
MARKERS = "osD^vP*Xhp<>d"
LABEL_GAP = 0.035  # of the axis's height, between two labels beside it
# Seconds below which nothing was trained, or as good as nothing; a logarithmic axis has no place for zero.
NO_TRAINING = 0.05


@dataclass(frozen=True)
class Look:
    """How a method is drawn in every figure."""

    color: str
    marker: str
    line: Line


def plots(results: Results) -> tuple[Plot, ...]:
    """The figures that these results have."""
    if not results.summaries:
        return ()
    drawn = []
    if len({one.rows for one in results.summaries if one.rows is not None}) > 1:
        drawn.append(
            Plot(
                "learning_curve",
                f"Macro-F1 against training rows. {_best(results)}",
                lambda theme: draw_learning_curve(results, theme),
            )
        )
    drawn.append(
        Plot("cost", f"Macro-F1 against time. {_best(results)}", lambda theme: draw_cost(results, theme)),
    )
    return tuple(drawn)


def draw_learning_curve(results: Results, theme: Theme) -> Figure:
    """Mean macro-F1 of each method over the size of its training set; bands from the least to the greatest seed."""
    figure = new_figure(8.2, 5.0)
    ax = figure.subplots()
    looks = looks_of(results)
    sizes = [rows for rows in results.sizes if any(one.rows == rows for one in results.summaries)]
    ends: dict[str, float] = {}
    for method, look in looks.items():
        ones = sorted((one for one in results.summaries if one.method == method), key=lambda one: one.rows or 0)
        flat = ones[0].rows is None
        x = [sizes[0], sizes[-1]] if flat else [one.rows or 0 for one in ones]
        ones = ones * 2 if flat else ones
        means = [one.mean_macro_f1 for one in ones]
        ax.plot(
            x, means, color=look.color, linestyle=look.line, linewidth=1.9, marker="" if flat else look.marker,
            markersize=6, markeredgecolor=theme.paper,
        )  # fmt: skip
        if any(len(one.seeds) > 1 for one in ones):
            ax.fill_between(
                x, [one.low for one in ones], [one.high for one in ones], color=look.color, alpha=0.14, linewidth=0
            )
        ends[method] = means[-1]
    ax.set_xscale("log")
    ax.set_xticks(sizes, [count(rows) for rows in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="training rows", ylabel=f"macro-F1 on {count(results.evaluated_rows)} rows")
    ax.grid()
    _label_ends(ax, ends, looks)
    figure.suptitle(f"{shorten(results.name)}: what more training rows bring", x=0.0, ha="left")
    ax.set_title(_seeds(results), color=theme.muted, fontsize=9, fontweight="normal")
    return figure


def draw_cost(results: Results, theme: Theme) -> Figure:
    """Mean macro-F1 at the largest size against the time of training and of an answer.

    Thick bars reach from the least to the greatest seed, thin ones over the 95 % interval of resampled rows.
    """
    rows = max((one.rows for one in results.summaries if one.rows is not None), default=0)
    ones = results.at(rows)
    looks = looks_of(results)
    figure = new_figure(10.2, 4.8)
    training, answering = figure.subplots(1, 2, sharey=True)
    _draw_costs(training, ones, {one.method: _training(one) for one in ones}, looks, theme)
    training.set(xlabel="seconds of training", ylabel=f"macro-F1 on {count(results.evaluated_rows)} rows")
    if any(_training(one) == NO_TRAINING for one in ones):
        training.axvspan(NO_TRAINING / 2.2, NO_TRAINING * 2.2, color=theme.line, alpha=0.5, linewidth=0)
        training.annotate(
            "none", (NO_TRAINING, 0), (0, 5), xycoords=training.get_xaxis_transform(), textcoords="offset points",
            ha="center", color=theme.muted, fontsize=9,
        )  # fmt: skip
    _draw_costs(answering, ones, {one.method: 1000 / one.answers_per_second for one in ones}, looks, theme)
    answering.set(xlabel="milliseconds an answer")
    handles = [
        training.plot([], [], look.marker, color=look.color, markersize=7, label=_legend(one))[0]
        for one in sorted(ones, key=lambda one: -one.mean_macro_f1)
        for look in (looks[one.method],)
    ]
    figure.legend(handles=handles, loc="outside right upper", title="peak memory", alignment="left")
    figure.suptitle(f"{shorten(results.name)}: quality against cost, {count(rows)} training rows", x=0.0, ha="left")
    training.set_title(
        f"{_seeds(results)}; thin: 95 % over resampled rows", color=theme.muted, fontsize=9, fontweight="normal"
    )
    return figure


def looks_of(results: Results) -> dict[str, Look]:
    """Colour, marker and line of every method, in the order of the arena."""
    looks: dict[str, Look] = {}
    kinds = {one.method: one.kind for one in results.summaries}
    used = {"simple": 0, "prompting": 0, "trained": 0}
    for at, (method, kind) in enumerate(kinds.items()):
        family = "simple" if kind in SIMPLE else "prompting" if kind == "prompting" else "trained"
        colors = {"simple": GREYS, "prompting": OCHRES, "trained": BRIGHT}[family]
        line = LINES[family]
        looks[method] = Look(colors[used[family] % len(colors)], MARKERS[at % len(MARKERS)], line)
        used[family] += 1
    return looks


def _draw_costs(
    ax: Axes, ones: Sequence[Summary], costs: Mapping[str, float], looks: Mapping[str, Look], theme: Theme
) -> None:
    for one in ones:
        look, x = looks[one.method], costs[one.method]
        ax.plot([x, x], [one.over_rows.low, one.over_rows.high], color=look.color, linewidth=1, zorder=2)
        ax.plot([x, x], [one.low, one.high], color=look.color, linewidth=3.5, alpha=0.6, zorder=2)
        ax.plot(
            x, one.mean_macro_f1, look.marker, color=look.color, markersize=8.5, markeredgecolor=theme.paper, zorder=3
        )
    ax.set_xscale("log")
    ax.margins(x=0.1)
    ax.xaxis.set_major_locator(LogLocator(numticks=8))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid()


def _training(one: Summary) -> float:
    return max(one.fit_seconds, NO_TRAINING) if one.trainable_parameters else NO_TRAINING


def _legend(one: Summary) -> str:
    return f"{shorten(one.method)}: {memory(one.peak_device_bytes or one.peak_memory_bytes)}"


def _label_ends(ax: Axes, ends: Mapping[str, float], looks: Mapping[str, Look]) -> None:
    """Each line's name beside its end, pushed apart where two would cover each other."""
    low, high = ax.get_ylim()
    place = -1.0
    for method, value in sorted(ends.items(), key=lambda item: item[1]):
        place = max((value - low) / (high - low), place + LABEL_GAP)
        ax.annotate(
            f"{shorten(method)} {number(value)}", (1, place), (6, 0), xycoords="axes fraction",
            textcoords="offset points", va="center", color=looks[method].color, fontsize=9,
        )  # fmt: skip


def _seeds(results: Results) -> str:
    most = max(len(one.seeds) for one in results.summaries)
    return f"means of {most} seeds, from the least to the greatest" if most > 1 else "one seed: no spread"


def _best(results: Results) -> str:
    best = max(results.summaries, key=lambda one: one.mean_macro_f1)
    size = "any number of rows" if best.rows is None else f"{count(best.rows)} rows"
    return (
        f"Best: {best.method} with {size}, {number(best.mean_macro_f1)} after {duration(best.fit_seconds)} of training."
    )
