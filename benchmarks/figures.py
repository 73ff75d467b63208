"""The figures: bars of rates with the rounds' spread, and growth with fitted lines; whinchat's own style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from whinchat.report.figures.style import LIGHT, PNG_DPI, Theme, figure_theme, new_figure, write_message
from whinchat.report.formatting import format_number

BAR_HEIGHT = 0.34  # inches
GIB = 1024**3
_AXES = {
    "batch": "batch size",
    "length": "tokens of a text",
    "parameters": "parameters",
    "texts": "number of texts",
}


def write_figures(result: Mapping[str, Any], folder: Path, prefix: str = "") -> dict[str, Path]:
    """PNG files of whatever was measured, by name: training, scoring, growth."""
    folder.mkdir(parents=True, exist_ok=True)
    contestants = result["contestants"]
    written: dict[str, Path] = {}
    with figure_theme(LIGHT):
        for group, title in (
            ("training", "Training SmolLM2-135M, batches of 16"),
            ("scoring", "Scoring with SmolLM2-135M"),
        ):
            entries = [one for one in contestants.get(group, {}).values() if one["unit"] == "examples"]
            if entries:
                written[group] = _write(draw_bars(entries, title, LIGHT), folder / f"{prefix}{group}.png")
        if result.get("growth"):
            written["growth"] = _write(draw_growth(result["growth"], LIGHT), folder / f"{prefix}growth.png")
    return written


def draw_bars(entries: Sequence[Mapping[str, Any]], title: str, theme: Theme) -> Figure:
    """Median rate of each contestant, fastest on top, whiskers from the slowest to the fastest round."""
    order = sorted(entries, key=lambda one: -(one["per_second"] or {"median": 0})["median"])
    figure = new_figure(8.2, 1.3 + BAR_HEIGHT * len(order))
    ax = figure.subplots()
    longest = max((one["per_second"]["max"] for one in order if one["per_second"]), default=1.0)
    for y, one in enumerate(order):
        _bar(ax, y, one, longest, theme)
    ax.set_yticks(range(len(order)), [one["title"] for one in order])
    for label, one in zip(ax.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if one["ours"] else "normal")
    ax.set(ylim=(len(order) - 0.4, -0.6), xlim=(0, longest * 1.12), xlabel="examples a second; whiskers: all rounds")
    ax.tick_params(length=0)
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    figure.suptitle(title, x=0.0, ha="left")
    return figure


def _bar(ax: Axes, y: int, entry: Mapping[str, Any], longest: float, theme: Theme) -> None:
    rate = entry["per_second"]
    if rate is None:
        ax.text(longest * 0.01, y, "failed" if entry["error"] else "not run", va="center", color=theme.muted)
        return
    ax.barh(y, rate["median"], height=0.62, color=theme.after if entry["ours"] else theme.before)
    ax.plot([rate["min"], rate["max"]], [y, y], "-|", color=theme.ink, linewidth=1.1, markersize=7)
    end = max(rate["median"], rate["max"])
    # On paper of its own, so that no grid line runs through it.
    paper = {"facecolor": theme.paper, "edgecolor": "none", "pad": 1.5}
    ax.text(end + longest * 0.015, y, f"{rate['median']:.1f}", va="center", color=theme.ink, bbox=paper)


def draw_growth(growth: Mapping[str, Any], theme: Theme) -> Figure:
    """Time above, memory below, a column for each axis; dashed lines are the fits, their slopes in the legends."""
    axes = [axis for axis in _AXES if axis in growth]
    figure = new_figure(3.1 * len(axes) + 0.6, 6.2)
    panels = figure.subplots(2, len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        total = axis == "texts"
        times = "seconds, start-up left out" if total else "seconds a text"
        _panel(panels[0][column], growth[axis], "time", axis, times, theme)
        _panel(panels[1][column], growth[axis], "memory", axis, "peak memory, GiB", theme)
    figure.suptitle("How whinchat's cost grows (both axes logarithmic)", x=0.0, ha="left")
    return figure


def _panel(ax: Axes, jobs: Mapping[str, Any], what: str, axis: str, label: str, theme: Theme) -> None:
    colors = {"train": theme.after, "score": theme.accent}
    ticks: set[float] = set()
    for job, entry in jobs.items():
        points = [one for one in entry["points"] if one["error"] is None]
        if not points:
            continue
        xs = [one["x"] for one in points]
        ys = [_cost(one, what, axis) for one in points]
        ticks |= set(xs)
        slope = ""
        if (fit := entry[what]) is not None:
            scale = 1 / GIB if what == "memory" else 1.0
            ends = [min(xs), max(xs)]
            ax.plot(ends, [fit["factor"] * x ** fit["slope"] * scale for x in ends], "--", color=colors[job], lw=1.3)
            slope = f", slope {format_number(fit['slope'], 2)}"
        marker = "o" if job == "train" else "s"
        name = "training" if job == "train" else "scoring"
        ax.plot(xs, ys, marker, color=colors[job], markersize=5.5, label=f"{name}{slope}")
    if not ticks:
        write_message(ax, "not measured", theme)
        return
    _log_axes(ax, sorted(ticks))
    ax.set(xlabel=_AXES[axis], ylabel=label)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderpad=0.1, handletextpad=0.3, fontsize=8.5)


def _log_axes(ax: Axes, ticks: list[float]) -> None:
    """Ticks at what was measured; plain numbers, since the style reads no mathematics."""
    ax.set(xscale="log", yscale="log")
    low, high = ax.get_ylim()
    if high / low < 4:
        # A nearly flat curve should look flat.
        middle = (low * high) ** 0.5
        ax.set_ylim(middle / 2, middle * 2)
    ax.xaxis.set_minor_locator(NullLocator())
    # Model sizes lie close together; the same size of two jobs is one tick.
    apart = [one for at, one in enumerate(ticks) if at == 0 or one / ticks[at - 1] > 1.3]
    ax.set_xticks(apart, [_short(one) for one in apart])
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y")


def _cost(point: Mapping[str, Any], what: str, axis: str) -> float:
    if what == "memory":
        return float(point["peak_bytes"]) / GIB
    return float(point["seconds_a_text"]) * (point["x"] if axis == "texts" else 1)


def _short(value: float) -> str:
    for unit, letter in ((1e9, "B"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:g}" if value < 10_000 else f"{value / 1000:g}k"


def _write(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=PNG_DPI, bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    return path
