"""Every figure of a run: what it shows, in words and as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from whinchat.errors import RunError
from whinchat.evaluation.results import Metrics, Mode, ReliabilityReport
from whinchat.report.figures.confusion import draw_confusion
from whinchat.report.figures.curves import draw_coverage, draw_reliability, draw_training_curve
from whinchat.report.figures.dots import draw_comparison, draw_per_label
from whinchat.report.figures.style import LIGHT, Theme, figure_theme, save_figure, to_svg
from whinchat.report.formatting import MODES, NOT_MEASURED, format_number
from whinchat.storage.run_record import RunRecord


@dataclass(frozen=True)
class FigureSpec:
    """One figure: its file name without suffix, what a reader who cannot see it is told, and how to draw it."""

    name: str
    alt: str
    draw: Callable[[Theme], Figure]

    def svg(self, theme: Theme = LIGHT) -> str:
        """The figure as SVG text."""
        with figure_theme(theme):
            return to_svg(self.draw(theme))

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The figure as PNG and SVG in ``folder``."""
        with figure_theme(LIGHT):
            return save_figure(self.draw(LIGHT), folder / self.name)


def run_figures(record: RunRecord) -> tuple[FigureSpec, ...]:
    """The figures this record has, in the order of card and report."""
    before, after, split = record.before.score, record.after.score, record.after.split
    trust = record.reliability
    reliabilities = {"before": before.calibration, "after": after.calibration}
    if trust is not None:
        reliabilities["after, calibrated"] = trust.calibrated.calibration
    errors = ", ".join(
        f"{format_number(None if one is None else one.ece)} {name}" for name, one in reliabilities.items()
    )
    losses = [point.loss for point in record.history if point.loss is not None]
    loss = f"from {format_number(losses[0])} to {format_number(losses[-1])}" if losses else NOT_MEASURED
    return (
        FigureSpec(
            "per_label",
            f"F1 of each label before and after. Macro-F1 {_change(before, after)}.",
            lambda theme: draw_per_label(before, after, split, theme),
        ),
        *(plot for mode in MODES if (plot := _confusion(record, mode)) is not None),
        FigureSpec(
            "reliability",
            f"Accuracy against confidence. Expected calibration error: {errors}.",
            lambda theme: draw_reliability(reliabilities, split, theme),
        ),
        *([] if trust is None else [_coverage(trust, split)]),
        FigureSpec(
            "training_curve",
            f"Training loss over steps: {loss}.",
            lambda theme: draw_training_curve(record.history, theme),
        ),
    )


def _coverage(trust: ReliabilityReport, split: str) -> FigureSpec:
    return FigureSpec(
        "coverage",
        f"Accuracy against the share of texts answered, surest first; "
        f"{format_number(trust.calibrated.accuracy)} for all.",
        lambda theme: draw_coverage(trust, split, theme),
    )


def _confusion(record: RunRecord, mode: Mode) -> FigureSpec | None:
    """The confusion figure of one mode, or None where neither evaluation measured it."""
    before, after = getattr(record.before, mode), getattr(record.after, mode)
    panels = tuple((title, one) for title, one in (("Before", before), ("After", after)) if one is not None)
    if not panels:
        return None
    return FigureSpec(
        f"confusion_{mode}",
        f"Confusion matrices of {MODES[mode]} before and after. Macro-F1 {_change(before, after)}.",
        lambda theme: draw_confusion(panels, record.after.split, theme),
    )


def _change(before: Metrics | None, after: Metrics | None) -> str:
    return " to ".join(format_number(None if one is None else one.macro_f1) for one in (before, after))


def write_figures(record: RunRecord, folder: Path) -> tuple[Path, ...]:
    """Write every figure of ``record`` into ``folder`` as PNG and SVG; returns the files in order."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(path for plot in run_figures(record) for path in plot.write(folder))


def compare_figure(records: Mapping[str, RunRecord], path: Path) -> tuple[Path, Path]:
    """Write the comparison of several runs, by name, as PNG and SVG; the suffix of ``path`` is replaced.

    Raises:
        RunError: there is no run to compare.
    """
    if not records:
        raise RunError("compare: no runs given; name at least one run folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with figure_theme(LIGHT):
        return save_figure(draw_comparison(records, LIGHT), path.with_suffix(""))
