"""Turn the answers to questions, as the source spells them, into answers to the decisions of a task."""

import json
from collections.abc import Mapping, Sequence

from whinchat.data.answer_cells import CellAnswers, cell_reader, question_columns
from whinchat.data.dataset import Answer, Split, certain_answer
from whinchat.data.labels import empty_rows_fault, list_spellings
from whinchat.data.rows import Row
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.question import Question
from whinchat.recipe.task import Task
from whinchat.wording import counted

_SHOWN_FAULTS = 5


class AnswerReader:
    """Reads the answers to the questions of a task from the rows of its source."""

    def __init__(self, task: Task, data: DataConfig) -> None:
        """Read the columns that ``data`` names, which lists every question as ``DataConfig.for_questions`` does."""
        position = {column: index for index, column in enumerate(data.label_columns)}
        self._questions = [
            ([position[column] for column in question_columns(name, question, data)], cell_reader(name, question, data))
            for name, question in task.questions.items()
        ]

    def read(self, row: Row) -> list[CellAnswers]:
        """Return what the row says to each question."""
        return [read([row.cells[index] for index in indices]) for indices, read in self._questions]

    def complete_rows(self, rows: Sequence[Row]) -> list[int]:
        """Return the index of each row with a text and something in the cells of a question."""
        return [
            index
            for index, row in enumerate(rows)
            if row.text.strip() and not all(answers.is_blank for answers in self.read(row))
        ]


def answer_splits(splits: Mapping[str, Sequence[Row]], task: Task, data: DataConfig) -> dict[str, Split]:
    """Return splits with an answer to each decision of ``task``; every row is kept.

    An option is looked up as ``label_splits`` looks up a label, in ``data.answer_map`` and the names of the options.

    Args:
        splits: rows of each split by name, with the cells of ``data.label_columns``.
        task: section of the recipe, with questions.
        data: section of the recipe, as for ``AnswerReader``.

    Raises:
        DataError: there are rows without a text or any answer, unknown options, or cells that cannot be read; the
            message names them.
    """
    reader = AnswerReader(task, data)
    # For each question the rows of each spelling that is no option, and of each fault.
    unknown: dict[str, dict[str, list[Row]]] = {name: {} for name in task.questions}
    unread: dict[str, dict[str, list[Row]]] = {name: {} for name in task.questions}
    without_answer: set[str] = set()
    answered: dict[str, list[tuple[Answer, ...]]] = {}
    for split, rows in splits.items():
        answered[split] = []
        for row in rows:
            found = reader.read(row)
            for name, cells in zip(task.questions, found, strict=True):
                for spelling in cells.unknown:
                    unknown[name].setdefault(spelling, []).append(row)
                if cells.fault:
                    unread[name].setdefault(cells.fault, []).append(row)
            if all(cells.is_blank for cells in found):
                without_answer.add(row.where)
            answered[split].append(tuple(answer for cells in found for answer in cells.answers))
    faults = empty_rows_fault(splits, data.source, lambda row: row.where not in without_answer, "answer")
    for name, question in task.questions.items():
        if unknown[name]:
            faults.append(_explain_unknown(name, question, unknown[name], data))
        if unread[name]:
            faults.append(_explain_unread(name, unread[name], data.source))
    if faults:
        raise DataError(*faults)
    missing = len(task.decisions[0].labels)
    return {
        split: Split(
            split,
            tuple(row.text for row in rows),
            tuple(missing if (first := certain_answer(own[0])) is None else first for own in answered[split]),
            answers=tuple(answered[split]),
        )
        for split, rows in splits.items()
    }


def _explain_unknown(name: str, question: Question, unknown: Mapping[str, Sequence[Row]], data: DataConfig) -> str:
    more = f"is data.answers.{name} the right column"
    example = ", ".join(f"{json.dumps(spelling, ensure_ascii=False)}: OPTION" for spelling in list(unknown)[:2])
    mapped = ", ".join(data.answer_map.get(name, {}))
    noun = "levels" if question.type == "score" else "options"
    cells = ""
    if question.type == "multi":
        cells = f"; a cell holds a JSON list, or options separated by {data.delimiter!r} (data.delimiter)"
    return (
        f"{data.source}: answers to {name} that are not among its {noun} ({', '.join(question.names)}): "
        f"{list_spellings(unknown, question.names, more)}; map each with data.answer_map"
        f"{f' (which has {mapped})' if mapped else ''}, such as "
        f"--set 'data.answer_map.{name}={{{example}}}'{cells}"
    )


def _explain_unread(name: str, unread: Mapping[str, Sequence[Row]], source: str) -> str:
    shown = [
        f"{fault} ({counted(len(rows), 'row')}, first {rows[0].where})"
        for fault, rows in list(unread.items())[:_SHOWN_FAULTS]
    ]
    if len(unread) > _SHOWN_FAULTS:
        shown.append(f"and {len(unread) - _SHOWN_FAULTS} more such faults")
    return (
        f"{source}: answers to {name} that cannot be read: {'; '.join(shown)}; repair such cells, or name the right "
        f"columns with data.answers.{name}"
    )
