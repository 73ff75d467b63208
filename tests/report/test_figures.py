"""Figures are written, show something, and hold for any number of labels."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.helpers.run_records import history, labels_of, run_record
from whinchat.errors import RunError
from whinchat.evaluation.results import CalibrationMetrics, ReliabilityBin
from whinchat.report.figures.curves import draw_reliability, draw_training_curve, merge_bins, series, smooth
from whinchat.report.figures.run_figures import kept_step, run_figures, write_comparison_figure, write_figures
from whinchat.report.figures.style import DARK, LIGHT, shorten
from whinchat.storage.training_result import TrainPoint

ALL = [
    "per_label", "confusion_calibrated", "confusion_score", "confusion_generate", "reliability", "coverage",
    "training_curve",
]  # fmt: skip
HEATMAPS = [
    "confusion_calibrated_after",
    *(f"confusion_{mode}_{when}" for mode in ("score", "generate") for when in ("before", "after")),
]


def is_blank(png: Path) -> bool:
    """Whether every pixel is much the same."""
    return float(np.std(imread(png)[..., :3])) < 0.01


def test_every_figure_is_written_as_png_and_svg_and_shows_something(tmp_path: Path) -> None:
    files = write_figures(run_record(), tmp_path / "figures")
    assert [path.name for path in files] == [f"{name}.{kind}" for name in (*ALL, *HEATMAPS) for kind in ("png", "svg")]
    for path in files:
        assert path.stat().st_size > 5_000
        assert path.suffix == ".svg" or not is_blank(path)


def test_without_generation_and_log_the_rest_is_still_drawn(tmp_path: Path) -> None:
    files = write_figures(run_record(generate=False, points=0), tmp_path)
    assert [path.stem for path in files[::2]] == [name for name in (*ALL, *HEATMAPS) if "generate" not in name]


@pytest.mark.parametrize("number", [2, 6, 25])
def test_confusion_and_labels_hold_for_any_number_of_labels(number: int, tmp_path: Path) -> None:
    wanted = {"per_label", "confusion_generate"}
    for plot in run_figures(run_record(labels_of(number))):
        if plot.name in wanted:
            png, _ = plot.write(tmp_path)
            assert not is_blank(png)


def test_labels_with_dollars_and_markup_are_drawn_as_text() -> None:
    record = run_record(("$x^2$ & <b>", r"\frac{", "plain\nlines"))
    assert all(plot.svg().startswith("<?xml") for plot in run_figures(record))


def test_one_point_is_enough_for_a_training_curve() -> None:
    record = replace(run_record(), history=history(1))
    assert "<svg" in run_figures(record)[-1].svg()


def test_the_same_record_gives_the_same_bytes_and_themes_differ() -> None:
    plot = run_figures(run_record())[0]
    assert plot.svg(LIGHT) == plot.svg(LIGHT)
    assert DARK.paper in plot.svg(DARK)
    assert DARK.paper not in plot.svg(LIGHT)


def test_alternative_text_tells_the_figures_of_the_record() -> None:
    record = run_record()
    texts = {plot.name: plot.alt for plot in run_figures(record)}
    assert f"{record.before.score.macro_f1:.3f} to {record.after.score.macro_f1:.3f}" in texts["confusion_score"]
    assert texts["training_curve"].startswith("Training loss over steps: from")
    without = {plot.name: plot.alt for plot in run_figures(replace(record, history=()))}
    assert without["training_curve"].startswith("Training loss over steps: not measured.")


@pytest.mark.parametrize(
    ("counts", "merged"),
    [
        ((0, 30, 40, 9, 12, 31), [30, 40, 52]),  # an empty bin and small ones join the next
        ((40, 0, 0, 29), [69]),  # a rest joins the bin before
        ((3, 4), [7]),
        ((0, 0), []),
    ],
)
def test_neighbouring_bins_with_few_texts_are_merged(counts: tuple[int, ...], merged: list[int]) -> None:
    width = 1 / len(counts)
    bins = [ReliabilityBin(i * width, (i + 1) * width, n, (i + 0.5) * width, i * width) for i, n in enumerate(counts)]
    found = merge_bins(bins)
    assert [part.n for part in found] == merged
    for name in ("confidence", "accuracy"):
        total = sum(part.n * getattr(part, name) for part in bins)
        assert sum(part.n * getattr(part, name) for part in found) == pytest.approx(total)


def test_the_reliability_curve_has_an_interval_at_each_point() -> None:
    bins = (ReliabilityBin(0, 0.5, 6, 0.4, 0.0), ReliabilityBin(0.5, 1, 94, 0.9, 85 / 94))
    calibration = CalibrationMetrics(ece=0.1, brier=0.2, log_loss=0.3, label_mass=0.4, bins=bins)
    axes = draw_reliability({"after training": calibration}, "A title", LIGHT).axes[0]
    _, curve = axes.lines
    assert (curve.get_xdata()[0], curve.get_ydata()[0]) == (pytest.approx(0.87), pytest.approx(0.85))
    # Newcombe (1998): the Wilson interval of 85 of 100.
    np.testing.assert_allclose(axes.collections[0].get_segments()[0][:, 1], [0.7672, 0.9069], atol=1e-4)


@pytest.mark.parametrize(("keep", "scores", "step"), [("last", (0.9, 0.8), 600), ("best", (0.8, 0.9, 0.9, 0.7), 20)])
def test_the_training_curve_marks_the_checkpoint_that_was_kept(keep: str, scores: tuple[float, ...], step: int) -> None:
    record = run_record()
    log = tuple(TrainPoint(10 * (i + 1), 0.1, loss=1.0, eval_macro_f1=score) for i, score in enumerate(scores))
    train = record.recipe.train.model_copy(update={"keep": keep})
    record = replace(record, history=log, recipe=record.recipe.model_copy(update={"train": train}))
    assert kept_step(record) == step
    assert run_figures(record)[-1].alt.endswith(f"The checkpoint of step {step} was kept.")
    figure = draw_training_curve(log, step, "A title", LIGHT)
    loss, macro_f1 = figure.axes
    assert [list(line.get_xdata()) for line in loss.lines[1:]] == [[step, step]]
    assert [text.get_text() for text in macro_f1.texts] == (["0.900"] if keep == "best" else [])


@pytest.mark.parametrize(("number", "fitting"), [(3, 7), (12, 4)])
def test_figures_for_phones_are_no_wider_than_the_screen(number: int, fitting: int) -> None:
    figures = [figure for figure in run_figures(run_record(labels_of(number))) if figure.fits_narrow]
    assert len(figures) == fitting  # matrices of many labels have no version for phones
    for figure in figures:
        width = re.search(r'width="([\d.]+)pt"', figure.svg(LIGHT.narrow()))
        assert width is not None
        assert float(width[1]) * 96 / 72 <= 375 - 2 * 16, figure.name


def test_series_leaves_out_what_was_not_measured_or_is_no_number() -> None:
    log = (TrainPoint(1, 0.1, loss=2.0), TrainPoint(2, 0.2), TrainPoint(3, 0.3, loss=float("nan")))
    steps, values = series(log, "loss")
    assert (steps.tolist(), values.tolist()) == ([1.0], [2.0])


def test_smoothing_keeps_ends_and_straight_lines() -> None:
    line = np.linspace(0, 1, 50)
    np.testing.assert_allclose(smooth(line), line)
    assert smooth(np.array([3.0])).tolist() == [3.0]


@pytest.mark.parametrize("number", [2, 12])
def test_comparison_is_drawn(number: int, tmp_path: Path) -> None:
    records = {f"run-{index}": run_record() for index in range(number)}
    records["run-1"] = replace(run_record(), after=replace(run_record().after, split_fingerprint="other"))
    png, svg = write_comparison_figure(records, tmp_path / "deep" / "comparison.png")
    assert png.name == "comparison.png"
    assert svg.exists()
    assert not is_blank(png)


def test_comparing_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="name at least one run folder"):
        write_comparison_figure({}, tmp_path / "x.png")


def test_long_names_are_cut_with_an_ellipsis() -> None:
    assert shorten("a" * 40) == "a" * 29 + "…"
    assert shorten("two\nlines") == "two lines"
