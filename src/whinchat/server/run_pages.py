"""The parts of a run that the server shows: its model card, report and figures, and texts to try."""

import html
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from markdown_it import MarkdownIt

from whinchat.errors import RunError
from whinchat.recipe.method_names import method_name
from whinchat.server.api_schema import FigureLink, ModelInfo
from whinchat.server.served_models import ServedModel
from whinchat.storage.run_folder import RunFolder

# The figures that a run may have, in the order of the page, with a text for readers who cannot see the figure.
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
_CARD = Path(__file__).with_name("page").joinpath("card.html").read_text(encoding="utf-8")


@dataclass(frozen=True)
class RunPages:
    """The pages of the classifier ``name``, which was loaded from ``folder``; None for a page that does not exist."""

    name: str
    folder: RunFolder

    def card(self) -> str | None:
        """Return the model card as an HTML page."""
        if not self.folder.card.is_file():
            return None
        return _CARD.format(title=html.escape(self.name), body=_MARKDOWN.render(self._card_body()))

    def report(self) -> Path | None:
        """Return the path of the report."""
        return self.folder.report if self.folder.report.is_file() else None

    def figure(self, file: str) -> Path | None:
        """Return the path of the figure ``file``, a known name with the suffix .svg or .png."""
        stem, _, suffix = file.partition(".")
        path = self.folder.figures / file
        return path if stem in FIGURE_CAPTIONS and suffix in ("svg", "png") and path.is_file() else None

    def figures(self) -> list[FigureLink]:
        """Return links to the run's figures, each with its alternative text: the card's, or else the caption."""
        alts = FIGURE_CAPTIONS | (_image_texts(self._card_body()) if self.folder.card.is_file() else {})
        return [
            FigureLink(url=f"/runs/{quote(self.name)}/figures/{figure}.svg", alt=alts[figure])
            for figure in FIGURE_CAPTIONS
            if self.figure(f"{figure}.svg") is not None
        ]

    def examples(self, max_chars: int) -> list[str]:
        """Return texts to try: samples of the run's evaluation, or neutral texts for a classifier without samples."""
        try:
            texts = [sample.text for sample in self.folder.read_samples() if sample.text.strip()]
        except RunError:
            texts = []
        short = dict.fromkeys(text for text in texts if len(text) <= max_chars)
        return (list(short) or [text for text in _NEUTRAL_EXAMPLES if len(text) <= max_chars])[:_EXAMPLES]

    def _card_body(self) -> str:
        """Return the card's Markdown without the front matter, which is for the hub."""
        text = self.folder.card.read_text(encoding="utf-8")
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
        examples=pages.examples(max_chars),
        figures=pages.figures(),
        card=f"{address}/card" if pages.folder.card.is_file() else None,
        report=f"{address}/report" if pages.report() is not None else None,
    )
