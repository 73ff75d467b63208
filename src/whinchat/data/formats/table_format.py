"""The contract of a table format: labelled rows for training, and blocks of rows for prediction.

``docs/how-to/add-a-table-format.md`` shows how to add a format.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from whinchat.data.rows import Row, text_fault
from whinchat.recipe.schema import DataConfig


@dataclass(frozen=True)
class BlockLocation:
    """Where a block of consecutive rows is in its table.

    Attributes:
        number: position of the block among the blocks of the table, from 0.
        start: where the block begins, in the format's own terms: (byte offset,) in a text file, (row group, row in the
            group) in a Parquet file.
        rows: number of rows.
    """

    number: int
    start: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a table.

    Attributes:
        rows: the rows in the format's own representation; only the format that read them looks inside.
        texts: the text of each row; empty where the row cannot be read.
        faults: the fault of each row; empty for a row without one.
    """

    rows: Any
    texts: tuple[str, ...]
    faults: tuple[str, ...]


# Added columns: the type of the cells (str, float or bool) by name, and the cells of a block by name, with None for an
# empty cell.
ColumnTypes = dict[str, type]
Columns = dict[str, list[Any]]


class TableFormat(ABC):
    """A format of table files, such as CSV.

    The class reads files for training and evaluation: strictly, so that a bad row is an error. An instance is one open
    table that is predicted on, block by block: no row is lost or moved, and a row that cannot be read is written back
    as it is, with its fault in an added column.

    Class attributes:
        name: the value of ``data.format`` that chooses this format in a recipe; CSV and TSV share "csv".
        suffixes: endings of the format's file names, in lower case and with the dot.

    Attributes:
        path: the file.
        text_column: name of the column with the texts.
        names: the columns of the table, from ``read_columns``.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def __init__(self, path: Path, text_column: str) -> None:
        self.path = path
        self.text_column = text_column
        self.names = self.read_columns()

    @classmethod
    @abstractmethod
    def read_labelled_rows(cls, path: Path, data: DataConfig) -> tuple[Row, ...]:
        """Read the text and the label of every row of the file at ``path``, for training or evaluation.

        Raises:
            DataError: the file or a row of it cannot be read, ``data.text_column`` or ``data.label_column`` is missing,
                or there are no rows. The message names the file and the row.
        """

    @abstractmethod
    def read_columns(self) -> tuple[str, ...]:
        """Return the names of the columns; in a format whose rows may differ in their columns, those of the first row.

        Raises:
            DataError: the file cannot be read, or the format has fixed columns and ``text_column`` is not among them.
        """

    @abstractmethod
    def locate_blocks(self, rows: int, on_bytes: Callable[[int], object]) -> Iterator[BlockLocation]:
        """Yield the locations of blocks of ``rows`` rows, in order; a block may be shorter, but never empty.

        ``on_bytes`` is called with the number of bytes read since the last call, to show progress.
        """

    @abstractmethod
    def read_block(self, location: BlockLocation) -> Block:
        """Read one block. Blocks may be read in any order and by several processes."""

    @abstractmethod
    def write_part(self, path: Path, block: Block, columns: Columns, column_types: ColumnTypes) -> None:
        """Write the rows of ``block``, with the added ``columns`` at the end, as the file ``path``.

        Raises:
            DataError: an added column would overwrite a value of a row.
        """

    @abstractmethod
    def join_parts(self, parts: Sequence[Path], path: Path, column_types: ColumnTypes) -> None:
        """Write the whole table to ``path`` from the files that ``write_part`` wrote, in order; there may be none."""


def read_text_cell(value: object, column: str) -> tuple[str, str]:
    """Return the text of a cell and its fault, one of which is empty."""
    fault = f"{column!r} holds nothing" if value is None else text_fault(value, column)
    return ("", fault) if fault else (str(value), "")
