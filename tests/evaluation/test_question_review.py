"""Answers to several decisions are ordered by how much the models disagree beyond what they do about every row."""

from __future__ import annotations

import numpy as np

from whinchat.evaluation.label_noise import find_label_noise
from whinchat.evaluation.question_review import DecisionReview, QuestionReview, disagreements


def test_a_decision_that_was_not_learned_does_not_come_first() -> None:
    # Of the first decision the models know the shares alone; of the second they are sure, and one row is wrong.
    unlearned, rare = np.tile([0.9, 0.1], (10, 1)), np.array([0] * 9 + [1])
    learned, wrong = np.array([[0.95, 0.05]] * 5 + [[0.2, 0.8]] * 5), np.array([0] * 5 + [1] * 4 + [0])
    strongest = []
    for probabilities, given in ((unlearned, rare), (learned, wrong)):
        noise = find_label_noise(probabilities, given)
        found = disagreements(noise, probabilities, given)
        assert int(found.argmax()) == 9
        strongest.append((noise.margins[9], found[9]))
    (rare_margin, rare_strength), (wrong_margin, wrong_strength) = strongest
    assert rare_margin > wrong_margin
    assert rare_strength < wrong_strength
    assert abs(rare_strength) < 1e-12


def test_nothing_disagrees_where_one_label_is_given() -> None:
    probabilities, given = np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0])
    assert disagreements(find_label_noise(probabilities, given), probabilities, given).tolist() == [-1, -1]


def test_the_counts_of_options_are_summed_up() -> None:
    def option(name: str, rows: int, accuracy: float | None) -> DecisionReview:
        return DecisionReview(name, ("no", "yes"), rows, 0, 0, 1.0, accuracy, None, accuracy, (None, None), 2, 3.5, ())

    options = [option("a", 30, 0.9), option("b", 10, 0.5), option("c", 0, None)]
    found = QuestionReview.of_decisions("tags", "multi", options)
    assert (found.answers, found.suspects, found.estimated_errors) == (40, 6, 10.5)
    assert found.accuracy == found.most_frequent == 0.8
    assert QuestionReview.of_decisions("tags", "multi", options[2:]).accuracy is None
