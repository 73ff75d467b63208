"""The sample of rows on which costly measurements are made."""

from __future__ import annotations

from whinchat.evaluation.row_sample import sample_rows

TEXTS = [f"text {row}" for row in range(400)]


def test_a_sample_is_spread_over_rows_that_are_sorted_by_label() -> None:
    drawn = sample_rows(TEXTS, 100, seed=0)
    assert drawn == sorted(set(drawn)) == sample_rows(TEXTS, 100, seed=0) != sample_rows(TEXTS, 100, seed=1)
    assert len(drawn) == 100
    for quarter in range(4):
        assert 10 < sum(row // 100 == quarter for row in drawn) < 40


def test_all_rows_where_no_fewer_are_asked_for() -> None:
    for rows in (None, 400, 500):
        assert sample_rows(TEXTS, rows, seed=0) == list(range(400))
    assert sample_rows(TEXTS, 0, seed=0) == []
    assert len(sample_rows(["the same"] * 9, 4, seed=0)) == 4


def test_questions_with_missing_answers_share_most_texts_of_their_samples() -> None:
    answered = [text for row, text in enumerate(TEXTS) if row % 10]
    texts = ({some[row] for row in sample_rows(some, 100, seed=0)} for some in (TEXTS, answered))
    assert len(set.intersection(*texts)) >= 80
