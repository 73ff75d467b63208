"""The parts of a run that the server shows: its model card, report and figures, and texts to try."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from markdown_it import MarkdownIt

from whinchat.errors import RunError
from whinchat.recipe.schema import method_name
from whinchat.server.api_schema import FigureLink, ModelInfo
from whinchat.server.served_models import ServedModel
from whinchat.storage.run_folder import RunFolder

# The figures that a run may have, in the order of the page, and the text for readers who cannot see one that the card
# does not describe.
FIGURE_CAPTIONS = {
    "per_label": "F1 of each label before and after training.",
    "confusion_score": "Confusion matrices of label scoring before and after training.",
    "confusion_generate": "Confusion matrices of free generation before and after training.",
    "reliability": "Accuracy against confidence.",
    "coverage": "Accuracy against the share of texts answered, most confident first.",
    "training_curve": "Training loss over steps.",
}

# Number of example texts, and the examples of a classifier whose run left no samples.
_EXAMPLES = 6
_NEUTRAL_EXAMPLES = (
    "What a lovely day!",
    "The train was late again, and nobody told us why.",
    "Where can I find the opening hours?",
    "It works, but I expected more for the price.",
)
_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
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
    """The pages of each run folder, by the name of its classifier; None for a page that does not exist."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._folders = {name: RunFolder(path) for name, path in paths.items()}

    def has_card(self, name: str) -> bool:
        """Return whether the run has a model card."""
        folder = self._folders.get(name)
        return folder is not None and folder.card.is_file()

    def card(self, name: str) -> str | None:
        """Return the model card as an HTML page."""
        if not self.has_card(name):
            return None
        body = _MARKDOWN.render(self._card_body(name))
        return _CARD.format(title=html.escape(name), body=body)

    def report(self, name: str) -> Path | None:
        """Return the path of the report."""
        folder = self._folders.get(name)
        return folder.report if folder is not None and folder.report.is_file() else None

    def figure(self, name: str, file: str) -> Path | None:
        """Return the path of the figure ``file``, a known name with the suffix .svg or .png."""
        folder = self._folders.get(name)
        stem, _, suffix = file.partition(".")
        if folder is None or stem not in FIGURE_CAPTIONS or suffix not in ("svg", "png"):
            return None
        path = folder.figures / file
        return path if path.is_file() else None

    def figures(self, name: str) -> list[FigureLink]:
        """Return links to the run's figures, each with its alternative text: the card's, or else the caption."""
        alts = FIGURE_CAPTIONS | (_image_texts(self._card_body(name)) if self.has_card(name) else {})
        return [
            FigureLink(url=f"/runs/{quote(name)}/figures/{figure}.svg", alt=alts[figure])
            for figure in FIGURE_CAPTIONS
            if self.figure(name, f"{figure}.svg") is not None
        ]

    def examples(self, name: str, max_chars: int) -> list[str]:
        """Return texts to try: samples of the run's evaluation, or neutral texts for a classifier without samples."""
        try:
            samples = self._folders[name].read_samples()
        except RunError:
            samples = ()
        texts = dict.fromkeys(
            sample.text for sample in samples if sample.text.strip() and len(sample.text) <= max_chars
        )
        return (list(texts) or [text for text in _NEUTRAL_EXAMPLES if len(text) <= max_chars])[:_EXAMPLES]

    def _card_body(self, name: str) -> str:
        """Return the card's Markdown without the front matter, which is for the hub."""
        text = self._folders[name].card.read_text(encoding="utf-8")
        return text.removeprefix("---\n").partition("\n---\n")[2]


def _image_texts(markdown: str) -> dict[str, str]:
    """Return the alternative text of each image in ``markdown``, by its file name without suffix."""
    images = [token for block in _MARKDOWN.parse(markdown) for token in block.children or () if token.type == "image"]
    return {
        PurePosixPath(str(image.attrs["src"])).stem: "".join(part.content for part in image.children or ())
        for image in images
    }


def model_info(model: ServedModel, pages: RunPages, max_chars: int) -> ModelInfo:
    """Describe a classifier; its examples have at most ``max_chars`` characters."""
    recipe, calibrator = model.predictor.recipe, model.predictor.calibrator
    address = f"/runs/{quote(model.name)}"
    return ModelInfo(
        name=model.name,
        description=recipe.description,
        task=recipe.task.name,
        labels=list(recipe.task.labels),
        base_model=recipe.backbone.model if model.adapter is not None else "",
        method=method_name(recipe.adapter, recipe.backbone.load_in),
        metric=calibrator.metric,
        calibrated=calibrator.rows > 0,
        threshold=calibrator.threshold,
        has_before=model.adapter is not None,
        text_column=recipe.data.text_column,
        examples=pages.examples(model.name, max_chars),
        figures=pages.figures(model.name),
        card=f"{address}/card" if pages.has_card(model.name) else None,
        report=f"{address}/report" if pages.report(model.name) is not None else None,
    )
