"""Every figure of a run: what it shows, in words and as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from whinchat.errors import RunError
from whinchat.evaluation.records import Measured, Mode
from whinchat.evaluation.trust import Trust
from whinchat.publish.figure_confusion import draw_confusion
from whinchat.publish.figure_curves import draw_coverage, draw_reliability, draw_training_curve
from whinchat.publish.figure_dots import draw_comparison, draw_per_label
from whinchat.publish.records import RunRecord
from whinchat.publish.style import LIGHT, Theme, drawing, save, to_svg
from whinchat.publish.wording import MODES, NOT_MEASURED, number


@dataclass(frozen=True)
class Plot:
    """One figure: its file name without suffix, what a reader who cannot see it is told, and how to draw it."""

    name: str
    alt: str
    draw: Callable[[Theme], Figure]

    def svg(self, theme: Theme = LIGHT) -> str:
        """The figure as SVG text."""
        with drawing(theme):
            return to_svg(self.draw(theme))

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The figure as PNG and SVG in ``folder``."""
        with drawing(LIGHT):
            return save(self.draw(LIGHT), folder / self.name)


def plots(record: RunRecord) -> tuple[Plot, ...]:
    """The figures this record has, in the order of card and report."""
    before, after, split = record.before.score, record.after.score, record.after.split
    trust = record.trust
    reliabilities = {"before": before.calibration, "after": after.calibration}
    if trust is not None:
        reliabilities["after, calibrated"] = trust.decided.calibration
    errors = ", ".join(f"{number(None if one is None else one.ece)} {name}" for name, one in reliabilities.items())
    losses = [point.loss for point in record.history if point.loss is not None]
    loss = f"from {number(losses[0])} to {number(losses[-1])}" if losses else NOT_MEASURED
    return (
        Plot(
            "per_label",
            f"F1 of each label before and after. Macro-F1 {_change(before, after)}.",
            lambda theme: draw_per_label(before, after, split, theme),
        ),
        *(plot for mode in MODES if (plot := _confusion(record, mode)) is not None),
        Plot(
            "reliability",
            f"Accuracy against confidence. Expected calibration error: {errors}.",
            lambda theme: draw_reliability(reliabilities, split, theme),
        ),
        *([] if trust is None else [_coverage(trust, split)]),
        Plot(
            "training_curve",
            f"Training loss over steps: {loss}.",
            lambda theme: draw_training_curve(record.history, theme),
        ),
    )


def _coverage(trust: Trust, split: str) -> Plot:
    return Plot(
        "coverage",
        f"Accuracy against the share of texts answered, surest first; {number(trust.decided.accuracy)} for all.",
        lambda theme: draw_coverage(trust, split, theme),
    )


def _confusion(record: RunRecord, mode: Mode) -> Plot | None:
    """The confusion figure of one mode, or None where neither evaluation measured it."""
    before, after = getattr(record.before, mode), getattr(record.after, mode)
    panels = tuple((title, one) for title, one in (("Before", before), ("After", after)) if one is not None)
    if not panels:
        return None
    return Plot(
        f"confusion_{mode}",
        f"Confusion matrices of {MODES[mode]} before and after. Macro-F1 {_change(before, after)}.",
        lambda theme: draw_confusion(panels, record.after.split, theme),
    )


def _change(before: Measured | None, after: Measured | None) -> str:
    return " to ".join(number(None if one is None else one.macro_f1) for one in (before, after))


def write_figures(record: RunRecord, folder: Path) -> tuple[Path, ...]:
    """Write every figure of ``record`` into ``folder`` as PNG and SVG; returns the files in order."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(path for plot in plots(record) for path in plot.write(folder))


def compare_figure(records: Mapping[str, RunRecord], path: Path) -> tuple[Path, Path]:
    """Write the comparison of several runs, by name, as PNG and SVG; the suffix of ``path`` is replaced.

    Raises:
        RunError: there is no run to compare.
    """
    if not records:
        raise RunError("compare: no runs given; name at least one run folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with drawing(LIGHT):
        return save(draw_comparison(records, LIGHT), path.with_suffix(""))
