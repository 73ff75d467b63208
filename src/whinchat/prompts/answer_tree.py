"""The labels' answers as one tree, so that a single forward pass scores them all.

Answers of several tokens may share their first ones. Each shared beginning becomes one node that is computed once;
a label's log-probability is the sum over its path. The root is the last token of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class AnswerTree:
    """N nodes after the prompt, and where each label reads its tokens.

    Attributes:
        tokens: token id of each node, (N,). Empty where every answer is one token long.
        parents: parent of each node as an index into ``tokens``, -1 for the root; a parent stands before its children.
        paths: for each label, (place, token) pairs: the log-probability of ``token`` is read after ``place``, where 0
            is the root and i + 1 is node i.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def choices(self) -> tuple[int, ...] | None:
        """The labels' tokens, (K,), where each answer is one: their logits alone compare the labels. Otherwise None."""
        return None if self.tokens else tuple(token for ((_, token),) in self.paths)

    @property
    def depths(self) -> tuple[int, ...]:
        """Distance of each node from the root, 1 for its children."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    @property
    def branches(self) -> bool:
        """Whether some node does not follow the node before it, so that plain causal attention would be wrong."""
        return any(parent != at - 1 for at, parent in enumerate(self.parents))

    @property
    def visible(self) -> tuple[tuple[bool, ...], ...]:
        """``visible[i][j]``: node i attends to node j, that is, j is i itself or stands above it. (N, N)"""
        rows: list[tuple[bool, ...]] = []
        for node, parent in enumerate(self.parents):
            above = rows[parent] if parent >= 0 else (False,) * len(self.tokens)
            rows.append(tuple(seen or other == node for other, seen in enumerate(above)))
        return tuple(rows)


def answer_tree(answers: Sequence[tuple[int, ...]], end_of_turn: int) -> AnswerTree:
    """The tree of ``answers``.

    Where one answer begins another ("good", "good enough"), only the end of turn tells them apart, so it is made part
    of every answer. Otherwise it is left out: no label would gain or lose by it before the model has learned to stop.
    """
    nested = any(a != b and b[: len(a)] == a for a in answers for b in answers)
    scored = [(*answer, end_of_turn) if nested else answer for answer in answers]
    places: dict[tuple[int, ...], int] = {(): 0}
    tokens: list[int] = []
    parents: list[int] = []
    for answer in scored:
        for length in range(1, len(answer)):
            if answer[:length] not in places:
                parents.append(places[answer[: length - 1]] - 1)
                tokens.append(answer[length - 1])
                places[answer[:length]] = len(tokens)
    paths = tuple(tuple((places[answer[:at]], token) for at, token in enumerate(answer)) for answer in scored)
    return AnswerTree(tuple(tokens), tuple(parents), paths)
