"""Learning curve, and quality beside cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from whinchat.arena.arena_results import ArenaResults
from whinchat.arena.spec import SIMPLE
from whinchat.report.figures.run_figures import FigureSpec
from whinchat.report.figures.style import Theme, new_figure, shorten
from whinchat.report.formatting import format_bytes, format_count, format_duration, format_number

LineStyle = tuple[int, tuple[int, ...]] | str

# Told apart by lightness as well as hue, and by marker and line as well as colour.
GREYS = ("#8a94a3", "#5f6b7a", "#a08060")
OCHRES = ("#d99a3d", "#b5541c")
BRIGHT = ("#1b6ca8", "#3a9d6f", "#8e5bb5", "#c2406b", "#6d8f1f", "#2aa7b8", "#5a6fd6", "#7d4a2d", "#d1495b")
LINES: dict[str, LineStyle] = {"simple": (0, (5, 2)), "prompting": (0, (1, 1)), "trained": "solid"}
MARKERS = "osD^vP*Xhp<>d"
NEXT_TO_NOTHING = 1e-3  # of a second or a millisecond; a logarithmic axis has no place for zero
LABEL_GAP = 0.035  # of the axis's height, between two labels beside it


@dataclass(frozen=True)
class MethodStyle:
    """How a method is drawn in every figure."""

    color: str
    marker: str
    line: LineStyle


def arena_figures(results: ArenaResults) -> tuple[FigureSpec, ...]:
    """The figures that these results have."""
    if not results.summaries:
        return ()
    drawn = []
    if len({one.rows for one in results.summaries if one.rows is not None}) > 1:
        drawn.append(
            FigureSpec(
                "learning_curve",
                f"Macro-F1 against training rows. {_best(results)}",
                lambda theme: draw_learning_curve(results, theme),
            )
        )
    drawn.append(
        FigureSpec(
            "cost", f"Macro-F1 beside time and memory. {_best(results)}", lambda theme: draw_cost(results, theme)
        ),
    )
    return tuple(drawn)


def draw_learning_curve(results: ArenaResults, theme: Theme) -> Figure:
    """Mean macro-F1 of each method over the size of its training set; bands from the least to the greatest seed."""
    figure = new_figure(8.2, 5.0)
    ax = figure.subplots()
    looks = method_styles(results)
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
    ax.set_xticks(sizes, [format_count(rows) for rows in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="training rows", ylabel=f"macro-F1 on {format_count(results.evaluated_rows)} rows")
    ax.grid()
    _label_ends(ax, ends, looks)
    figure.suptitle(f"{shorten(results.name)}: what more training rows bring", x=0.0, ha="left")
    ax.set_title(_seeds(results), color=theme.muted, fontsize=9, fontweight="normal")
    return figure


def draw_cost(results: ArenaResults, theme: Theme) -> Figure:
    """Mean macro-F1 at the largest size, best method first, beside the time of training, of an answer, and memory.

    Thick bars reach from the least to the greatest seed, thin ones over the 95 % interval of resampled rows.
    """
    rows = max((one.rows for one in results.summaries if one.rows is not None), default=0)
    ones = sorted(results.at(rows), key=lambda one: one.mean_macro_f1)
    looks = method_styles(results)
    figure = new_figure(10.2, 1.7 + 0.28 * len(ones))
    quality, training, answering, room = figure.subplots(1, 4, sharey=True, width_ratios=(2, 1, 1, 1))
    for at, one in enumerate(ones):
        color = looks[one.method].color
        quality.plot([one.over_rows.low, one.over_rows.high], [at, at], color=color, linewidth=1, zorder=2)
        quality.plot([one.low, one.high], [at, at], color=color, linewidth=3.5, alpha=0.6, zorder=2)
        quality.plot(one.mean_macro_f1, at, "o", color=color, markersize=7, markeredgecolor=theme.paper, zorder=3)
    quality.set_yticks(range(len(ones)), [f"{shorten(one.method)}  {format_number(one.mean_macro_f1)}" for one in ones])
    quality.set(xlabel=f"macro-F1 on {format_count(results.evaluated_rows)} rows")
    quality.grid()
    colors = [looks[one.method].color for one in ones]
    fitting = [round(one.fit_seconds, 2) if one.trainable_parameters else 0 for one in ones]
    answers = [1000 / one.answers_per_second for one in ones]
    held = [one.peak_device_bytes or one.peak_memory_bytes for one in ones]
    for ax, label, values, words in (
        (training, "training", fitting, [format_duration(seconds) for seconds in fitting]),
        (answering, "an answer", answers, [f"{milliseconds:.2g} ms" for milliseconds in answers]),
        (room, "peak memory", held, [format_bytes(size) for size in held]),
    ):
        _draw_column(ax, values, words, colors, theme)
        ax.set(xlabel=label)
    figure.suptitle(f"{shorten(results.name)}: quality and cost, {format_count(rows)} training rows", x=0.0, ha="left")
    quality.set_title(
        f"{_seeds(results)}; thin: 95 % over resampled rows", color=theme.muted, fontsize=9, fontweight="normal"
    )
    return figure


def method_styles(results: ArenaResults) -> dict[str, MethodStyle]:
    """Colour, marker and line of every method, in the order of the arena."""
    looks: dict[str, MethodStyle] = {}
    kinds = {one.method: one.kind for one in results.summaries}
    used = {"simple": 0, "prompting": 0, "trained": 0}
    for at, (method, kind) in enumerate(kinds.items()):
        family = "simple" if kind in SIMPLE else "prompting" if kind == "prompting" else "trained"
        colors = {"simple": GREYS, "prompting": OCHRES, "trained": BRIGHT}[family]
        line = LINES[family]
        looks[method] = MethodStyle(colors[used[family] % len(colors)], MARKERS[at % len(MARKERS)], line)
        used[family] += 1
    return looks


def _draw_column(ax: Axes, values: Sequence[float], words: Sequence[str], colors: Sequence[str], theme: Theme) -> None:
    """One dot and its value a row, on a logarithmic axis; what is next to nothing has none."""
    for at, (value, word, color) in enumerate(zip(values, words, colors, strict=True)):
        if value > NEXT_TO_NOTHING:
            ax.plot(value, at, "o", color=color, markersize=7, markeredgecolor=theme.paper)
            ax.annotate(
                word, (value, at), (7, 0), textcoords="offset points",
                va="center", color=theme.muted, fontsize=8, bbox={"color": theme.paper, "pad": 1},
            )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(NullLocator())
    ax.xaxis.set_minor_locator(NullLocator())
    low, high = ax.get_xlim()
    ax.set_xlim(low, high * (high / low) ** 0.75)  # room for the value of the rightmost dot
    ax.grid(axis="y")


def _label_ends(ax: Axes, ends: Mapping[str, float], looks: Mapping[str, MethodStyle]) -> None:
    """Each line's name beside its end, pushed apart where two would cover each other."""
    low, high = ax.get_ylim()
    place = -1.0
    for method, value in sorted(ends.items(), key=lambda item: item[1]):
        place = max((value - low) / (high - low), place + LABEL_GAP)
        ax.annotate(
            f"{shorten(method)} {format_number(value)}", (1, place), (6, 0), xycoords="axes fraction",
            textcoords="offset points", va="center", color=looks[method].color, fontsize=9,
        )  # fmt: skip


def _seeds(results: ArenaResults) -> str:
    most = max(len(one.seeds) for one in results.summaries)
    return f"means of {most} seeds, from the least to the greatest" if most > 1 else "one seed: no spread"


def _best(results: ArenaResults) -> str:
    best = max(results.summaries, key=lambda one: one.mean_macro_f1)
    size = "any number of rows" if best.rows is None else f"{format_count(best.rows)} rows"
    score, duration = format_number(best.mean_macro_f1), format_duration(best.fit_seconds)
    return f"Best: {best.method} with {size}, {score} after {duration} of training."
