"""Where a classifier is weak: figures by kinds of text that can be told from the text alone. N: rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from whinchat.evaluation.results import SliceMetrics

Ints = NDArray[np.int64]

# Fewer rows say nothing, and are left out.
FEWEST_ROWS = 20

_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|nowhere|without|cannot|\w+n['’]t"
    r"|(?:do|does|did|is|are|was|were|ca|wo|would|could|should|have|has|had|ai)nt)\b",
    re.IGNORECASE,
)
# Pictographs, symbols and dingbats, flags; and what people typed before there were any.
_EMOJI = re.compile(r"[\U0001F1E6-\U0001FAFF☀-➿]|(?<!\w)[:;=8xX][-'o^]?[)(\]\[dDpP/\\|*](?!\w)|<3")
_CAPITALS = re.compile(r"\b[A-Z]{3,}\b")
_HASHTAG = re.compile(r"#\w")

KINDS: dict[str, Callable[[str], bool]] = {
    "with negation": lambda text: bool(_NEGATION.search(text)),
    "with an emoji or emoticon": lambda text: bool(_EMOJI.search(text)),
    "with a word in capitals": lambda text: bool(_CAPITALS.search(text)),
    "with a hashtag": lambda text: bool(_HASHTAG.search(text)),
    "with a question mark": lambda text: "?" in text,
    "with a mention": lambda text: "@" in text,
}


def compute_slices(texts: Sequence[str], expected: Ints, predicted: Ints, size: int) -> tuple[SliceMetrics, ...]:
    """By length in words (short, middle and long third) and by what the texts hold; all (N,), ``size`` labels.

    Macro-F1 is over all labels, so that slices compare; a label that a slice lacks and no answer names counts as 0.
    """
    words = np.array([len(text.split()) for text in texts])
    low, high = np.quantile(words, [1 / 3, 2 / 3]) if len(words) else (0, 0)
    chosen = {
        f"up to {low:.0f} words": words <= low,
        f"{low + 1:.0f} to {high:.0f} words": (words > low) & (words <= high),
        f"over {high:.0f} words": words > high,
    } | {name: np.array([kind(text) for text in texts], dtype=bool) for name, kind in KINDS.items()}
    return tuple(
        SliceMetrics(
            name,
            int(rows.sum()),
            float(rows.mean()),
            float((expected[rows] == predicted[rows]).mean()),
            float(f1_score(expected[rows], predicted[rows], labels=range(size), average="macro", zero_division=0.0)),
        )
        for name, rows in chosen.items()
        if rows.sum() >= FEWEST_ROWS
    )
