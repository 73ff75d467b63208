"""The report: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from whinchat.recipe.loader import recipe_to_yaml
from whinchat.recipe.schema import method_name
from whinchat.report import tables
from whinchat.report.figures.run_figures import FigureSpec, run_figures
from whinchat.report.figures.style import DARK, LIGHT
from whinchat.report.formatting import abstention_sentence, calibrated_sentence, format_count, paired_sentence
from whinchat.report.limits import limits
from whinchat.report.rendering import render_template
from whinchat.storage.run_record import RunRecord


def render_report(record: RunRecord) -> str:
    """The report as HTML text."""
    return render_template(
        "report.html.jinja",
        None,
        record=record,
        recipe=record.recipe,
        manifest=record.manifest,
        method=method_name(record.recipe.adapter, record.manifest.load_in),
        labels=tables.label_list(record.recipe),
        rows=format_count(record.after.score.n),
        changes=tables.headline_changes(record),
        paired=[paired_sentence(one) for one in record.paired],
        calibrated=None if record.reliability is None else calibrated_sentence(record.reliability),
        abstention=None if record.reliability is None else abstention_sentence(record.reliability),
        limits=limits(record),
        figures={plot.name: _inline(plot) for plot in run_figures(record)},
        tables=tables,
        recipe_yaml=recipe_to_yaml(record.recipe),
        light=LIGHT,
        dark=DARK,
    )


def write_report(record: RunRecord, path: Path) -> Path:
    """Write the report to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(record), encoding="utf-8")
    return path


def _inline(plot: FigureSpec) -> dict[str, Any]:
    """A figure in both themes as data URIs, with the size that keeps the page from jumping while it loads."""
    svgs = {"light": plot.svg(LIGHT), "dark": plot.svg(DARK)}
    width, height = _size(svgs["light"])
    uris = {name: f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}" for name, svg in svgs.items()}
    return {**uris, "alt": plot.alt, "width": width, "height": height}


def _size(svg: str) -> tuple[int, int]:
    """Width and height in CSS pixels, from the points that matplotlib writes."""
    found = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if found is None:
        raise ValueError("matplotlib wrote an SVG without a size in points")
    width, height = (round(float(points) * 96 / 72) for points in found.groups())
    return width, height
