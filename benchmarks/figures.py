"""The figures, in whinchat's own style: bars of rates with the range of all rounds, and growth with fitted lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.growth import AXES, JOBS
from whinchat.report.figures.style import LIGHT, PNG_DPI, figure_theme, new_figure, write_message
from whinchat.report.formatting import format_number

BAR_HEIGHT = 0.34  # inches
GIB = 1024**3
TITLES = {"training": "Training SmolLM2-135M", "scoring": "Scoring with SmolLM2-135M"}


def write_figures(result: Mapping[str, Any], folder: Path, prefix: str = "") -> dict[str, Path]:
    """Write PNG files of everything that was measured, and return them by name: training, scoring, growth."""
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Figure] = {}
    with figure_theme(LIGHT):
        for group, title in TITLES.items():
            contestants = result["contestants"].get(group, {}).values()
            if entries := [entry for entry in contestants if entry["unit"] == "examples"]:
                figures[group] = draw_bars(entries, title)
        if result.get("growth"):
            figures["growth"] = draw_growth(result["growth"])
        return {name: save_png(figure, folder / f"{prefix}{name}.png") for name, figure in figures.items()}


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure without the version of the library that drew it."""
    figure.savefig(path, dpi=PNG_DPI, bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    return path


def draw_bars(entries: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw the median rate of each contestant, fastest first, with whiskers from the slowest to the fastest round."""
    order = sorted(entries, key=lambda entry: -(entry["per_second"] or {"median": 0})["median"])
    figure = new_figure(8.2, 1.3 + BAR_HEIGHT * len(order))
    ax = figure.subplots()
    longest = max((entry["per_second"]["max"] for entry in order if entry["per_second"]), default=1.0)
    # Numbers stand on paper of their own, so that no grid line runs through them.
    paper = {"facecolor": LIGHT.paper, "edgecolor": "none", "pad": 1.5}
    for y, entry in enumerate(order):
        rate = entry["per_second"]
        if rate is None:
            ax.text(longest * 0.01, y, "failed" if entry["error"] else "not run", va="center", color=LIGHT.muted)
            continue
        ax.barh(y, rate["median"], height=0.62, color=LIGHT.after if entry["ours"] else LIGHT.before)
        ax.plot([rate["min"], rate["max"]], [y, y], "-|", color=LIGHT.ink, linewidth=1.1, markersize=7)
        ax.text(rate["max"] + longest * 0.015, y, f"{rate['median']:.1f}", va="center", color=LIGHT.ink, bbox=paper)
    ax.set_yticks(range(len(order)), [entry["title"] for entry in order])
    for label, entry in zip(ax.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if entry["ours"] else "normal")
    ax.set(ylim=(len(order) - 0.4, -0.6), xlim=(0, longest * 1.12))
    ax.set(xlabel="examples a second; whiskers: slowest to fastest round")
    ax.tick_params(length=0)
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    figure.suptitle(title, x=0.0, ha="left")
    return figure


def draw_growth(growth: Mapping[str, Any]) -> Figure:
    """Draw time above memory, a column for each axis; dashed lines are fits, whose slopes stand in the legends."""
    axes = [axis for axis in AXES if axis in growth]
    figure = new_figure(3.1 * len(axes) + 0.6, 6.2)
    panels = figure.subplots(2, len(axes), squeeze=False)
    for column, axis in enumerate(axes):
        times = "seconds, without start-up" if axis == "texts" else "seconds per text"
        _panel(panels[0][column], growth[axis], "time", axis, times)
        _panel(panels[1][column], growth[axis], "memory", axis, "peak memory, GiB")
    figure.suptitle("How whinchat's cost grows (both axes logarithmic)", x=0.0, ha="left")
    return figure


def _panel(ax: Axes, jobs: Mapping[str, Any], cost: str, axis: str, label: str) -> None:
    ticks: set[float] = set()
    for job, color, marker in (("train", LIGHT.after, "o"), ("score", LIGHT.accent, "s")):
        points = [point for point in jobs.get(job, {"points": []})["points"] if point["error"] is None]
        if not points:
            continue
        xs = [point["x"] for point in points]
        ticks |= set(xs)
        if cost == "memory":
            ys, scale = [point["peak_bytes"] / GIB for point in points], 1 / GIB
        else:
            ys, scale = [point["seconds_a_text"] * (point["x"] if axis == "texts" else 1) for point in points], 1.0
        slope = ""
        if (fit := jobs[job][cost]) is not None:
            ends = [min(xs), max(xs)]
            ax.plot(ends, [fit["factor"] * x ** fit["slope"] * scale for x in ends], "--", color=color, lw=1.3)
            slope = f", slope {format_number(fit['slope'], 2)}"
        ax.plot(xs, ys, marker, color=color, markersize=5.5, label=f"{JOBS[job]}{slope}")
    if not ticks:
        write_message(ax, "not measured", LIGHT)
        return
    _log_axes(ax, sorted(ticks))
    ax.set(xlabel=AXES[axis], ylabel=label)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderpad=0.1, handletextpad=0.3, fontsize=8.5)


def _log_axes(ax: Axes, ticks: list[float]) -> None:
    """Put ticks where something was measured, as plain numbers, since the style's font has no mathematics."""
    ax.set(xscale="log", yscale="log")
    low, high = ax.get_ylim()
    if high / low < 4:
        # A nearly flat curve should look flat.
        middle = (low * high) ** 0.5
        ax.set_ylim(middle / 2, middle * 2)
    # Sizes that lie close together share a tick.
    apart = [tick for index, tick in enumerate(ticks) if index == 0 or tick / ticks[index - 1] > 1.3]
    ax.set_xticks(apart, [_short(tick) for tick in apart])
    ax.xaxis.set_minor_locator(NullLocator())
    plain_log_ticks(ax, (1.0, 2.0, 5.0))
    ax.grid(axis="y")


def plain_log_ticks(ax: Axes, steps: tuple[float, ...]) -> None:
    """Label a logarithmic y axis with plain numbers at ``steps`` of each power of ten."""
    ax.yaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def _short(value: float) -> str:
    for unit, letter in ((1e9, "B"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:g}" if value < 10_000 else f"{value / 1000:g}k"
