"""Curves: training loss, accuracy against coverage, and accuracy against confidence."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray
from scipy.stats import binomtest

from whinchat.evaluation.results import ReliabilityBin, ReliabilityReport
from whinchat.report.figures.style import Theme, new_figure, set_title, write_message
from whinchat.report.formatting import NOT_MEASURED, format_count, format_number
from whinchat.storage.training_result import TrainPoint

FEWEST_POINTS_TO_SMOOTH = 12
FEWEST_BIN_TEXTS = 30  # in a point of the reliability curve
# A loss that falls by more than this factor gets a logarithmic axis; a linear one would flatten the later steps.
STEEP = 5.0

Series = tuple[NDArray[np.float64], NDArray[np.float64]]


def draw_training_curve(history: tuple[TrainPoint, ...], kept_step: int, title: str, theme: Theme) -> Figure:
    """Draw the loss over the steps, and below it macro-F1 on validation and the learning rate, if the log has them.

    Args:
        history: the log.
        kept_step: the step of the checkpoint that became the adapter, which a line through all panels marks.
        title: the title of the figure.
        theme: the colours.
    """
    panels: list[tuple[float, Callable[[Axes], None]]] = [
        (3.0 if history else 1.2, lambda ax: _draw_loss(ax, history, theme))
    ]
    scores, rates = series(history, "eval_macro_f1"), series(history, "learning_rate")
    if len(scores[0]):
        panels.append((1.6, lambda ax: _draw_scores(ax, scores, kept_step, theme)))
    if len(rates[0]):
        panels.append((1.0, lambda ax: _draw_rates(ax, rates, theme)))
    heights = [height for height, _ in panels]
    figure = new_figure(min(7.2, theme.widest), 0.9 + sum(heights))
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for ax, (_, draw) in zip(axes, panels, strict=True):
        draw(ax)
    figure.align_ylabels(list(axes))
    steps = [point.step for point in history]
    if steps:
        axes[-1].set_xlim(0, 1.03 * max(1, kept_step, *steps))
        for ax in axes:
            ax.axvline(kept_step, color=theme.accent, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        kept = "kept" if theme.is_narrow else "checkpoint that was kept, step"
        axes[-1].set_xlabel(f"optimizer step (dashed: {kept} {format_count(kept_step)})")
        ticks = 5 if theme.is_narrow else 10
        axes[-1].xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10]))
    set_title(figure, title)
    return figure


def series(history: tuple[TrainPoint, ...], field: str) -> Series:
    """Return the steps and values of one field of the log, without missing values and those that are not finite."""
    values = [(point.step, getattr(point, field)) for point in history]
    finite = [(step, value) for step, value in values if value is not None and np.isfinite(value)]
    return np.array([step for step, _ in finite], dtype=float), np.array([value for _, value in finite], dtype=float)


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over a window around each value; the window narrows towards both ends, to avoid a lag."""
    half = max(1, len(values) // 24)
    total = np.concatenate([[0.0], np.cumsum(values)])
    indices = np.arange(len(values))
    reach = np.minimum(half, np.minimum(indices, len(values) - 1 - indices))
    return np.asarray((total[indices + reach + 1] - total[indices - reach]) / (2 * reach + 1))


def _draw_loss(ax: Axes, history: tuple[TrainPoint, ...], theme: Theme) -> None:
    steps, losses = series(history, "loss")
    if not len(steps):
        write_message(ax, f"training loss: {NOT_MEASURED}", theme)
        return
    if len(steps) >= FEWEST_POINTS_TO_SMOOTH:
        ax.plot(steps, losses, color=theme.before, linewidth=0.8, alpha=0.75, label="logged")
        ax.plot(steps, smooth(losses), color=theme.after, linewidth=2.2, label="smoothed")
    else:
        ax.plot(steps, losses, color=theme.after, linewidth=1.8, marker="o", markersize=5, label="logged")
    # The validation loss is not drawn here: it is a mean over texts, the training loss a mean over supervised tokens.
    ax.set_ylabel("training loss")
    if losses.min() > 0 and losses.max() > STEEP * losses.min():
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
    else:
        ax.set_ylim(bottom=min(0.0, float(losses.min())))
    ax.grid(axis="y")
    # Above the axes, where it never covers the curve.
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=3, borderpad=0.1)


def _draw_scores(ax: Axes, scores: Series, kept_step: int, theme: Theme) -> None:
    """The evaluations, hollow but for that of the kept checkpoint, beside which its macro-F1 is written."""
    steps, values = scores
    style: dict[str, Any] = {"color": theme.accent, "marker": "D", "markersize": 6}
    ax.plot(steps, values, linewidth=1.2, markerfacecolor=theme.paper, **style)
    is_kept = steps == kept_step
    ax.plot(steps[is_kept], values[is_kept], linestyle="", **style)
    for step, value in zip(steps[is_kept], values[is_kept], strict=True):
        right = step > steps.mean()
        ax.annotate(
            format_number(float(value)), (step, value), xytext=(-6 if right else 6, 7), textcoords="offset points",
            ha="right" if right else "left", fontsize=9, color=theme.accent, fontweight="bold",
        )  # fmt: skip
    ax.set_ylabel("validation\nmacro-F1")
    ax.margins(y=0.35)
    ax.grid(axis="y")
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _draw_rates(ax: Axes, rates: Series, theme: Theme) -> None:
    ax.fill_between(*rates, color=theme.before, alpha=0.25, linewidth=0)
    ax.plot(*rates, color=theme.before, linewidth=1.4, marker="o" if len(rates[0]) == 1 else "")
    ax.set_ylabel("learning\nrate")
    ax.set_ylim(0, float(rates[1].max()) * 1.12 or 1.0)
    ax.set_yticks([0, float(rates[1].max())], ["0", f"{rates[1].max():.2g}"])


def draw_coverage(reliability: ReliabilityReport, title: str, theme: Theme) -> Figure:
    """Draw the accuracy of the most confident predictions against their share of all texts."""
    figure = new_figure(min(5.6, theme.widest), 4.2 if not theme.is_narrow else 3.6)
    ax = figure.subplots()
    points = reliability.coverage
    coverage, accuracy = [point.coverage for point in points], [point.accuracy for point in points]
    ax.plot(coverage, accuracy, color=theme.after, linewidth=2.0, marker="o" if len(points) == 1 else "")
    overall = reliability.calibrated.accuracy
    ax.axhline(overall, color=theme.muted, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    ax.text(0.02, overall, "accuracy on all texts", color=theme.muted, fontsize=8.5, ha="left", va="bottom")
    if (abstention := reliability.abstention) is not None and abstention.accuracy is not None:
        ax.plot(abstention.coverage, abstention.accuracy, color=theme.accent, marker="D", markersize=8, linestyle="")
        ax.annotate(
            f"threshold for an accuracy of {format_number(abstention.wanted, 2)}",
            (abstention.coverage, abstention.accuracy), xytext=(0, 10), textcoords="offset points", ha="center",
            fontsize=9, color=theme.accent, bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    order = "" if theme.is_narrow else ", most confident first"
    ax.set(xlim=(0, 1.02), xlabel=f"share of texts answered{order}", ylabel="accuracy on these texts")
    ax.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))
    ax.margins(y=0.15)
    ax.grid()
    set_title(figure, title)
    return figure


class ReliabilityCurve(Protocol):
    """A curve of the reliability diagram, such as ``CalibrationMetrics``: its bins and the error in the legend."""

    @property
    def ece(self) -> float:
        """Expected calibration error."""

    @property
    def bins(self) -> tuple[ReliabilityBin, ...]:
        """The bins."""


def draw_reliability(curves: Mapping[str, ReliabilityCurve | None], title: str, theme: Theme) -> Figure:
    """Draw accuracy against confidence with 95 % intervals, and below it the share of texts in each bin.

    Args:
        curves: curves by name, at most three; the last curve has filled markers, the others hollow ones.
        title: the title of the figure.
        theme: the colours.
    """
    figure = new_figure(min(5.6, theme.widest), 6.0 if not theme.is_narrow else 5.4)
    curve_ax, histogram_ax = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    _draw_diagonal(curve_ax, theme)
    colors = [theme.before, theme.after] if len(curves) <= 2 else [theme.before, theme.accent, theme.after]
    colors = colors[-len(curves) :]
    width = 0.88 / len(curves)
    for index, ((name, calibration), color) in enumerate(zip(curves.items(), colors, strict=True)):
        if calibration is None:
            curve_ax.plot([], [], color=color, label=f"{name}: {NOT_MEASURED}")
            continue
        face = color if index == len(curves) - 1 else theme.paper
        quantity = "error" if theme.is_narrow else "calibration error"
        label = f"{name}: {quantity} {format_number(calibration.ece)}"
        _draw_reliability_curve(curve_ax, merge_bins(calibration.bins), color, face, label)
        _draw_histogram(histogram_ax, calibration.bins, 0.06 + width * index, width - 0.04, color, face)
    curve_ax.set(xlim=(0, 1), ylim=(-0.03, 1.03), ylabel="accuracy")
    curve_ax.grid()
    # Above the axes, where it never covers a curve.
    curve_ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderpad=0.1, handlelength=1.2)
    confidence = "confidence" if theme.is_narrow else "confidence (probability of the predicted label)"
    histogram_ax.set(xlabel=confidence, ylabel="share of texts")
    histogram_ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    histogram_ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))
    figure.align_ylabels([curve_ax, histogram_ax])
    set_title(figure, title)
    return figure


def merge_bins(bins: Sequence[ReliabilityBin]) -> list[ReliabilityBin]:
    """Return the bins with neighbours merged, from the lowest up, until each holds FEWEST_BIN_TEXTS texts.

    A rest at the top joins the last merged bin; fewer texts than that altogether make one bin, and none make none.
    """
    groups: list[list[ReliabilityBin]] = [[]]
    for part in bins:
        if sum(member.n for member in groups[-1]) >= FEWEST_BIN_TEXTS:
            groups.append([])
        groups[-1].append(part)
    if len(groups) > 1 and sum(member.n for member in groups[-1]) < FEWEST_BIN_TEXTS:
        rest = groups.pop()
        groups[-1] += rest
    return [_merged(group) for group in groups if any(part.n for part in group)]


def _merged(group: Sequence[ReliabilityBin]) -> ReliabilityBin:
    texts = [part.n for part in group]
    confidence, accuracy = (
        float(np.average([getattr(part, name) for part in group], weights=texts)) for name in ("confidence", "accuracy")
    )
    return ReliabilityBin(group[0].low, group[-1].high, sum(texts), confidence, accuracy)


def _draw_diagonal(ax: Axes, theme: Theme) -> None:
    ax.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (4, 4)))
    ax.text(
        0.2, 0.22, "perfect calibration", color=theme.muted, fontsize=8.5, ha="center", rotation=45,
        rotation_mode="anchor", transform_rotates_text=True,
    )  # fmt: skip


def _draw_reliability_curve(ax: Axes, bins: Sequence[ReliabilityBin], color: str, face: str, label: str) -> None:
    """A line through the bins, and the Wilson interval of each accuracy behind it."""
    confidence, accuracy = [part.confidence for part in bins], [part.accuracy for part in bins]
    intervals = [binomtest(round(part.accuracy * part.n), part.n).proportion_ci(method="wilson") for part in bins]
    lows, highs = [interval.low for interval in intervals], [interval.high for interval in intervals]
    ax.vlines(confidence, lows, highs, color=color, linewidth=1.2, alpha=0.55)
    ax.plot(
        confidence, accuracy, linewidth=1.8, color=color, marker="o", markersize=6, markeredgewidth=1.6,
        markerfacecolor=face, label=label,
    )  # fmt: skip


def _draw_histogram(
    ax: Axes, bins: Sequence[ReliabilityBin], offset: float, width: float, color: str, face: str
) -> None:
    """Bars of the share of texts in each bin; ``offset`` and ``width`` are shares of a bin's width."""
    texts = max(1, sum(part.n for part in bins))
    filled = [part for part in bins if part.n]
    lefts = [part.low + (part.high - part.low) * offset for part in filled]
    widths = [(part.high - part.low) * width for part in filled]
    heights = [part.n / texts for part in filled]
    ax.bar(lefts, heights, widths, align="edge", facecolor=face, edgecolor=color, linewidth=1.1)
