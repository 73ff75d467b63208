"""The figure of quality against cost."""

from __future__ import annotations

from whinchat.arena.frontier_figure import frontier


def test_a_method_that_another_beats_in_both_is_not_on_the_frontier() -> None:
    #        cheap  dear and worse  dear and better  as dear, worse  dearest, equal
    costs = [1.0, 2.0, 3.0, 3.0, 9.0]
    scores = [0.5, 0.4, 0.7, 0.6, 0.7]
    assert frontier(costs, scores) == [0, 2]
    assert frontier([], []) == []
    assert frontier([1.0, 1.0], [0.5, 0.5]) == [0]
