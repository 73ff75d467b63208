"""The answers of all labels as one tree of tokens, so that a single forward pass scores every label.

K: labels. N: nodes of the tree.

Answers of several tokens may share their first tokens. Each shared beginning becomes one node that is computed once. A
label's log-probability is the sum over its path from the root, which is the last token of the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class AnswerTree:
    """Answer tokens to feed after the prompt, and where the log-probabilities of each label are read.

    Attributes:
        tokens: token id of each node, (N,). Empty where every answer is one token long.
        parents: parent of each node as an index into ``tokens``, -1 for the root; a parent stands before its children.
        paths: for each label, pairs of (column, token): the log-probability of ``token`` is read in ``column`` of the
            logits, where column 0 follows the root and column i + 1 follows node i.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def label_tokens(self) -> tuple[int, ...] | None:
        """Token of each label, (K,), where every answer is one token long; otherwise None."""
        return None if self.tokens else tuple(token for ((_, token),) in self.paths)

    @property
    def depths(self) -> tuple[int, ...]:
        """Distance of each node from the root, (N,); 1 for the root's children."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    @property
    def has_branches(self) -> bool:
        """Whether some node does not follow the node before it, so that plain causal attention would be wrong."""
        return any(parent != node - 1 for node, parent in enumerate(self.parents))

    @property
    def chains(self) -> tuple[tuple[int, ...], ...]:
        """The nodes from the root's child to each leaf; a single empty chain where there are no nodes."""
        chains: dict[int, tuple[int, ...]] = {-1: ()}
        for node, parent in enumerate(self.parents):
            chains[node] = (*chains[parent], node)
        return tuple(chain for node, chain in chains.items() if node not in self.parents)

    @property
    def attention_mask(self) -> tuple[tuple[bool, ...], ...]:
        """``attention_mask[i][j]``: whether node i attends to node j, its ancestor or itself. (N, N)"""
        rows: list[tuple[bool, ...]] = []
        for node, parent in enumerate(self.parents):
            ancestors = rows[parent] if parent >= 0 else (False,) * len(self.tokens)
            rows.append(tuple(attends or other == node for other, attends in enumerate(ancestors)))
        return tuple(rows)


def answer_tree(answers: Sequence[tuple[int, ...]], end_of_turn: int) -> AnswerTree:
    """Build the tree of ``answers``, the token ids of each label's answer without the end of turn.

    Where one answer is the beginning of another ("good", "good enough"), only the end of turn tells the two apart, so
    it becomes part of every answer. Otherwise it is left out: before training, a model's habit of going on or stopping
    would favour some labels.
    """
    nested = any(a != b and b[: len(a)] == a for a in answers for b in answers)
    scored = [(*answer, end_of_turn) if nested else answer for answer in answers]
    columns: dict[tuple[int, ...], int] = {(): 0}
    tokens: list[int] = []
    parents: list[int] = []
    for answer in scored:
        for length in range(1, len(answer)):
            if answer[:length] not in columns:
                parents.append(columns[answer[: length - 1]] - 1)
                tokens.append(answer[length - 1])
                columns[answer[:length]] = len(tokens)
    paths = tuple(tuple((columns[answer[:depth]], token) for depth, token in enumerate(answer)) for answer in scored)
    return AnswerTree(tuple(tokens), tuple(parents), paths)
