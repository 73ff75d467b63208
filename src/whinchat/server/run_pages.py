"""What a run's folder holds to be looked at: its card, its report, its figures."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from markdown_it import MarkdownIt

from whinchat.errors import RunError
from whinchat.recipe.schema import method_name
from whinchat.report.figures.run_figures import run_figures
from whinchat.server.api_schema import FigureLink, ModelInfo
from whinchat.server.served_models import ServedModel
from whinchat.storage.run_folder import RunFolder

_CARD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/page.css">
</head>
<body class="card">
<main>
<p><a href="/">Back to {title}</a></p>
{body}
</main>
</body>
</html>
"""


class RunPages:
    """Files of run folders by the classifier's name; None where there is none."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._folders = {name: RunFolder(path) for name, path in paths.items()}

    def has_card(self, name: str) -> bool:
        """Whether there is a model card."""
        folder = self._folders.get(name)
        return folder is not None and folder.card.is_file()

    def card(self, name: str) -> str | None:
        """The model card as a page."""
        if not self.has_card(name):
            return None
        # The card's front matter is for the hub.
        _, _, body = self._folders[name].card.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
        rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
        return _CARD.format(title=html.escape(name), body=rendered)

    def report(self, name: str) -> Path | None:
        """The report."""
        folder = self._folders.get(name)
        return folder.report if folder is not None and folder.report.is_file() else None

    def figure(self, name: str, file: str) -> Path | None:
        """One of its figures."""
        folder = self._folders.get(name)
        known = (
            {} if folder is None or not folder.figures.is_dir() else {one.name: one for one in folder.figures.iterdir()}
        )
        return known.get(file)

    def figures(self, name: str) -> list[FigureLink]:
        """All of them, with what they show in words."""
        try:
            drawn = run_figures(self._folders[name].read())
        except RunError:
            return []
        files = ((plot, f"{plot.name}.svg") for plot in drawn)
        return [
            FigureLink(url=f"/runs/{quote(name)}/figures/{file}", alt=plot.alt)
            for plot, file in files
            if self.figure(name, file) is not None
        ]


def model_info(one: ServedModel, pages: RunPages) -> ModelInfo:
    """What is said of a classifier."""
    labeller = one.labeller
    recipe, calibrator = labeller.recipe, labeller.calibrator
    address = f"/runs/{quote(one.name)}"
    return ModelInfo(
        name=one.name,
        description=recipe.description,
        task=recipe.task.name,
        labels=list(recipe.task.labels),
        base_model=recipe.backbone.model if one.adapter is not None else "",
        method=method_name(recipe.adapter, recipe.backbone.load_in),
        metric=calibrator.metric,
        calibrated=calibrator.rows > 0,
        threshold=calibrator.threshold,
        has_before=one.adapter is not None,
        text_column=recipe.data.text_column,
        figures=pages.figures(one.name),
        card=f"{address}/card" if pages.has_card(one.name) else None,
        report=f"{address}/report" if pages.report(one.name) is not None else None,
    )
