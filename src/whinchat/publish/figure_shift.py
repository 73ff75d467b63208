"""What re-estimated label shares gain: one panel a figure, one line a scenario."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whinchat.evaluation.shift import ShiftStudy
from whinchat.publish.style import LIGHT, Theme, drawing, new_figure, save, shorten
from whinchat.publish.wording import METRICS
from whinchat.recipe.recipe import Metric

_FIGURES: tuple[Metric, ...] = ("accuracy", "macro_f1", "macro_recall")
_ROW_HEIGHT = 0.34  # inches
# Rows; two dots on one place would cover each other.
_SHIFT = 0.14


def draw_shift(study: ShiftStudy, theme: Theme) -> Figure:
    """Accuracy, macro-F1 and macro-recall without and with re-estimation, under each set of label shares."""
    figure = new_figure(9.6, 1.7 + _ROW_HEIGHT * len(study.scenarios))
    axes = figure.subplots(1, len(_FIGURES), sharey=True)
    for ax, field in zip(axes, _FIGURES, strict=True):
        _draw_panel(ax, study, field, theme)
    names = [f"{shorten(one.name, 40)} · trusted {100 * one.trusted:.0f} %" for one in study.scenarios]
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    # Of the figure and not of a panel, whose width it would take.
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, handletextpad=0.2)
    figure.suptitle(
        f"Re-estimated label shares on {shorten(study.split)}, decisions for {METRICS[study.metric]}", x=0.0, ha="left"
    )
    return figure


def write_shift(study: ShiftStudy, stem: Path) -> tuple[Path, Path]:
    """Write the figure as PNG and SVG; the suffix of ``stem`` is replaced."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with drawing(LIGHT):
        return save(draw_shift(study, LIGHT), stem)


def _draw_panel(ax: Axes, study: ShiftStudy, field: Metric, theme: Theme) -> None:
    plain = [getattr(one.plain, field) for one in study.scenarios]
    again = [getattr(one.reestimated, field) for one in study.scenarios]
    above, below = [y - _SHIFT for y in range(len(plain))], [y + _SHIFT for y in range(len(plain))]
    for start, end, top, bottom in zip(plain, again, above, below, strict=True):
        ax.plot([start, end], [top, bottom], color=theme.line, linewidth=3, zorder=1)
    for name, values, places, edge, face in (
        ("shares of validation", plain, above, theme.before, theme.paper),
        ("re-estimated", again, below, theme.after, theme.after),
    ):
        ax.plot(
            values, places, "o", label=name, markersize=7, markerfacecolor=face, markeredgecolor=edge,
            markeredgewidth=1.8, zorder=3,
        )  # fmt: skip
    ax.set_title(METRICS[field])
    ax.tick_params(length=0, pad=7)
    ax.grid(axis="x")
    ax.margins(x=0.08)
    ax.spines["left"].set_visible(False)
