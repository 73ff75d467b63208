"""Look at the columns of a table, and tell which of them may hold the texts and the labels."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whinchat.data.formats.table_registry import open_table
from whinchat.data.rows import SPLIT_NAMES, label_fault
from whinchat.data.text_columns import cell_spelling

# Rows that are looked at, and distinct values of a column that are counted.
_MOST_ROWS, _MOST_VALUES = 20_000, 1_000
# More labels than this do not fit into an instruction, and are rarely labels.
MOST_LABELS = 200
_MOST_NUMBERS = 20
_LONGEST_LABEL = 80
_SPLITS = {spelling for spellings in SPLIT_NAMES.values() for spelling in spellings}
# How the names of columns end that identify a row, a person or a time.
_IDENTIFIER = re.compile(
    r"(?:^|[_\W])(?:id|ids|uuid|guid|nr|no|number|index|key|date|time|timestamp|created|updated|year|zip|phone|url)$"
)
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?!\d)")
_LABEL_NAMES = {
    "label", "labels", "category", "categories", "class", "target", "topic", "intent", "sentiment", "team", "queue",
    "department", "emotion", "feeling",
}  # fmt: skip


@dataclass(frozen=True)
class ColumnProfile:
    """What the first rows of a table hold in one column.

    Attributes:
        name: name of the column.
        rows: number of rows that were looked at.
        filled: how many of the cells hold something.
        distinct: number of different values, at most ``_MOST_VALUES``.
        mean_length: mean number of characters of the filled cells.
        mean_words: mean number of words of the filled cells.
        is_text: every filled cell is a string that reads as no number.
        can_be_label: every filled cell is one text, number or truth value of at most ``_LONGEST_LABEL`` characters.
        is_number: every filled cell is a number, or reads as one.
        is_date: every filled cell begins with a date, such as 2026-01-31 or 31.1.2026.
        names_splits: every filled cell is the name of a split, such as "train" or "dev".
    """

    name: str
    rows: int
    filled: int
    distinct: int
    mean_length: float
    mean_words: float
    is_text: bool
    can_be_label: bool
    is_number: bool
    is_date: bool
    names_splits: bool


def profile_columns(path: Path) -> tuple[ColumnProfile, ...]:
    """Look at the first rows of the table in ``path``; columns without a name of their own are left out.

    Raises:
        DataError: the file cannot be read as a table.
    """
    table = open_table(path, None)
    columns = {name: _Column(name) for name in table.names if name and table.names.count(name) == 1}
    rows = 0
    for location in table.locate_blocks(1_000, lambda _: None):
        block = table.read_block(location)
        readable = [index for index, fault in enumerate(block.faults) if not fault]
        for name, column in columns.items():
            values = table.column_values(block, name)
            for index in readable:
                column.add(values[index])
        rows += len(readable)
        if rows >= _MOST_ROWS:
            break
    return tuple(column.profile(rows) for column in columns.values())


def text_columns(columns: Sequence[ColumnProfile]) -> tuple[ColumnProfile, ...]:
    """Return the columns that may hold the texts, the likeliest first: "text", and then the longest texts."""
    candidates = [
        column for column in columns if column.is_text and column.filled * 2 >= column.rows and not column.names_splits
    ]
    # Names, categories and the like repeat themselves or are a single word.
    written = [column for column in candidates if column.mean_words >= 2 and column.distinct * 4 >= _counted(column)]
    return tuple(sorted(written or candidates, key=lambda column: (column.name != "text", -column.mean_length)))


def label_columns(columns: Sequence[ColumnProfile], text: str) -> tuple[ColumnProfile, ...]:
    """Return the columns that may hold the labels, the likeliest first."""
    candidates = [column for column in columns if column.name != text and _may_be_label(column)]
    return tuple(sorted(candidates, key=lambda column: (not has_label_name(column), column.is_number, column.distinct)))


def has_label_name(column: ColumnProfile) -> bool:
    """Return whether the name of a column says that it holds labels."""
    return not _LABEL_NAMES.isdisjoint(re.findall(r"[^\W_]+", column.name.casefold()))


def _may_be_label(column: ColumnProfile) -> bool:
    return (
        column.can_be_label
        and not (column.names_splits or column.is_date)
        and not (_IDENTIFIER.search(column.name.casefold()) or column.name.endswith(("Id", "ID")))
        and 2 <= column.distinct <= (_MOST_NUMBERS if column.is_number else MOST_LABELS)
        and column.distinct * 2 <= column.filled
        and column.filled * 2 >= column.rows
    )


def _counted(column: ColumnProfile) -> int:
    return min(column.filled, _MOST_VALUES)


class _Column:
    """Collects what the cells of a column have in common."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: Counter[str] = Counter()
        self._filled = self._characters = self._words = self._numbers = self._dates = self._strings = 0
        self._can_be_label = True

    def add(self, value: object) -> None:
        if label_fault(value, self._name):  # a list or an object
            self._can_be_label = False
            self._filled += 1
            return
        if not (spelling := cell_spelling(value).strip()):
            return
        self._filled += 1
        self._strings += isinstance(value, str)
        self._numbers += _is_number(spelling)
        self._dates += _DATE.match(spelling) is not None
        self._characters += len(spelling)
        self._words += len(spelling.split())
        self._can_be_label = self._can_be_label and len(spelling) <= _LONGEST_LABEL
        if spelling in self._values or len(self._values) < _MOST_VALUES:
            self._values[spelling] += 1

    def profile(self, rows: int) -> ColumnProfile:
        filled = max(1, self._filled)
        return ColumnProfile(
            name=self._name,
            rows=rows,
            filled=self._filled,
            distinct=len(self._values),
            mean_length=self._characters / filled,
            mean_words=self._words / filled,
            is_text=self._filled > 0 and self._strings == self._filled and self._numbers < self._filled,
            can_be_label=self._can_be_label,
            is_number=self._filled > 0 and self._numbers == self._filled,
            is_date=self._filled > 0 and self._dates == self._filled,
            names_splits=bool(self._values) and {value.casefold() for value in self._values} <= _SPLITS,
        )


def _is_number(spelling: str) -> bool:
    try:
        float(spelling)
    except ValueError:
        return False
    return True
