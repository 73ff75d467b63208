"""The answers of all labels as one tree of tokens, so that a single forward pass scores every label.

K: labels. N: nodes of the tree. C: columns of logits that are read.

Answers of several tokens may share their first tokens. Each shared beginning becomes one node that is computed once. A
label's log-probability is the sum over its path from the root, which is the last token of the prompt.

Several questions about one text become one tree as well: what their prompts share ends at the root, and each question's
own tokens lead to its answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AnswerTree:
    """Answer tokens to feed after the prompt, and where the log-probabilities of each label are read.

    Attributes:
        tokens: token id of each node, (N,). Empty where every answer is one token long.
        parents: parent of each node as an index into ``tokens``, -1 for the root; a parent stands before its children.
        reads: the nodes after which logits are read, -1 for the root, (C,): one for each column of the logits.
        paths: for each label, pairs of (column, token): the log-probability of ``token`` is read in ``column`` of the
            logits.
        sizes: number of labels of each question, in the order of ``paths``.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    reads: tuple[int, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]
    sizes: tuple[int, ...]

    @cached_property
    def label_tokens(self) -> tuple[int, ...] | None:
        """The tokens of the labels, each once, where every answer is one token long; otherwise None."""
        if any(len(path) > 1 for path in self.paths):
            return None
        return tuple(dict.fromkeys(token for ((_, token),) in self.paths))

    @cached_property
    def label_places(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Column of the logits and index in ``label_tokens`` of each label, where every answer is one token long."""
        index = {token: place for place, token in enumerate(self.label_tokens or ())}
        return tuple(path[0][0] for path in self.paths), tuple(index[path[0][1]] for path in self.paths)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Distance of each node from the root, (N,); 1 for the root's children."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    @cached_property
    def has_branches(self) -> bool:
        """Whether some node does not follow the node before it, so that plain causal attention would be wrong."""
        return any(parent != node - 1 for node, parent in enumerate(self.parents))

    @cached_property
    def chains(self) -> tuple[tuple[int, ...], ...]:
        """The nodes from the root's child to each leaf; a single empty chain where there are no nodes."""
        chains: dict[int, tuple[int, ...]] = {-1: ()}
        for node, parent in enumerate(self.parents):
            chains[node] = (*chains[parent], node)
        return tuple(chain for node, chain in chains.items() if node not in self.parents)

    @cached_property
    def attention_mask(self) -> NDArray[np.bool_]:
        """``attention_mask[i, j]``: whether node i attends to node j, its ancestor or itself. (N, N)"""
        mask = np.eye(len(self.tokens), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                mask[node] |= mask[parent]
        return mask


def answer_tree(answers: Sequence[tuple[int, ...]], end_of_turn: int) -> AnswerTree:
    """Build the tree of ``answers``, the token ids of each label's answer without the end of turn.

    Where one answer is the beginning of another ("good", "good enough"), only the end of turn tells the two apart, so
    it becomes part of every answer. Otherwise it is left out: before training, a model's habit of going on or stopping
    would favour some labels.
    """
    nested = any(a != b and b[: len(a)] == a for a in answers for b in answers)
    return _grow([((), [(*answer, end_of_turn) if nested else answer for answer in answers])])


def join_trees(branches: Sequence[tuple[tuple[int, ...], AnswerTree]]) -> AnswerTree:
    """Build one tree of the answers to several questions about the same text.

    Args:
        branches: for each question, the tokens of its prompt after what the prompts of all questions share, and the
            tree of its answers.

    Returns:
        A tree whose paths are those of all questions, one question after the other.
    """
    return _grow([(tokens, [tuple(token for _, token in path) for path in tree.paths]) for tokens, tree in branches])


def _grow(branches: Sequence[tuple[tuple[int, ...], Sequence[tuple[int, ...]]]]) -> AnswerTree:
    """Build the tree of answers that each follow the tokens of their branch."""
    tokens: list[int] = []
    parents: list[int] = []
    nodes: dict[tuple[int, int], int] = {}  # (parent, token) -> node
    reads: dict[int, int] = {}  # node -> column

    def follow(node: int, token: int) -> int:
        """Return the node that ``token`` leads to from ``node``; make it where it is missing."""
        if (node, token) not in nodes:
            nodes[node, token] = len(tokens)
            tokens.append(token)
            parents.append(node)
        return nodes[node, token]

    paths = []
    for before, answers in branches:
        start = reduce(follow, before, -1)
        for answer in answers:
            # The last token of an answer is read, not fed.
            read = accumulate(answer[:-1], follow, initial=start)
            paths.append(
                tuple((reads.setdefault(node, len(reads)), token) for node, token in zip(read, answer, strict=True))
            )
    sizes = tuple(len(answers) for _, answers in branches)
    return AnswerTree(tuple(tokens), tuple(parents), tuple(reads), tuple(paths), sizes)
