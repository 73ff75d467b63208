"""Score several questions about the same texts; what the prompts of a text share is computed once.

Q: questions. R: texts. K: labels of a question.

The prompts of one text are compared token by token. What they share stands once in a batch, and each question's own
tokens are a branch behind it, which sees the shared tokens and itself alone. So a question's scores are those of its
own prompt, whatever else is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from whinchat.evaluation.scoring import (
    bar_for,
    batch_shares,
    check_scores,
    continues,
    score_batch,
    score_in_batches,
)
from whinchat.models.forward import Engine
from whinchat.models.packed.packed_forward import PrefixCache
from whinchat.progress import Progress
from whinchat.prompts.answer_tree import AnswerTree, join_trees
from whinchat.prompts.batching import by_length, collate, shared_prefix
from whinchat.prompts.template import Prompt
from whinchat.recipe.task import Task

# Most tokens of branches behind a text. Attention compares every one with every other, so more questions take several
# passes.
MOST_NODES = 256


@dataclass(frozen=True)
class JointPass:
    """Texts whose questions are asked in one pass.

    Attributes:
        questions: indices of the questions.
        tree: their branches and answers.
        rows: indices of the texts, all with the same branches.
        shared: for each of ``rows``, the token ids that its prompts share.
    """

    questions: tuple[int, ...]
    tree: AnswerTree
    rows: tuple[int, ...]
    shared: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Number of tokens to compute, apart from padding."""
        return _tokens(self.shared) + len(self.rows) * len(self.tree.tokens)


def score_questions(
    engines: Sequence[Engine],
    prompts: Sequence[Sequence[Prompt]],
    batch_size: int,
    title: str = "Scoring",
    *,
    deterministic: bool = False,
    bar: Progress | None = None,
    prefixes: Sequence[PrefixCache | None] = (),
    labels_only: bool = False,
) -> list[NDArray[np.float32]]:
    """Score every label of every question for every text.

    Args:
        engines: one for each of Q questions, all with the same model.
        prompts: for each question the prompts of the R texts.
        batch_size: largest number of prompts of a batch.
        title, deterministic, labels_only: as for ``score_prompts``.
        bar: a bar that the caller closes, advanced by one for each answer to a question; None to show one.
        prefixes: for each question the cache of a prefix that most of its prompts share; empty for none.

    Returns:
        For each question the log-probabilities of its labels, (R, K).

    Raises:
        ModelError: as ``score_prompts`` raises it.
    """
    scores = [
        np.full((len(own), len(engine.tree.paths)), np.nan, np.float32)
        for engine, own in zip(engines, prompts, strict=True)
    ]
    with bar_for(title, sum(map(len, prompts)), bar, "answers") as shown:
        for one in plan_passes(engines, [[prompt.ids for prompt in own] for own in prompts]):
            found = _score_pass(
                engines, one, batch_size, title, shown, prefixes, deterministic=deterministic, labels_only=labels_only
            )
            for question, part in zip(one.questions, _parts(found, one.tree), strict=True):
                scores[question][list(one.rows)] = part
    return scores


def decision_engines(engine: Engine, task: Task) -> list[Engine]:
    """Return an engine for each decision of ``task``, all with the model of ``engine`` and its chat template."""
    return [engine.for_task(task.of_decision(decision)) for decision in task.decisions]


def plan_passes(engines: Sequence[Engine], prompts: Sequence[Sequence[tuple[int, ...]]]) -> list[JointPass]:
    """Return the passes that ask every question about every text with the fewest tokens.

    Either the questions about a text are branches behind what its prompts share, or each question is asked by itself,
    behind what its prompts about all texts share. Texts whose prompts go on alike after what they share go through the
    model together: nearly always all of them, since a chat template writes the same behind every text.

    Args:
        engines: one for each of Q questions, all with the same model.
        prompts: for each question the token ids of the prompts of the R texts.
    """
    of_branches: dict[tuple[tuple[int, ...], ...], tuple[list[int], list[tuple[int, ...]]]] = {}
    for row, own in enumerate(zip(*prompts, strict=True)):
        cut = shared_prefix(own)
        rows, shared = of_branches.setdefault(tuple(tokens[cut:] for tokens in own), ([], []))
        rows.append(row)
        shared.append(own[0][:cut])
    trees = tuple(engine.tree for engine in engines)
    chunks = {branches: _chunks(branches, trees, MOST_NODES) for branches in of_branches}
    together = sum(
        len(chunks[branches]) * _tokens(shared) + len(rows) * sum(len(tree.tokens) for _, tree in chunks[branches])
        for branches, (rows, shared) in of_branches.items()
    )
    apart = sum(map(_tokens, prompts)) + len(prompts[0]) * sum(len(tree.tokens) for tree in trees)
    if len(engines) == 1 or apart <= together:
        every = tuple(range(len(prompts[0])))
        return [
            JointPass((question,), tree, every, tuple(own))
            for question, (tree, own) in enumerate(zip(trees, prompts, strict=True))
        ]
    return [
        JointPass(questions, tree, tuple(rows), tuple(shared))
        for branches, (rows, shared) in of_branches.items()
        for questions, tree in chunks[branches]
    ]


# Training plans the passes of every batch anew, and they have the same branches nearly always.
@lru_cache(maxsize=64)
def _chunks(
    branches: tuple[tuple[int, ...], ...], trees: tuple[AnswerTree, ...], most: int
) -> list[tuple[tuple[int, ...], AnswerTree]]:
    """Cut the questions into groups with one tree each, of ``most`` nodes at most; a single one may have more.

    Args:
        branches: for each question the tokens of its prompts after what they share with those of the others.
        trees: for each question the tree of its answers.
        most: largest number of nodes of a tree.
    """
    chunks: list[tuple[tuple[int, ...], AnswerTree]] = []
    for question in range(len(branches)):
        if chunks:
            questions = (*chunks[-1][0], question)
            tree = join_trees([(branches[one], trees[one]) for one in questions])
            if len(tree.tokens) <= most:
                chunks[-1] = questions, tree
                continue
        chunks.append(((question,), join_trees([(branches[question], trees[question])])))
    return chunks


def _tokens(prompts: Sequence[tuple[int, ...]]) -> int:
    """Return the number of tokens to compute where what all ``prompts`` share is computed once."""
    cut = shared_prefix(prompts) if len(prompts) > 1 else 0
    return cut + sum(len(prompt) - cut for prompt in prompts)


def _score_pass(
    engines: Sequence[Engine],
    one: JointPass,
    batch_size: int,
    title: str,
    shown: Progress,
    prefixes: Sequence[PrefixCache | None],
    *,
    deterministic: bool,
    labels_only: bool,
) -> NDArray[np.float32]:
    """Score all labels of the questions of a pass, (rows, labels); arguments as for ``score_questions``."""
    engine, asked = engines[0], len(one.questions)
    caches = (prefixes[question] for question in one.questions) if prefixes else ()
    prefix = next((cache for cache in caches if cache is not None), None)

    def score_rows(rows: list[int]) -> NDArray[np.float32]:
        shared = [one.shared[row] for row in rows]
        cached = prefix if prefix is not None and all(continues(ids, prefix.ids) for ids in shared) else None
        batch = collate(shared, [one.tree.tokens] * len(rows), None if cached is None else len(cached.ids))
        return score_batch(engine, batch, one.tree, cached, labels_only=labels_only)

    def check(row: int, scores: NDArray[np.float32]) -> None:
        for question, part in zip(one.questions, _parts(scores, one.tree), strict=True):
            name = f"{title}: text {one.rows[row]}, question {question + 1}"
            check_scores(engines[question], part, one.shared[row], name)

    shares = batch_shares(engine, len(one.rows) * asked, deterministic)
    batches = by_length([len(ids) for ids in one.shared], max(1, batch_size // asked), shares)
    shape = len(one.rows), len(one.tree.paths)
    return score_in_batches(
        engine, batches, shape, score_rows, check, lambda rows: shown.update(rows * asked), deterministic=deterministic
    )


def _parts(scores: NDArray[np.float32], tree: AnswerTree) -> list[NDArray[np.float32]]:
    """Cut scores (..., K of all questions) into those of each question."""
    return np.split(scores, np.cumsum(tree.sizes)[:-1], axis=-1)
