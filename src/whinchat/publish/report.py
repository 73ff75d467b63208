"""The report: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from whinchat.publish import tables
from whinchat.publish.figures import Plot, plots
from whinchat.publish.limits import limits
from whinchat.publish.records import RunRecord
from whinchat.publish.style import DARK, LIGHT
from whinchat.publish.template import fill
from whinchat.publish.wording import abstention_sentence, calibrated_sentence, count, paired_sentence
from whinchat.recipe.files import recipe_to_yaml


def render_report(record: RunRecord) -> str:
    """The report as HTML text."""
    return fill(
        "report.html.jinja",
        None,
        record=record,
        recipe=record.recipe,
        manifest=record.manifest,
        method=tables.method_name(record.recipe.adapter, record.manifest.load_in),
        labels=tables.label_list(record.recipe),
        rows=count(record.after.score.n),
        changes=tables.changes(record),
        paired=[paired_sentence(one) for one in record.paired],
        calibrated=None if record.trust is None else calibrated_sentence(record.trust),
        abstention=None if record.trust is None else abstention_sentence(record.trust),
        limits=limits(record),
        figures={plot.name: _inline(plot) for plot in plots(record)},
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


def _inline(plot: Plot) -> dict[str, Any]:
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
