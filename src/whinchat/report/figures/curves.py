"""Curves: training over its steps, and confidence against accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from whinchat.evaluation.results import CalibrationMetrics, ReliabilityReport
from whinchat.report.figures.style import Theme, new_figure, write_message
from whinchat.report.formatting import NOT_MEASURED, format_number
from whinchat.storage.training_result import TrainPoint

FEWEST_POINTS_TO_SMOOTH = 12
# Losses further apart than this factor get a logarithmic axis: the first steps would flatten all that follows.
STEEP = 5.0

Series = tuple[NDArray[np.float64], NDArray[np.float64]]


def draw_training_curve(history: tuple[TrainPoint, ...], theme: Theme) -> Figure:
    """Loss over steps; beneath it macro-F1 on the validation split and the learning rate, where the log has them."""
    panels: list[tuple[float, Callable[[Axes], None]]] = [
        (3.0 if history else 1.2, lambda ax: _draw_loss(ax, history, theme))
    ]
    scores, rates = series(history, "eval_macro_f1"), series(history, "learning_rate")
    if len(scores[0]):
        panels.append((1.6, lambda ax: _draw_scores(ax, scores, theme)))
    if len(rates[0]):
        panels.append((1.0, lambda ax: _draw_rates(ax, rates, theme)))
    heights = [height for height, _ in panels]
    figure = new_figure(7.2, 0.9 + sum(heights))
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for ax, (_, draw) in zip(axes, panels, strict=True):
        draw(ax)
    figure.align_ylabels(list(axes))
    steps = [point.step for point in history]
    if steps:
        axes[-1].set_xlim(0, 1.03 * max(1, *steps))
        axes[-1].set_xlabel("step")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.suptitle("Training", x=0.0, ha="left")
    return figure


def series(history: tuple[TrainPoint, ...], field: str) -> Series:
    """Steps and values of one field, in the order of the log; steps that did not measure it, or found no number, are
    left out."""
    found = [(point.step, getattr(point, field)) for point in history]
    kept = [(step, value) for step, value in found if value is not None and np.isfinite(value)]
    return np.array([step for step, _ in kept], dtype=float), np.array([value for _, value in kept], dtype=float)


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a window about each point; the window narrows evenly towards the ends, so the curve does not lag."""
    half = max(1, len(values) // 24)
    total = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))
    return np.asarray((total[places + reach + 1] - total[places - reach]) / (2 * reach + 1))


def _draw_loss(ax: Axes, history: tuple[TrainPoint, ...], theme: Theme) -> None:
    steps, losses = series(history, "loss")
    if not len(steps):
        write_message(ax, f"loss: {NOT_MEASURED}", theme)
        return
    if len(steps) >= FEWEST_POINTS_TO_SMOOTH:
        ax.plot(steps, losses, color=theme.before, linewidth=0.8, alpha=0.75, label="as logged")
        ax.plot(steps, smooth(losses), color=theme.after, linewidth=2.2, label="smoothed")
    else:
        ax.plot(steps, losses, color=theme.after, linewidth=1.8, marker="o", markersize=5, label="training")
    # The validation loss is not drawn here: it is per text, the training loss per supervised token.
    ax.set_ylabel("loss")
    if losses.min() > 0 and losses.max() > STEEP * losses.min():
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
    else:
        ax.set_ylim(bottom=min(0.0, float(losses.min())))
    ax.grid(axis="y")
    # Above the axes: wherever the curve goes, it is never covered.
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=3, borderpad=0.1)


def _draw_scores(ax: Axes, scores: Series, theme: Theme) -> None:
    ax.plot(*scores, color=theme.accent, linewidth=1.2, marker="D", markersize=6, markeredgecolor=theme.paper)
    best = int(np.argmax(scores[1]))
    ax.annotate(
        format_number(float(scores[1][best])),
        (scores[0][best], scores[1][best]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=theme.accent,
        fontweight="bold",
    )
    ax.set_ylabel("macro-F1")
    ax.margins(y=0.35)
    ax.grid(axis="y")
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _draw_rates(ax: Axes, rates: Series, theme: Theme) -> None:
    ax.fill_between(*rates, color=theme.before, alpha=0.25, linewidth=0)
    ax.plot(*rates, color=theme.before, linewidth=1.4, marker="o" if len(rates[0]) == 1 else "")
    ax.set_ylabel("learning\nrate")
    ax.set_ylim(0, float(rates[1].max()) * 1.12 or 1.0)
    ax.set_yticks([0, float(rates[1].max())], ["0", f"{rates[1].max():.2g}"])


def draw_coverage(trust: ReliabilityReport, split: str, theme: Theme) -> Figure:
    """Accuracy of the surest answers against their share of all texts."""
    figure = new_figure(5.6, 4.2)
    ax = figure.subplots()
    points = trust.coverage
    ax.plot([one.coverage for one in points], [one.accuracy for one in points], color=theme.after, linewidth=2.0)
    ax.axhline(trust.calibrated.accuracy, color=theme.muted, linewidth=1, linestyle=(0, (4, 4)))
    if (chosen := trust.abstention) is not None and chosen.accuracy is not None:
        ax.plot(chosen.coverage, chosen.accuracy, color=theme.accent, marker="D", markersize=8, linestyle="")
        ax.annotate(
            f"threshold for {format_number(chosen.wanted, 2)}",
            (chosen.coverage, chosen.accuracy),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=theme.accent,
        )
    ax.set(xlim=(0, 1.02), xlabel="share of texts answered, surest first", ylabel="accuracy of these answers")
    ax.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))
    ax.margins(y=0.15)
    ax.grid()
    figure.suptitle(f"What abstaining would gain on {split}", x=0.0, ha="left")
    return figure


def draw_reliability(reliabilities: Mapping[str, CalibrationMetrics | None], split: str, theme: Theme) -> Figure:
    """Accuracy against confidence in each bin, and how many rows each bin holds; the last series is drawn solid."""
    figure = new_figure(5.6, 6.0)
    curve, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    curve.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (4, 4)))
    curve.text(
        0.8,
        0.82,
        "as sure as right",
        color=theme.muted,
        fontsize=8.5,
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="center",
    )
    colors = (theme.before, theme.accent, theme.after) if len(reliabilities) > 2 else (theme.before, theme.after)
    width = 0.88 / len(reliabilities)
    for offset, ((name, calibration), color) in enumerate(zip(reliabilities.items(), colors, strict=True)):
        solid = offset == len(reliabilities) - 1
        if calibration is None:
            curve.plot([], [], color=color, label=f"{name}: {NOT_MEASURED}")
            continue
        bins = [one for one in calibration.bins if one.n]
        curve.plot(
            [one.confidence for one in bins],
            [one.accuracy for one in bins],
            color=color,
            linewidth=1.8,
            marker="o",
            markersize=6,
            markerfacecolor=color if solid else theme.paper,
            markeredgewidth=1.6,
            label=f"{name}: ECE {format_number(calibration.ece)}",
        )
        rows = max(1, sum(one.n for one in bins))
        lefts = [one.low + (one.high - one.low) * (0.08 + width * offset) for one in bins]
        widths = [(one.high - one.low) * (width - 0.04) for one in bins]
        histogram.bar(
            lefts,
            [one.n / rows for one in bins],
            widths,
            align="edge",
            facecolor=color if solid else theme.paper,
            edgecolor=color,
            linewidth=1.1,
        )
    curve.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy in the bin")
    curve.grid()
    curve.legend(loc="upper left")
    histogram.set(xlabel="confidence of the answer", ylabel="share of rows")
    histogram.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    histogram.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))
    figure.align_ylabels([curve, histogram])
    figure.suptitle(f"Reliability of label scoring on {split}", x=0.0, ha="left")
    return figure
