"""Confusion matrices side by side, on one colour scale.

K: labels. Rows are true labels, columns predicted labels; a last column counts invalid answers, which are no label.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whinchat.evaluation.results import Metrics
from whinchat.report.figures.style import Theme, new_figure, set_title, shorten, wrap_name
from whinchat.report.formatting import format_count, format_number

INVALID_GAP = 0.3  # cells between the labels and the invalid column
SMALLEST_CELL_WITH_COUNT = 0.6  # inches
SMALLEST_CELL_WITH_SHARE = 0.4
MOST_LABELS_NARROW = 4
CHARACTER_WIDTH = 0.085  # inches at the size of a tick label

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class ConfusionPanel:
    """One confusion matrix of a figure.

    Attributes:
        heading: whose answers the matrix counts.
        measure: a metric and its value, beside or below the heading.
        labels: K names.
        confusion: ``confusion[t][p]`` counts rows of true label t answered with label p.
        invalid: rows of each true label whose answer was no label.
    """

    heading: str
    measure: str
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    invalid: tuple[int, ...]

    @classmethod
    def of(cls, heading: str, metrics: Metrics) -> Self:
        """Return the panel of a way of answering, with its macro-F1."""
        measure = f"macro-F1 {format_number(metrics.macro_f1)}"
        return cls(heading, measure, metrics.labels, metrics.confusion, metrics.invalid)


def draw_confusion(panels: tuple[ConfusionPanel, ...], title: str, theme: Theme) -> Figure:
    """Draw one confusion matrix for each panel.

    Args:
        panels: matrices of the same labels and the same mode.
        title: the title of the figure.
        theme: the colours.
    """
    first = panels[0]
    labels = len(first.labels)
    cell = cell_size(labels)
    name = wrap_name if theme.is_narrow else shorten
    has_invalid = any(sum(panel.invalid) for panel in panels)
    columns = labels + (1 + INVALID_GAP if has_invalid else 0)
    figure_gap = 0.45 if has_invalid else 0.3
    names = CHARACTER_WIDTH * max(len(line) for label in first.labels for line in name(label).splitlines())
    height = labels * cell + (names if _turned(first, cell, name) else 0.3)
    if theme.is_narrow:  # one matrix below the other, each with all names
        cell = min(cell, (theme.widest - names - 0.6) / columns)
        figure = new_figure(theme.widest, len(panels) * (height + 0.8) + 0.8, layout="compressed")
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    else:
        figure = new_figure(len(panels) * columns * cell + names + 2.0, height + 1.5, layout="compressed")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
    # mypy sees the base class of layout engines; the compressed one takes w_pad.
    figure.get_layout_engine().set(w_pad=figure_gap / 2)  # type: ignore[union-attr, call-arg]
    for index, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw_matrix(ax, panel, cell, has_invalid, name, theme)
        separator = "\n" if theme.is_narrow else ": "
        ax.set_title(f"{panel.heading}{separator}{panel.measure}")
        ax.set_xlabel("predicted label")
        if index == 0 or theme.is_narrow:
            ax.set_ylabel("true label · number of texts")
        else:
            ax.set_yticklabels([])
    place: dict[str, Any] = {"location": "bottom", "shrink": 0.8} if theme.is_narrow else {"shrink": 0.7}
    bar = figure.colorbar(axes[-1].collections[0], ax=list(axes), aspect=26, pad=0.02, **place)
    bar.outline.set_visible(False)
    bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    bar.set_label("share of texts in the row", color=theme.muted)
    set_title(figure, title)
    return figure


def cell_size(labels: int) -> float:
    """Return the side of a cell in inches: readable for few labels, printable for many."""
    return float(np.clip(3.6 / labels**0.82, 0.24, 1.25))


def fits_narrow(labels: int) -> bool:
    """Whether a matrix of so many labels is readable on a phone."""
    return labels <= MOST_LABELS_NARROW


def shows_shares(labels: int) -> bool:
    """Whether the cells of a matrix of so many labels are large enough for numbers."""
    return cell_size(labels) >= SMALLEST_CELL_WITH_SHARE


def _turned(panel: ConfusionPanel, cell: float, name: Callable[[str], str]) -> bool:
    """Whether the label names are too wide to be written horizontally below their cells."""
    widest = max(len(line) for label in panel.labels for line in name(label).splitlines())
    return widest * CHARACTER_WIDTH > cell * 0.95


def _draw_matrix(
    ax: Axes, panel: ConfusionPanel, cell: float, has_invalid: bool, name: Callable[[str], str], theme: Theme
) -> None:
    labels = len(panel.labels)
    support = np.array(panel.confusion).sum(axis=1) + np.array(panel.invalid)  # (K,)
    counts = np.column_stack([np.array(panel.confusion), np.array(panel.invalid)])  # (K, K + 1)
    with np.errstate(invalid="ignore"):
        shares: Shares = counts / support[:, None]  # NaN where the split has no text with this label
    starts = np.append(np.arange(labels), labels + INVALID_GAP)
    for block in (slice(0, labels), slice(labels, labels + 1))[: 1 + has_invalid]:
        edges = np.append(starts[block], starts[block][-1] + 1)
        ax.pcolormesh(
            edges,
            np.arange(labels + 1),
            np.ma.masked_invalid(shares[:, block]),
            cmap=theme.colormap,
            vmin=0,
            vmax=1,
            edgecolors=theme.paper,
            linewidth=1.5 if labels <= 12 else 0.5,
        )
    shown = labels + int(has_invalid)
    if cell >= SMALLEST_CELL_WITH_SHARE:
        _write_cells(ax, counts[:, :shown], shares[:, :shown], starts, cell, theme)
    names = [name(label) for label in panel.labels]
    ax.set_xticks(starts[:shown] + 0.5, [*names, "invalid"][:shown])
    counted = [f"{label} · {format_count(int(n))}" for label, n in zip(names, support, strict=True)]
    ax.set_yticks(np.arange(labels) + 0.5, counted)
    if _turned(panel, cell, name):
        steep = labels > 12
        ax.tick_params(axis="x", labelrotation=90 if steep else 40)
        for tick in ax.get_xticklabels():
            tick.set(ha="center" if steep else "right", rotation_mode="default" if steep else "anchor")
    ax.set(xlim=(0, starts[shown - 1] + 1), ylim=(labels, 0), aspect="equal")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _write_cells(
    ax: Axes, counts: NDArray[np.int64], shares: Shares, starts: Shares, cell: float, theme: Theme
) -> None:
    """Write the share into each cell, and the count below it if there is room."""
    room_for_count = cell >= SMALLEST_CELL_WITH_COUNT
    size = float(np.clip(cell * 11.5, 6.5, 12))
    for (row, column), share in np.ndenumerate(shares):
        x, y = float(starts[column]) + 0.5, row + 0.5
        if np.isnan(share) or share == 0:
            ax.text(x, y, "–" if np.isnan(share) else "0", ha="center", va="center", color=theme.muted, fontsize=size)
            continue
        color = _readable_on(theme.colormap(float(share)))
        if room_for_count:
            ax.text(x, y - 0.1, f"{100 * share:.0f} %", ha="center", va="center", color=color, fontsize=size)
            count = format_count(int(counts[row, column]))
            ax.text(x, y + 0.22, count, ha="center", va="center", color=color, fontsize=size * 0.78)
        else:
            ax.text(x, y, f"{100 * share:.0f}", ha="center", va="center", color=color, fontsize=size)


def _readable_on(background: tuple[float, float, float, float]) -> str:
    """Return dark or light ink, whichever has the higher contrast (relative luminance, WCAG 2.2)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    # Ink #101820 has a luminance of 0.009 and white of 1; their contrasts are equal at about 0.2.
    return "#101820" if luminance > 0.2 else "#ffffff"
