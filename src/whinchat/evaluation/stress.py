"""Edit texts without changing their meaning, and count how often the answer changes. N: rows."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.results import StressResult
from whinchat.recipe.schema import StressEditName

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class StressEdit:
    """One edit: ``title`` names it in tables and seeds its random draws, ``apply`` edits a text."""

    title: str
    apply: Callable[[str, random.Random], str]


def swap_two_letters(text: str, generator: random.Random) -> str:
    """Swap two neighbouring letters inside one word of at least four letters; a text without such a word stays."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not long:
        return text
    index = generator.choice(long)
    word = words[index]
    first = generator.randrange(1, len(word) - 2)
    words[index] = word[:first] + word[first + 1] + word[first] + word[first + 2 :]
    return " ".join(words)


STRESS_EDITS: dict[StressEditName, StressEdit] = {
    "typo": StressEdit("one typo", swap_two_letters),
    "lower_case": StressEdit("lower case", lambda text, _: text.lower()),
    "mention": StressEdit("a mention in front", lambda text, _: f"@user {text}"),
    "link": StressEdit("a link at the end", lambda text, _: f"{text} http"),
    "full_stop": StressEdit("a full stop at the end", lambda text, _: f"{text.rstrip()}."),
    "doubled_spaces": StressEdit("doubled spaces", lambda text, _: text.replace(" ", "  ")),
}


def apply_edit(texts: Sequence[str], edit: StressEdit, seed: int) -> list[str]:
    """Return the edited texts. The random draws of a text do not depend on the other texts."""
    return [edit.apply(text, random.Random(f"{seed}-{edit.title}-{text}")) for text in texts]


def run_stress_test(
    texts: Sequence[str],
    expected: Ints,
    predicted: Ints,
    answer: Callable[[Sequence[str]], Ints],
    names: Sequence[StressEditName],
    seed: int = 0,
) -> tuple[StressResult, ...]:
    """Make each edit on every text that it changes, and answer the edited texts.

    Args:
        texts: N texts.
        expected: true labels, (N,).
        predicted: labels predicted for the texts before the edits, (N,).
        answer: predicts the labels of the edited texts.
        names: the edits to make, in the order of the result.
        seed: seed of the edits' random draws.
    """
    changed: dict[StressEditName, list[int]] = {}
    edited_texts: list[str] = []
    for name in dict.fromkeys(names):
        edited = apply_edit(texts, STRESS_EDITS[name], seed)
        changed[name] = [row for row, (old, new) in enumerate(zip(texts, edited, strict=True)) if old != new]
        edited_texts += [edited[row] for row in changed[name]]
    if not edited_texts:
        return ()
    # All edits at once, so that batches are full.
    answers, results, start = answer(edited_texts), [], 0
    for name, rows in changed.items():
        if not rows:
            continue
        own, before, truth = answers[start : start + len(rows)], predicted[rows], expected[rows]
        start += len(rows)
        shares = (float(mask.mean()) for mask in (own != before, before == truth, own == truth))
        results.append(StressResult(STRESS_EDITS[name].title, len(rows), *shares))
    return tuple(results)
