"""Edits that change no meaning, and how often they change the answer. N: rows."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.results import StressResult

Ints = NDArray[np.int64]


def typo(text: str, draw: random.Random) -> str:
    """Two neighbouring letters inside one word of four letters or more change places."""
    words = text.split(" ")
    long = [at for at, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not long:
        return text
    at = draw.choice(long)
    word = words[at]
    first = draw.randrange(1, len(word) - 2)
    words[at] = word[:first] + word[first + 1] + word[first] + word[first + 2 :]
    return " ".join(words)


EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "one typo": typo,
    "lower case": lambda text, _: text.lower(),
    "a mention in front": lambda text, _: f"@user {text}",
    "a link at the end": lambda text, _: f"{text} http",
    "a full stop at the end": lambda text, _: f"{text.rstrip()}.",
    "doubled spaces": lambda text, _: text.replace(" ", "  "),
}


def apply_edit(texts: Sequence[str], name: str, seed: int) -> list[str]:
    """The texts after one edit of each; a row's own draw does not depend on the other rows."""
    return [EDITS[name](text, random.Random(f"{seed}-{name}-{text}")) for text in texts]


def run_stress_test(
    texts: Sequence[str], expected: Ints, predicted: Ints, answer: Callable[[Sequence[str]], Ints], seed: int = 0
) -> tuple[StressResult, ...]:
    """Every edit on every text that it changes.

    Args:
        texts: N texts.
        expected: their true labels, (N,).
        predicted: the labels they were given as they stand, (N,).
        answer: from texts to label indices.
        seed: of the edits.
    """
    found = []
    for name in EDITS:
        changed_texts = apply_edit(texts, name, seed)
        rows = [at for at, (old, new) in enumerate(zip(texts, changed_texts, strict=True)) if old != new]
        if not rows:
            continue
        answers = answer([changed_texts[at] for at in rows])
        before, truth = predicted[rows], expected[rows]
        found.append(
            StressResult(
                name,
                len(rows),
                float((answers != before).mean()),
                float((before == truth).mean()),
                float((answers == truth).mean()),
            )
        )
    return tuple(found)
