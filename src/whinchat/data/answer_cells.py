"""Read the answers to one question from the cells of a row."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from whinchat.data.dataset import Answer
from whinchat.data.labels import label_indices
from whinchat.data.rows import label_fault
from whinchat.data.text_columns import cell_spelling
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.question import Question

# How sources spell the options no and yes besides their names.
_TRUTH = {"false": 0, "true": 1, "0": 0, "1": 1}
# A whole number as pandas writes it where the column has gaps.
_WHOLE_NUMBER = re.compile(r"(-?\d+)\.0+")
# By how much rounded shares of many options may miss 1.
_ROUNDING = 0.05


class CellAnswers(NamedTuple):
    """What the cells of a row say to one question.

    Attributes:
        answers: the answer to each decision of the question.
        unknown: spellings that are no option.
        fault: why a cell cannot be read; empty where all can.
    """

    answers: tuple[Answer, ...]
    unknown: tuple[str, ...] = ()
    fault: str = ""

    @property
    def is_blank(self) -> bool:
        """Whether the cells hold nothing."""
        return not self.unknown and not self.fault and all(answer is None for answer in self.answers)


# Reads the cells of the columns of a question, in their order.
CellReader = Callable[[Sequence[object]], CellAnswers]


class _CellFaultError(Exception):
    """A cell cannot be read; the message says why."""


def question_columns(name: str, question: Question, data: DataConfig) -> tuple[str, ...]:
    """Return the columns with the answers to the question called ``name``, in the order of its options."""
    columns = data.answer_columns(name)
    if isinstance(columns, str):
        return (columns,)
    return tuple(columns[option] for option in question.names if option in columns)


def cell_reader(name: str, question: Question, data: DataConfig) -> CellReader:
    """Return what reads the cells of ``question_columns`` for the question called ``name``."""
    columns = question_columns(name, question, data)
    if isinstance(data.answer_columns(name), dict):
        one_by_one = question.type == "multi" or len(columns) == 1
        return partial(_read_each_share if one_by_one else read_shares, columns)
    options = _Options(question, data.answer_map.get(name, {}))
    if question.type == "multi":
        return partial(_read_list, options, data.delimiter, columns[0])
    return partial(_read_option, options, columns[0])


class _Options:
    """Finds the option that a spelling means: by ``data.answer_map`` and the names, exactly, then without case."""

    def __init__(self, question: Question, mapped: Mapping[str, str]) -> None:
        self.count = len(question.names)
        self._exact, folded = label_indices(question.names, mapped)
        self._folded = (_TRUTH | folded) if question.type == "yes_no" else folded
        self.reads_blank = "" in self._exact

    def find(self, spelling: str) -> int | None:
        """Return the index of the option, or None where there is none."""
        forms = [spelling]
        if whole := _WHOLE_NUMBER.fullmatch(spelling):
            forms.append(whole[1])
        indices = (self._exact.get(form, self._folded.get(form.casefold())) for form in forms)
        return next((index for index in indices if index is not None), None)


def _spelling(cell: object, column: str) -> str:
    if fault := label_fault(cell, column, "answer"):
        raise _CellFaultError(fault)
    return cell_spelling(cell).strip()


def _read_option(options: _Options, column: str, cells: Sequence[object]) -> CellAnswers:
    """Read a cell with one option; an empty cell is a missing answer."""
    try:
        spelling = _spelling(cells[0], column)
    except _CellFaultError as fault:
        return CellAnswers((None,), fault=str(fault))
    index = options.find(spelling)
    return CellAnswers((index,), (spelling,) if spelling and index is None else ())


def _read_list(options: _Options, delimiter: str, column: str, cells: Sequence[object]) -> CellAnswers:
    """Read a cell with any number of options: a list, a JSON list in a text, or options with a delimiter between.

    An empty list says that no option applies; an empty cell is a missing answer to all.
    """
    missing: tuple[Answer, ...] = (None,) * options.count
    try:
        spellings = _listed(cells[0], delimiter, column, reads_blank=options.reads_blank)
    except _CellFaultError as fault:
        return CellAnswers(missing, fault=str(fault))
    if spellings is None:
        return CellAnswers(missing)
    found = {spelling: options.find(spelling) for spelling in spellings}
    if unknown := tuple(spelling for spelling, index in found.items() if index is None):
        return CellAnswers(missing, unknown)
    applying = set(found.values())
    return CellAnswers(tuple(int(index in applying) for index in range(options.count)))


def _listed(cell: object, delimiter: str, column: str, *, reads_blank: bool) -> list[str] | None:
    """Return the spellings that a cell of a multi question lists; None for an empty cell.

    Args:
        cell: the cell.
        delimiter: ``data.delimiter`` of the recipe.
        column: name of the column, for messages.
        reads_blank: whether ``data.answer_map`` makes an option of an empty cell.

    Raises:
        _CellFaultError: the cell, or an item of its list, is of the wrong kind or holds nothing.
    """
    items = cell if isinstance(cell, list) else _json_list(cell)
    if items is None:
        text = _spelling(cell, column)
        if not text:
            return [""] if reads_blank else None
        spellings = [part.strip() for part in text.split(delimiter) if part.strip()]
        if not spellings:
            raise _CellFaultError(f"{column!r} holds {text!r}, which names no option; [] says that none applies")
        return spellings
    spellings = [_spelling(item, column) for item in items]
    if "" in spellings and not reads_blank:
        raise _CellFaultError(f"{column!r} holds a list with an empty item; an empty list says that no option applies")
    return spellings


def _json_list(cell: object) -> list[object] | None:
    if not (isinstance(cell, str) and cell.lstrip().startswith("[")):
        return None
    try:
        items = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    return items if isinstance(items, list) else None


def _share(value: object, column: str) -> float | None:
    """Return a share of an option; None for an empty cell.

    Raises:
        _CellFaultError: the cell holds no finite number of zero or more, and no truth value.
    """
    spelling = _spelling(value, column)
    if not spelling:
        return None
    truth = {"false": 0.0, "true": 1.0}.get(spelling.casefold())
    if truth is not None:
        return truth
    try:
        # Python, unlike other programs, reads 1_0 as a number.
        share = math.nan if "_" in spelling else float(value if isinstance(value, Decimal) else spelling)
    except (ValueError, OverflowError):
        share = math.nan
    if not (math.isfinite(share) and share >= 0):
        raise _CellFaultError(f"{column!r} holds {spelling[:60]!r}; a share is a number of zero or more")
    return share


def read_shares(columns: Sequence[str], cells: Sequence[object]) -> CellAnswers:
    """Read a column for each option, of which one is right: shares, which sum to 1, or numbers of raters.

    Where some cells are empty, nobody chose these options. Where all are empty or zero, the answer is missing. Shares
    that lack a part, such as that of another option, are a fault: scaled up, they would say what nobody said.
    """
    try:
        shares = [_share(cell, column) or 0.0 for column, cell in zip(columns, cells, strict=True)]
    except _CellFaultError as fault:
        return CellAnswers((None,), fault=str(fault))
    if not (total := sum(shares)):
        return CellAnswers((None,))
    wrong = ""
    if math.isinf(total):
        wrong = "whose sum is too large for a number"
    elif abs(total - 1) > _ROUNDING and max(shares) <= 1 and any(share % 1 for share in shares):
        wrong = f"that sum to {total:.3g} instead of 1"
    if wrong:
        return CellAnswers((None,), fault=f"{', '.join(map(repr, columns))} hold shares {wrong}")
    chosen = [index for index, share in enumerate(shares) if share]
    return CellAnswers((chosen[0] if len(chosen) == 1 else tuple(share / total for share in shares),))


def _read_each_share(columns: Sequence[str], cells: Sequence[object]) -> CellAnswers:
    """Read a column for each option, which applies or not by itself: the share of those who say that the option does.

    Zero and one, or truth values, are certain answers; an empty cell is a missing one.
    """
    answers: list[Answer] = []
    try:
        for column, cell in zip(columns, cells, strict=True):
            share = _share(cell, column)
            if share is not None and share > 1:
                raise _CellFaultError(f"{column!r} holds {share:g}; the share of an option is from 0 to 1")
            if share is None or 0 < share < 1:
                answers.append(None if share is None else (1 - share, share))
            else:
                answers.append(int(share))
    except _CellFaultError as fault:
        return CellAnswers((None,) * len(columns), fault=str(fault))
    return CellAnswers(tuple(answers))
