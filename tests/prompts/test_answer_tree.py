"""The answer tree equals a brute-force model of token sequences."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whinchat.evaluation.scoring import label_log_probs
from whinchat.prompts.answer_tree import AnswerTree, answer_tree

END = 9
VOCAB = 10

answer_sets = st.lists(
    st.lists(st.integers(0, 8), min_size=1, max_size=4).map(tuple), min_size=2, max_size=6, unique=True
)


def distribution(context: tuple[int, ...]) -> torch.Tensor:
    """An arbitrary next-token distribution that depends on all tokens so far, (V,) logits."""
    seed = int.from_bytes(hashlib.sha256(repr(context).encode()).digest()[:4], "big")
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def context_of(tree: AnswerTree, place: int) -> tuple[int, ...]:
    """Tokens from the root to ``place``, by the parents alone."""
    tokens: list[int] = []
    node = place - 1
    while node >= 0:
        tokens.append(tree.tokens[node])
        node = tree.parents[node]
    return tuple(reversed(tokens))


def is_nested(answers: list[tuple[int, ...]]) -> bool:
    return any(a != b and b[: len(a)] == a for a in answers for b in answers)


@given(answer_sets)
def test_sums_over_paths_equal_brute_force(answers: list[tuple[int, ...]]) -> None:
    tree = answer_tree(answers, END)
    logits = torch.stack([distribution(context_of(tree, place)) for place in range(len(tree.tokens) + 1)])
    found = label_log_probs(logits[None], tree)[0]
    ended = is_nested(answers)
    for answer, value in zip(answers, found.tolist(), strict=True):
        tokens = (*answer, END) if ended else answer
        brute = sum(distribution(tokens[:at]).log_softmax(0)[token].item() for at, token in enumerate(tokens))
        assert math.isclose(value, brute, abs_tol=1e-9)


@given(answer_sets)
def test_each_shared_beginning_is_one_node(answers: list[tuple[int, ...]]) -> None:
    tree = answer_tree(answers, END)
    scored = [(*answer, END) for answer in answers] if is_nested(answers) else answers
    beginnings = {answer[:length] for answer in scored for length in range(1, len(answer))}
    assert len(tree.tokens) == len(beginnings)
    assert {context_of(tree, place) for place in range(1, len(tree.tokens) + 1)} == beginnings
    assert all(parent < at for at, parent in enumerate(tree.parents))


@given(answer_sets)
def test_a_node_attends_to_itself_and_its_ancestors(answers: list[tuple[int, ...]]) -> None:
    tree = answer_tree(answers, END)
    for node in range(len(tree.tokens)):
        above = {node}
        at = tree.parents[node]
        while at >= 0:
            above.add(at)
            at = tree.parents[at]
        assert {other for other, seen in enumerate(tree.attention_mask[node]) if seen} == above
        assert tree.depths[node] == len(above)


@given(answer_sets)
def test_a_tree_that_does_not_branch_is_a_chain(answers: list[tuple[int, ...]]) -> None:
    tree = answer_tree(answers, END)
    chain = all(
        seen == (other <= node) for node, row in enumerate(tree.attention_mask) for other, seen in enumerate(row)
    )
    assert tree.has_branches is not chain


@pytest.mark.parametrize(
    ("answers", "ended"),
    [
        ([(1,), (2,)], False),
        ([(1,), (1, 2)], True),
        ([(3, 4), (3, 5)], False),
        ([(1, 2), (3,), (1, 2, 4)], True),
    ],
)
def test_only_nested_answers_get_the_end_of_turn(answers: list[tuple[int, ...]], ended: bool) -> None:
    tree = answer_tree(answers, END)
    assert [path[-1][1] == END for path in tree.paths] == [ended] * len(answers)
    assert [len(path) for path in tree.paths] == [len(answer) + ended for answer in answers]


def test_nested_probabilities_do_not_count_the_longer_answer_twice() -> None:
    """ "good" must not be at least as likely as "good enough" by construction."""
    tree = answer_tree([(1,), (1, 2)], END)
    logits = torch.zeros(1, len(tree.tokens) + 1, VOCAB)
    logits[0, 1, 2] = 20.0  # after "good", "enough" is certain
    logits[0, 2, END] = 20.0
    good, enough = label_log_probs(logits, tree)[0].tolist()
    assert enough > good + 10


def test_one_token_answers_need_no_nodes() -> None:
    tree = answer_tree([(1,), (2,), (3,)], END)
    assert (tree.tokens, tree.parents, tree.has_branches) == ((), (), False)
    assert tree.paths == (((0, 1),), ((0, 2),), ((0, 3),))


def test_chains_lead_from_the_root_to_each_leaf() -> None:
    assert answer_tree([(1,), (2,)], 9).chains == ((),)
    assert answer_tree([(1, 2, 3), (1, 4, 5), (1, 4, 6), (7, 8)], 9).chains == ((0, 1), (0, 2), (3,))
    nested = answer_tree([(1, 2), (1, 2, 3)], 9)
    assert nested.chains == (tuple(range(len(nested.tokens))),)
