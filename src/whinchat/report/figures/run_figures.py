"""The figures of a run: file names, alternative texts and how to draw them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from whinchat.errors import RunError
from whinchat.evaluation.results import Metrics, Mode, ReliabilityReport
from whinchat.report.answer_modes import generation_mode, metrics_of_mode, mode_title
from whinchat.report.figures.confusion import ConfusionPanel, draw_confusion, fits_narrow
from whinchat.report.figures.curves import FEWEST_BIN_TEXTS, draw_coverage, draw_reliability, draw_training_curve
from whinchat.report.figures.dots import draw_comparison, draw_per_label
from whinchat.report.figures.style import LIGHT, Theme, figure_theme, save_figure, to_svg
from whinchat.report.formatting import MODE_NAMES, NOT_MEASURED, format_count, format_number
from whinchat.report.titles import accuracy_title, coverage_title, macro_f1_title, reliability_title, training_title
from whinchat.storage.run_record import RunRecord, TrainedRecord

BINS_SENTENCE = (
    f"Each point of the reliability diagram stands for at least {FEWEST_BIN_TEXTS} texts: neighbouring bins with fewer "
    "are merged. Vertical lines are 95 % intervals of the accuracy (Wilson)."
)


@dataclass(frozen=True)
class FigureSpec:
    """One figure.

    Attributes:
        name: file name without suffix.
        alt: alternative text for readers who cannot see the figure.
        draw: draws the figure in a theme.
        fits_narrow: whether the figure is readable in the width of a phone.
    """

    name: str
    alt: str
    draw: Callable[[Theme], Figure]
    fits_narrow: bool = True

    def svg(self, theme: Theme = LIGHT) -> str:
        """Return the figure as SVG text."""
        with figure_theme(theme):
            return to_svg(self.draw(theme))

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the figure into ``folder`` as PNG and SVG, and return both paths."""
        with figure_theme(LIGHT):
            return save_figure(self.draw(LIGHT), folder / self.name)


def run_figures(record: RunRecord) -> tuple[FigureSpec, ...]:
    """Return the figures of a run, in the order of card and report."""
    figures = [_per_label_figure(record)]
    figures += [_confusion_figure(record, mode) for mode in _confusion_modes(record)]
    figures.append(_reliability_figure(record))
    if record.reliability is not None:
        figures.append(_coverage_figure(record.reliability))
    return (*figures, _training_figure(record))


def _per_label_figure(record: RunRecord) -> FigureSpec:
    before, after, title = record.before.score, record.shipped, macro_f1_title(record)
    name = MODE_NAMES[after.mode]
    return FigureSpec(
        "per_label",
        f"F1 of each label before training and of {name} after training. Macro-F1: {_change(before, after)}.",
        lambda theme: draw_per_label(before, after, title, theme),
    )


def heatmaps(record: RunRecord) -> tuple[FigureSpec, ...]:
    """Return each confusion matrix as a figure of its own, for readers who place them themselves."""
    return tuple(
        _heatmap(record, mode, when, metrics)
        for mode in _confusion_modes(record)
        for when, metrics in zip(("before", "after"), metrics_of_mode(record, mode), strict=True)
        if metrics is not None and (mode, when) != ("calibrated", "before")
    )


def _confusion_modes(record: RunRecord) -> list[Mode]:
    """What ``whinchat predict`` answers, label scoring, and the reading of generated answers that stands first."""
    modes = dict.fromkeys((record.shipped.mode, "score", generation_mode(record)))
    return [mode for mode in modes if any(metrics_of_mode(record, mode))]


def _file_name(mode: Mode) -> str:
    """The figure's file name, which does not depend on the reading of generated answers."""
    return f"confusion_{'generate' if mode.startswith('generate') else mode}"


def _confusion_figure(record: RunRecord, mode: Mode) -> FigureSpec:
    before, after = metrics_of_mode(record, mode)
    evaluations = (("Before training", before), ("After training", after))
    panels = tuple(ConfusionPanel.of(heading, metrics) for heading, metrics in evaluations if metrics is not None)
    title = accuracy_title(record, MODE_NAMES[mode], before, after)
    return FigureSpec(
        _file_name(mode),
        f"Confusion matrices before and after training, with {mode_title(record.after, mode)}. "
        f"Macro-F1: {_change(before, after)}.",
        lambda theme: draw_confusion(panels, title, theme),
        fits_narrow(len(panels[0].labels)),
    )


def _heatmap(record: RunRecord, mode: Mode, when: str, metrics: Metrics) -> FigureSpec:
    sides = (metrics, None) if when == "before" else (None, metrics)
    title = accuracy_title(record, MODE_NAMES[mode], *sides)
    panels = (ConfusionPanel.of(f"{when.capitalize()} training", metrics),)
    return FigureSpec(
        f"{_file_name(mode)}_{when}",
        f"Confusion matrix {when} training, with {mode_title(record.after, mode)}. "
        f"Macro-F1: {format_number(metrics.macro_f1)}.",
        lambda theme: draw_confusion(panels, title, theme),
        fits_narrow(len(panels[0].labels)),
    )


def _reliability_figure(record: RunRecord) -> FigureSpec:
    curves = {"before training": record.before.score.calibration, "after training": record.after.score.calibration}
    if record.reliability is not None:
        curves["after training, calibrated"] = record.reliability.calibrated.calibration
    errors = ", ".join(
        f"{format_number(None if metrics is None else metrics.ece)} {name}" for name, metrics in curves.items()
    )
    title = reliability_title(record, [metrics.ece for metrics in curves.values() if metrics is not None])
    return FigureSpec(
        "reliability",
        f"Reliability diagram: accuracy against confidence. Expected calibration error: {errors}.",
        lambda theme: draw_reliability(curves, title, theme),
    )


def _coverage_figure(reliability: ReliabilityReport) -> FigureSpec:
    title = coverage_title(reliability)
    return FigureSpec(
        "coverage",
        "Accuracy against the share of texts answered, most confident first. Accuracy on all texts: "
        f"{format_number(reliability.calibrated.accuracy)}.",
        lambda theme: draw_coverage(reliability, title, theme),
    )


def _training_figure(record: RunRecord) -> FigureSpec:
    title, step = training_title(record), kept_step(record)
    return FigureSpec(
        "training_curve",
        f"Training loss over steps: {loss_range(record)}. The checkpoint of step {format_count(step)} was kept.",
        lambda theme: draw_training_curve(record.history, step, title, theme),
    )


def loss_range(record: TrainedRecord) -> str:
    """Return the first and the last logged training loss, such as "from 1.234 to 0.456"."""
    losses = [point.loss for point in record.history if point.loss is not None]
    return f"from {format_number(losses[0])} to {format_number(losses[-1])}" if losses else NOT_MEASURED


def kept_step(record: TrainedRecord) -> int:
    """Return the step of the checkpoint that was kept: the last one, or the first with the best macro-F1 on validation.

    The trainer keeps an earlier checkpoint until a later one is better.
    """
    scores = [(point.eval_macro_f1, -point.step) for point in record.history if point.eval_macro_f1 is not None]
    if record.recipe.train.keep == "last" or not scores:
        return record.manifest.train_steps
    return -max(scores)[1]


def _change(before: Metrics | None, after: Metrics | None) -> str:
    """Macro-F1 before and after training, such as "0.214 to 0.790"."""
    return " to ".join(format_number(None if metrics is None else metrics.macro_f1) for metrics in (before, after))


def write_figures(record: RunRecord, folder: Path) -> tuple[Path, ...]:
    """Write every figure of a run into ``folder`` as PNG and SVG, and return the paths in order."""
    return tuple(path for figure in (*run_figures(record), *heatmaps(record)) for path in figure.write(folder))


def write_comparison_figure(records: Mapping[str, RunRecord], path: Path) -> tuple[Path, Path]:
    """Write the comparison of several runs as PNG and SVG, and return both paths.

    Args:
        records: the runs by name.
        path: where the files go; their suffixes replace that of ``path``.

    Raises:
        RunError: there is no run to compare.
    """
    if not records:
        raise RunError("compare: no runs given; name at least one run folder")
    with figure_theme(LIGHT):
        return save_figure(draw_comparison(records, LIGHT), path.with_suffix(""))
