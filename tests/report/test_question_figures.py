"""The figures of a run with several questions: one for each type, drawn from the record alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.question_records import questions_record
from whinchat.evaluation.results import Interval
from whinchat.report.figures.dots import draw_estimates
from whinchat.report.figures.precision_recall import draw_precision_recall
from whinchat.report.figures.question_figures import question_figure, question_figures, write_question_figures
from whinchat.report.figures.style import LIGHT
from whinchat.report.formatting import format_number


def test_every_figure_is_written_as_png_and_svg(tmp_path: Path) -> None:
    names = ["questions", "question_team", "question_angry", "question_urgency", "question_tags"]
    names += [f"{name}_reliability" for name in names[1:]] + ["training_curve"]
    written = write_question_figures(questions_record(), tmp_path)
    assert [path.name for path in written] == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    assert all(path.stat().st_size > 1000 for path in written)


def test_alternative_texts_tell_the_main_metric_of_each_question() -> None:
    record = questions_record()
    alternatives = {figure.name: figure.alt for figure in question_figures(record)}
    for result in record.questions:
        name = result.headline.name
        values = " to ".join(format_number(one.values[name]) for one in (result.before, result.shipped))
        for figure in (f"question_{result.name}", "questions"):
            assert f"{result.name}: {result.headline.title} {values}." in alternatives[figure]


@pytest.mark.parametrize("name", [figure.name for figure in question_figures(questions_record())])
def test_figures_for_phones_are_no_wider_than_the_screen(name: str) -> None:
    (figure,) = (figure for figure in question_figures(questions_record()) if figure.name == name)
    width = re.search(r'width="([\d.]+)pt"', figure.svg(LIGHT.narrow()))
    assert width is not None
    assert float(width[1]) * 96 / 72 <= 375 - 2 * 16


def test_the_curve_marks_the_answers_that_are_given() -> None:
    angry = questions_record().questions[1]
    (_, false), (missed, hits) = angry.shipped.confusion
    (axes,) = draw_precision_recall(angry, "A title", LIGHT).axes
    (marked,) = (line for line in axes.lines if line.get_label() == "answers given")
    assert marked.get_xydata().tolist() == [[hits / (hits + missed), hits / (hits + false)]]
    one_class = replace(angry, calibrated=replace(angry.shipped, curve=()))
    (axes,) = draw_precision_recall(one_class, "A title", LIGHT).axes
    assert [text.get_text() for text in axes.texts] == [
        "Precision and recall: not measured,\nthe texts have one answer only"
    ]


def test_an_undefined_metric_and_a_kappa_below_zero_are_drawn() -> None:
    tags = questions_record().questions[3]
    undefined = replace(tags.shipped, values={**tags.shipped.values, "macro_f1": None}, intervals={})
    figure = question_figure(replace(tags, calibrated=undefined))
    assert figure.alt.endswith("to not measured.")
    assert "<svg" in figure.svg()
    axes = draw_estimates(
        [("urgency", "QWK", ((-0.4, None), (0.5, Interval(0.4, 0.6))))], "metric", "A title", LIGHT
    ).axes[0]
    assert axes.get_xlim()[0] < -0.4
