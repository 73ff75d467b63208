"""The parts of a run that the server shows: its model card, report and figures, and texts to try."""

import html
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import quote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token

from whinchat.data.profanity import profanity_finder
from whinchat.data.text_columns import text_fault
from whinchat.errors import RunError
from whinchat.inference.question_predictor import QuestionPredictor
from whinchat.recipe.method_names import method_name
from whinchat.recipe.question import Question
from whinchat.server.api_schema import FigureLink, ModelInfo
from whinchat.server.served_models import ServedModel
from whinchat.storage.questions_record import all_decision_folders
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import Sample

# The figures that a run may have, in the order of the page, with a text for readers who cannot see the figure.
FIGURE_CAPTIONS = {
    "per_label": "F1 of each label before and after training.",
    "confusion_score": "Confusion matrices of label scoring before and after training.",
    "confusion_generate": "Confusion matrices of free generation before and after training.",
    "reliability": "Accuracy against confidence.",
    "coverage": "Accuracy against the share of texts answered, most confident first.",
    "training_curve": "Training loss over steps.",
}

# Number of example texts, and the length up to which a text is read at a glance.
_EXAMPLES = 6
_SHORT_CHARS = 160
_OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
# More than any file that whinchat writes for these pages.
_MAX_FILE_BYTES = 64_000_000
# The tags that the card's template writes; all other HTML in a card is shown as text.
_CARD_TAGS = re.compile(r"(?:</?(?:details|summary)>|[^<>])*")
_CARD = Path(__file__).with_name("page").joinpath("card.html").read_text(encoding="utf-8")


def _render_html_token(renderer: RendererProtocol, tokens: Sequence[Token], index: int, *_: Any) -> str:
    content = tokens[index].content
    return content if _CARD_TAGS.fullmatch(content) else html.escape(content)


def _card_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    for token in ("html_block", "html_inline"):
        parser.add_render_rule(token, _render_html_token)
    return parser


_MARKDOWN = _card_parser()


@dataclass(frozen=True)
class RunPages:
    """The pages of one classifier, read once, when the classifier is loaded, so that they belong to what is served.

    The folder may be a stranger's. So only files of known names are read, and a link is not followed.

    Attributes:
        card: the model card as an HTML page; None where there is none.
        report: the report, an HTML page; None where there is none.
        figures: the figures by file name, a known name with the suffix .svg or .png.
        links: for each SVG figure its address and its alternative text: the card's, or else the caption.
        examples: texts to try, from the samples of the run's evaluation; none where the run has no samples.
    """

    card: str | None
    report: bytes | None
    figures: dict[str, bytes]
    links: tuple[FigureLink, ...]
    examples: tuple[str, ...]

    @classmethod
    def read(
        cls,
        name: str,
        folder: RunFolder,
        max_chars: int,
        *,
        language: str = "en",
        quotes_texts: bool = True,
        questions: Mapping[str, Question] | None = None,
    ) -> Self:
        """Read the pages of the classifier ``name``, whose task asks ``questions``, or has labels.

        An example has at most ``max_chars`` characters and no profanity of ``language``; there is none without
        ``quotes_texts``.
        """
        raw_card = _read_file(folder, folder.card)
        body = None if raw_card is None else _without_front_matter(raw_card.decode("utf-8", "replace"))
        questions = questions or {}
        captions = _question_captions(questions) | FIGURE_CAPTIONS
        names = [f"{figure}.{suffix}" for figure in captions for suffix in ("svg", "png")]
        read = {file: _read_file(folder, folder.figures / file) for file in names}
        figures = {file: content for file, content in read.items() if content is not None}
        alts = captions | ({} if body is None else _image_texts(body))
        return cls(
            card=None if body is None else _CARD.format(title=html.escape(name), body=_MARKDOWN.render(body)),
            report=_read_file(folder, folder.report),
            figures=figures,
            links=tuple(
                FigureLink(url=f"/runs/{quote(name, safe='')}/figures/{figure}.svg", alt=alts[figure])
                for figure in captions
                if f"{figure}.svg" in figures
            ),
            examples=_examples(folder, questions, language, max_chars) if quotes_texts else (),
        )


def _question_captions(questions: Iterable[str]) -> dict[str, str]:
    """Return the figures that a run with ``questions`` may have, as ``FIGURE_CAPTIONS`` has those of all runs."""
    if not questions:
        return {}
    return {
        "questions": "The main metric of each question before and after training.",
        **{f"question_{name}": f"Answers to {name} before and after training." for name in questions},
        **{f"question_{name}_reliability": f"Accuracy against confidence for {name}." for name in questions},
    }


def _read_file(folder: RunFolder, path: Path) -> bytes | None:
    """Return the content of a file of ``folder``; None where there is no such file, or a link leads elsewhere.

    The hub's cache is an exception: there each file of a snapshot is a link to the repository's ``blobs``.
    """
    try:
        real, root = path.resolve(strict=True), folder.path.resolve(strict=True)
        blobs = root.parent.parent / "blobs"
        is_own = real == root / path.relative_to(folder.path)
        is_blob = root.parent.name == "snapshots" and real.parent == blobs and not blobs.is_symlink()
        if not (is_own or is_blob):
            logging.getLogger("whinchat").warning(f"{path}: is a link, so the server does not show the file")
            return None
        # Opening a pipe would wait for its writer.
        with open(real, "rb", opener=lambda name, flags: os.open(name, flags | _OPEN_FLAGS)) as file:
            state = os.fstat(file.fileno())
            return file.read() if stat.S_ISREG(state.st_mode) and state.st_size <= _MAX_FILE_BYTES else None
    except (OSError, RuntimeError):  # a RuntimeError is about links that lead in a circle
        return None


def _without_front_matter(card: str) -> str:
    """Return the card's Markdown without the front matter, which is for the hub."""
    card = card.replace("\r\n", "\n")
    return card.partition("\n---\n")[2] if card.startswith("---\n") else card


def _examples(folder: RunFolder, questions: Mapping[str, Question], language: str, max_chars: int) -> tuple[str, ...]:
    """Return short samples without profanity: first one of each label, then a second one of each.

    With questions, the labels are those of the first decision.
    """
    samples: Sequence[Sample] = ()
    own = RunFolder(folder.path / all_decision_folders(questions)[0]) if questions else folder
    if _read_file(folder, own.samples) is not None:
        with suppress(RunError):
            samples = own.read_samples()
    is_profane = profanity_finder(language)
    usable = {
        sample.text: sample.expected
        for sample in samples
        if len(sample.text) <= max_chars and not text_fault(sample.text, "text") and not is_profane(sample.text)
    }
    texts = [text for text in usable if len(text) <= _SHORT_CHARS] or sorted(usable, key=len)
    seen = Counter[str]()
    turns = {}
    for text in texts:
        turns[text] = seen[usable[text]]
        seen[usable[text]] += 1
    return tuple(sorted(texts, key=turns.__getitem__)[:_EXAMPLES])


def _image_texts(markdown: str) -> dict[str, str]:
    """Return the alternative text of each image in ``markdown``, by its file name without suffix."""
    images = [token for block in _MARKDOWN.parse(markdown) for token in block.children or () if token.type == "image"]
    return {
        PurePosixPath(str(image.attrs["src"])).stem: "".join(part.content for part in image.children or ())
        for image in images
    }


def model_info(model: ServedModel, pages: RunPages) -> ModelInfo:
    """Describe a classifier."""
    predictor, recipe = model.predictor, model.predictor.recipe
    calibrators = predictor.calibrators if isinstance(predictor, QuestionPredictor) else (predictor.calibrator,)
    calibrator = calibrators[0]
    address = f"/runs/{quote(model.name, safe='')}"
    return ModelInfo(
        name=model.name,
        description=recipe.description,
        task=recipe.task.name,
        labels=list(recipe.task.labels),
        questions=list(recipe.task.questions),
        base_model=recipe.backbone.model if model.adapter is not None else "",
        method=method_name(recipe.adapter, recipe.backbone.load_in),
        metric=calibrator.metric,
        calibrated=all(one.rows for one in calibrators),
        threshold=None if recipe.task.questions else calibrator.threshold,
        has_before=model.adapter is not None,
        text_column=recipe.data.text_column if recipe.data.text is None else None,
        text_template=recipe.data.text,
        examples=list(pages.examples),
        figures=list(pages.links),
        card=f"{address}/card" if pages.card is not None else None,
        report=f"{address}/report" if pages.report is not None else None,
    )
