"""The columns that labelling adds to a table, filled from the classifier's answers, and counts of the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from whinchat.data.formats.table_format import Block, Columns, ColumnTypes, TableFormat
from whinchat.data.formats.table_registry import open_table
from whinchat.data.text_columns import TextColumns
from whinchat.recipe.question import Question

if TYPE_CHECKING:  # both load torch, and a table is checked before that
    from whinchat.inference.predictor import Predictions
    from whinchat.inference.question_predictor import QuestionPredictions

# Decimal digits of a probability in a file; finer differences are rounding errors of the model.
PROBABILITY_DIGITS = 6


def added_column_types(
    labels: Sequence[str], prefix: str = "", questions: Mapping[str, Question] | None = None
) -> ColumnTypes:
    """Return the names of the columns that labelling adds, in their order, and the type of each column's cells.

    Args:
        labels: the labels of the task.
        prefix: prefix of the names.
        questions: the questions of the task, for a task without labels.
    """
    types: ColumnTypes = {}
    if questions:
        for name, question in questions.items():
            expected = {f"expected_{name}": float} if question.type == "score" else {}
            probabilities = {f"p_{name}_{option}": float for option in question.names}
            types |= {name: str, f"unsure_{name}": bool, **expected, **probabilities}
    else:
        types |= {"label": str, "unsure": bool, **{f"p_{label}": float for label in labels}}
    types["error"] = str
    return {f"{prefix}{name}": cell_type for name, cell_type in types.items()}


def answer_names(labels: Sequence[str], questions: Mapping[str, Question] | None = None) -> list[str]:
    """Return the names by which answers are counted: labels, or for questions such as ``team: returns``."""
    if not questions:
        return list(labels)
    return [f"{name}: {option}" for name, question in questions.items() for option in question.names]


def open_unlabeled(
    path: Path,
    text: TextColumns,
    column_types: ColumnTypes,
    *,
    format_name: str = "auto",
    escape_formulas: bool = False,
) -> TableFormat:
    """Open the table in ``path`` and check that no row has a column that labelling adds.

    ``format_name`` and ``escape_formulas`` are those of ``open_table``.

    Raises:
        DataError: the table cannot be read, or a column of that name is there already.
    """
    table = open_table(path, text, format_name=format_name, escape_formulas=escape_formulas)
    table.require_unused(tuple(column_types))
    return table


@dataclass(frozen=True)
class LabelCounts:
    """Counts over labelled rows.

    Attributes:
        rows: all rows.
        bad: rows that could not be read.
        unsure: rows whose label's probability is below the classifier's threshold, or that of an answer.
        labels: rows of each label, in the order of the recipe's labels; for a task with questions, of each answer.
        repeated: rows whose text, once cleaned, is that of an earlier row of the same part. Its answer is computed
            once.
        by_student: texts that the student of a cascade answers, repeated ones included.
    """

    rows: int
    bad: int
    unsure: int
    labels: dict[str, int]
    repeated: int = 0
    by_student: int = 0

    @classmethod
    def of(cls, block: Block, predictions: Predictions | QuestionPredictions | None, repeated: int = 0) -> LabelCounts:
        """Count the rows of ``block``, whose readable texts have ``predictions``."""
        labels, unsure = ({}, 0) if predictions is None else predictions.count()
        student = None if predictions is None else predictions.by_student
        by_student = 0 if student is None else int(student.sum())
        return cls(len(block.faults), sum(map(bool, block.faults)), unsure, labels, repeated, by_student)

    @classmethod
    def total(cls, parts: Sequence[LabelCounts], labels: Sequence[str]) -> LabelCounts:
        """Add up ``parts``; a label that no row has counts zero."""
        by_label = {label: sum(part.labels.get(label, 0) for part in parts) for label in labels}
        rows, bad = sum(part.rows for part in parts), sum(part.bad for part in parts)
        unsure, repeated = sum(part.unsure for part in parts), sum(part.repeated for part in parts)
        return cls(rows, bad, unsure, by_label, repeated, sum(part.by_student for part in parts))


def readable_texts(block: Block) -> list[str]:
    """Return the texts of the rows of ``block`` that could be read."""
    return [text for text, fault in zip(block.texts, block.faults, strict=True) if not fault]


def with_prompt_faults(block: Block, find_fault: Callable[[str], str]) -> Block:
    """Return ``block`` with a fault for each row for whose text ``find_fault`` finds that there is no prompt."""
    faults = (fault or find_fault(text) for text, fault in zip(block.texts, block.faults, strict=True))
    return replace(block, faults=tuple(faults))


def added_columns(
    block: Block, column_types: ColumnTypes, predictions: Predictions | QuestionPredictions | None
) -> Columns:
    """Return a cell of each added column for every row of ``block``.

    Args:
        block: rows of the table.
        column_types: names of the columns, from ``added_column_types``.
        predictions: the classifier's answers to ``readable_texts(block)``; None where no row could be read.

    Returns:
        The columns; a row that could not be read has its fault in the last column and None in all others.
    """
    columns: Columns = {name: [None] * len(block.faults) for name in column_types}
    *answers, errors = columns.values()
    errors[:] = block.faults
    if predictions is not None:
        readable_rows = [row for row, fault in enumerate(block.faults) if not fault]
        for column, cells in zip(answers, predictions.cells(), strict=True):
            for row, cell in zip(readable_rows, cells, strict=True):
                column[row] = cell
    return columns
