"""Render the report: one HTML file that needs no other file, no network and no script."""

import base64
import re
from typing import Any

from whinchat.recipe.loader import recipe_to_yaml
from whinchat.report import formatting, tables
from whinchat.report.answer_modes import generation_mode
from whinchat.report.bad_result import bad_result_warnings
from whinchat.report.cascade_note import cascade_sentences
from whinchat.report.comparison_tables import methods_table, pair_table
from whinchat.report.figures.confusion import shows_shares
from whinchat.report.figures.run_figures import BINS_SENTENCE, FigureSpec, run_figures
from whinchat.report.figures.style import DARK, LIGHT
from whinchat.report.key_facts import key_facts_table
from whinchat.report.limitations import limitations
from whinchat.report.published_figures import presented, published_figures
from whinchat.report.quoted_texts import omission_sentence, with_quotable_texts
from whinchat.report.rendering import render_template
from whinchat.report.titles import hub_model, run_title
from whinchat.storage.run_record import RunRecord


def render_report(record: RunRecord, part_of: str | None = None) -> str:
    """Return the report of a run as HTML text.

    Args:
        record: the run.
        part_of: for one question of a run with several, address of the report of the run; otherwise None.
    """
    record = with_quotable_texts(presented(record))
    return render_template(
        "report.html.jinja",
        None,
        part_of=part_of,
        warnings=bad_result_warnings(record),
        record=record,
        title=run_title(record),
        formatting=formatting,
        tables=tables,
        key_facts=key_facts_table(record, hub_model(record.manifest)),
        published=published_figures(record),
        generation_mode=generation_mode(record),
        methods_table=methods_table,
        cascade_sentences=cascade_sentences,
        pair_table=pair_table,
        limitations=limitations(record),
        omission=omission_sentence(record.recipe),
        confusion_shows_shares=shows_shares(len(record.recipe.task.labels)),
        bins_sentence=BINS_SENTENCE,
        figures={figure.name: inline_figure(figure) for figure in run_figures(record)},
        recipe_yaml=recipe_to_yaml(record.recipe),
        light=LIGHT,
        dark=DARK,
    )


def inline_figure(figure: FigureSpec) -> dict[str, Any]:
    """Return a figure in both themes as data URIs with sizes, and once more for phones if it is readable there."""
    pictures = {"light": _picture(figure.svg(LIGHT)), "dark": _picture(figure.svg(DARK)), "alt": figure.alt}
    if figure.fits_narrow:
        pictures["narrow"] = _picture(figure.svg(LIGHT.narrow()))
        pictures["narrow_dark"] = _picture(figure.svg(DARK.narrow()))
    return pictures


def _picture(svg: str) -> dict[str, Any]:
    """The image as a data URI, with its size, so that the page does not jump while it loads."""
    width, height = _size(svg)
    uri = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return {"uri": uri, "width": width, "height": height}


def _size(svg: str) -> tuple[int, int]:
    """Width and height in CSS pixels, from the points that matplotlib writes."""
    match = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if match is None:
        raise ValueError("matplotlib wrote an SVG without a size in points")
    width, height = (round(float(points) * 96 / 72) for points in match.groups())
    return width, height
