"""Print the findings of reviews."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.text import Text

import whinchat
from whinchat.cli.output import out, print_grid, print_line
from whinchat.report.formatting import format_count, format_duration, format_number, format_percent
from whinchat.wording import counted

# Pairs of labels that a review shows.
_LABEL_PAIRS = 6
_ROW_COLUMNS = ("row", "label", "p", "model says", "p", "text")


def print_review(
    review: whinchat.Review | whinchat.QuestionsReview,
    rows: Sequence[whinchat.ReviewedRow] | Sequence[whinchat.ReviewedAnswer],
    table: Path,
) -> None:
    """Print the ``rows`` to look at first, and how many labels are probably wrong.

    Args:
        review: the summary.
        rows: the training rows, or the answers, to show.
        table: the file that holds all of them.
    """
    if isinstance(review, whinchat.QuestionsReview):
        _print_questions(review, rows)
    else:
        _print_labels(review, rows)
    if review.learned_texts:
        print_line(
            f"The model had learned {counted(review.learned_texts, 'text')} of these before the review, so it agrees "
            "too readily with their labels."
        )
    print_line(f"All rows: {table}")


def _print_labels(review: whinchat.Review, rows: Sequence[whinchat.ReviewedRow | whinchat.ReviewedAnswer]) -> None:
    if rows:
        print_grid(_ROW_COLUMNS, map(_row_cells, rows), "Labels to look at first")
    share = review.estimated_errors / review.rows
    out.print(
        f"{format_count(review.suspects)} of {format_count(review.rows)} labels look wrong; the estimate for all rows "
        f"is {format_count(round(review.estimated_errors))} wrong labels ({format_percent(share)}).",
        soft_wrap=True,
    )
    if review.pairs:
        pairs = review.pairs[:_LABEL_PAIRS]
        pair_rows = ((Text(pair.given), Text(pair.suspected), format_count(pair.rows)) for pair in pairs)
        print_grid(("label", "looks like", "rows"), pair_rows)
    out.print(
        f"The models of the {len(review.folds)} folds reach macro-F1 {format_number(review.macro_f1)} and accuracy "
        f"{format_number(review.accuracy)} against the labels in the data{_took(review.seconds)}.",
        soft_wrap=True,
    )


def _print_questions(
    review: whinchat.QuestionsReview, rows: Sequence[whinchat.ReviewedRow | whinchat.ReviewedAnswer]
) -> None:
    answers = [row for row in rows if isinstance(row, whinchat.ReviewedAnswer)]
    if answers:
        cells = ((Text(_title(row.question, row.option)), *_row_cells(row)) for row in answers)
        print_grid(("question", *_ROW_COLUMNS), cells, "Answers to look at first")
    questions = (
        (
            Text(question.name),
            format_count(question.answers),
            format_count(question.suspects),
            f"{format_count(round(question.estimated_errors))} "
            f"({format_percent(question.estimated_errors / max(1, question.answers))})",
            format_number(question.accuracy),
            format_number(question.most_frequent),
        )
        for question in review.questions
    )
    columns = (
        "question", "reviewed answers", "look wrong", "estimated wrong answers", "accuracy of the models",
        "of the most frequent answer",
    )  # fmt: skip
    print_grid(columns, questions)
    pairs = [
        (_title(question.name, decision.option), pair)
        for question in review.questions
        for decision in question.decisions
        for pair in decision.pairs
    ]
    if pairs:
        most = sorted(pairs, key=lambda titled: -titled[1].rows)[:_LABEL_PAIRS]
        pair_rows = ((Text(title), Text(one.given), Text(one.suspected), format_count(one.rows)) for title, one in most)
        print_grid(("question", "label", "looks like", "rows"), pair_rows)
    for question in review.questions:
        if question.most_frequent == 1:
            print_line(f"{question.name}: the reviewed answers are all alike, so a review can find none of them wrong.")
        elif question.accuracy is not None and question.accuracy <= (question.most_frequent or 0.0):
            out.print(
                f"[bold red]warning:[/] {escape(question.name)}: the models answer no better than the most frequent "
                "answer, so they cannot tell which answers are wrong. Train longer or on more rows.",
                soft_wrap=True,
            )
        if shares := sum(decision.shares for decision in question.decisions):
            print_line(f"{question.name}: {format_count(shares)} answers are shares, which a review leaves out.")
    print_line(
        f"The models of the {len(review.folds)} folds were not trained on the rows they judge{_took(review.seconds)}."
    )


def _took(seconds: float | None) -> str:
    """Return how long a review took, for the end of a sentence; nothing for a review that was resumed."""
    return "" if seconds is None else f"; the review took {format_duration(seconds)}"


def _title(question: str, option: str | None) -> str:
    return question if option is None else f"{question}: {option}"


def _row_cells(row: whinchat.ReviewedRow | whinchat.ReviewedAnswer) -> tuple[str | Text, ...]:
    label = (Text(row.label), format_number(row.label_probability))
    model_label = (Text(row.model_label), format_number(row.model_probability))
    # The text stands on one line: a line break in it would look like the next row.
    return str(row.row), *label, *model_label, Text(" ".join(row.text.split()))
