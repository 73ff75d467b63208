"""Make the text of a row from the cells of a table: of one column, or of several by a template."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from string import Formatter
from typing import Self

from whinchat.recipe.data_config import DataConfig, template_columns

# What names the columns of the texts, for messages.
TEXT_COLUMN_KEY = "data.text_column (to predict: --text-column)"
TEXT_TEMPLATE_KEY = "data.text (to predict: --text-column)"


@dataclass(frozen=True)
class TextColumns:
    """The columns of which the text of a row is made.

    Attributes:
        names: the columns, each once.
        template: text with the columns in braces; None where the one column is the text.
    """

    names: tuple[str, ...]
    template: str | None = None

    @classmethod
    def of(cls, data: DataConfig, column: str | None = None) -> Self:
        """Return the columns that ``data`` names, or ``column`` alone where a caller names one."""
        if column is not None or data.text is None:
            return cls((column or data.text_column,))
        return cls.of_template(data.text)

    @classmethod
    def of_template(cls, template: str) -> Self:
        """Return the columns that ``template`` names in braces."""
        return cls(template_columns(template), template)

    @property
    def key(self) -> str:
        """What names the columns in a recipe and on the command line."""
        return TEXT_COLUMN_KEY if self.template is None else TEXT_TEMPLATE_KEY

    @property
    def empty_fault(self) -> str:
        """The fault of a row whose cells hold no text."""
        verb = "holds" if len(self.names) == 1 else "hold"
        return f"{' and '.join(map(repr, self.names))} {verb} nothing"

    def read(self, cells: Sequence[object]) -> tuple[str, str]:
        """Return the text of a row and its fault, one of which is empty.

        A template takes texts, numbers and truth values. An empty cell leaves its place in the template empty, and the
        text begins and ends without white space. A row has no text where all cells are empty.

        Args:
            cells: the cells of ``names``, in their order; None for a missing cell.
        """
        if self.template is None:
            return read_text_cell(cells[0], self.names[0])
        texts = {}
        for name, cell in zip(self.names, cells, strict=True):
            if fault := _part_fault(cell, name):
                return "", fault
            texts[name] = cell_spelling(cell)
        if not any(text.strip() for text in texts.values()):
            return "", self.empty_fault
        # str.format would read {a.b} as an attribute; a column may have such a name.
        parts = Formatter().parse(self.template)
        return "".join(before + (texts[name] if name else "") for before, name, _, _ in parts).strip(), ""


def read_text_cell(value: object, column: str) -> tuple[str, str]:
    """Return the text of a cell and its fault, one of which is empty."""
    fault = text_fault(value, column)
    return ("", fault) if fault else (str(value), "")


def text_fault(value: object, column: str) -> str:
    """Return why a model cannot read a cell as text; empty where it can.

    A blank cell holds nothing: an answer to an empty text means nothing.
    """
    if value is None:
        return TextColumns((column,)).empty_fault
    if not isinstance(value, str):
        return f"{column!r} holds a {type(value).__name__}, not text"
    if not value.strip():
        return TextColumns((column,)).empty_fault
    return surrogate_fault(value, column)


def cell_spelling(value: object) -> str:
    """Return the cell of a label, an answer or a part of a text as a string.

    A missing value (None, or NaN, with which pandas fills gaps among numbers) gives an empty string.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"  # as YAML and JSON spell it
    return str(value)


def surrogate_fault(value: str, column: str) -> str:
    """Return the fault of a text that cannot be encoded; empty where it can."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return f"{column!r} holds half of a surrogate pair, which is no character (often an emoji cut in two)"
    return ""


def _part_fault(value: object, column: str) -> str:
    """Return why a cell cannot be a part of a text; empty where it can, also for a cell without a value."""
    if isinstance(value, str):
        return surrogate_fault(value, column)
    if value is None or isinstance(value, bool | int | float | Decimal):
        return ""
    return f"{column!r} holds a {type(value).__name__}; a part of a text is one text, number or truth value"
