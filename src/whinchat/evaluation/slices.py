"""Measure kinds of text separately: metrics of the rows whose text has some length or content. N: rows. K: labels."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.metrics import macro_f1_of_rows
from whinchat.evaluation.results import SliceMetrics
from whinchat.recipe.schema import SliceName

Ints = NDArray[np.int64]

# Metrics of fewer rows are too rough to show.
FEWEST_ROWS = 20

_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|nowhere|without|cannot|\w+n['’]t"
    r"|(?:do|does|did|is|are|was|were|ca|wo|would|could|should|have|has|had|ai)nt)\b",
    re.IGNORECASE,
)
# Flags, pictographs, symbols and dingbats; then emoticons such as :-) and <3.
_EMOJI = re.compile(r"[\U0001F1E6-\U0001FAFF☀-➿]|(?<!\w)[:;=8xX][-'o^]?[)(\]\[dDpP/\\|*](?!\w)|<3")
_CAPITALS = re.compile(r"\b[A-Z]{3,}\b")
_HASHTAG = re.compile(r"#\w")


@dataclass(frozen=True)
class TextSlice:
    """Texts that have something in common: ``title`` names them in tables, ``contains`` tells whether a text is one."""

    title: str
    contains: Callable[[str], bool]


# Every slice by content; the slice "length" stands for three, whose bounds depend on the texts.
TEXT_SLICES: dict[SliceName, TextSlice] = {
    "negation": TextSlice("with negation", lambda text: bool(_NEGATION.search(text))),
    "emoji": TextSlice("with an emoji or emoticon", lambda text: bool(_EMOJI.search(text))),
    "capitals": TextSlice("with a word in capitals", lambda text: bool(_CAPITALS.search(text))),
    "hashtag": TextSlice("with a hashtag", lambda text: bool(_HASHTAG.search(text))),
    "question_mark": TextSlice("with a question mark", lambda text: "?" in text),
    "mention": TextSlice("with a mention", lambda text: "@" in text),
}


def compute_slices(
    texts: Sequence[str], expected: Ints, predicted: Ints, size: int, names: Sequence[SliceName]
) -> tuple[SliceMetrics, ...]:
    """Measure the slices that have enough rows.

    Macro-F1 is averaged over the labels that have rows in a slice.

    Args:
        texts: N texts.
        expected, predicted: true and predicted labels, (N,) each.
        size: K.
        names: the slices to measure, in the order of the result.
    """
    members: dict[str, NDArray[np.bool_]] = {}
    for name in names:
        if name == "length":
            members |= _by_length(texts)
        else:
            text_slice = TEXT_SLICES[name]
            members[text_slice.title] = np.array([text_slice.contains(text) for text in texts], dtype=bool)
    return tuple(
        SliceMetrics(
            title,
            int(rows.sum()),
            float(rows.mean()),
            float((expected[rows] == predicted[rows]).mean()),
            macro_f1_of_rows(expected[rows], predicted[rows], size),
        )
        for title, rows in members.items()
        if rows.sum() >= FEWEST_ROWS
    )


def _by_length(texts: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """The short, middle and long third of the texts, counted in words, as masks over the rows, (N,)."""
    words = np.array([len(text.split()) for text in texts])
    low, high = np.quantile(words, [1 / 3, 2 / 3]) if len(words) else (0, 0)
    return {
        f"up to {low:.0f} words": words <= low,
        f"{low + 1:.0f} to {high:.0f} words": (words > low) & (words <= high),
        f"over {high:.0f} words": words > high,
    }
