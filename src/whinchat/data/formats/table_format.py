"""The contract of a table format: labelled rows for training, and blocks of rows for prediction.

``docs/how-to/add-a-table-format.md`` shows how to add a format.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from whinchat.data.rows import NAME_COLUMNS, Row, labelled_row, require_column, require_columns, require_rows
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError
from whinchat.recipe.data_config import DataConfig

# Rows that are read together for training.
_ROWS_PER_BLOCK = 1000
# Rows that cannot be read which an error lists.
_SHOWN_FAULTS = 5
PREFIX_ADVICE = "choose a prefix for the added columns (--prefix)"


@dataclass(frozen=True)
class BlockLocation:
    """Where a block of consecutive rows is in its table.

    Attributes:
        number: position of the block among the blocks of the table, from 0.
        start: where the block begins, in the format's own terms: the position of its reader in a text file, (row
            group, row in the group, rows before) in a Parquet file.
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
        numbers: where each row begins in the file: its line or row number, from 1.
    """

    rows: Any
    texts: tuple[str, ...]
    faults: tuple[str, ...]
    numbers: tuple[int, ...]


# Added columns: the type of the cells (str, float or bool) by name, and the cells of a block by name, with None for an
# empty cell.
ColumnTypes = dict[str, type]
Columns = dict[str, list[Any]]


class TableFormat(ABC):
    """A format of table files, such as CSV.

    An instance is one open table, which is read block by block. Training and prediction read the same blocks.
    Prediction neither loses nor moves a row; a row that cannot be read is written back as it is, with its fault in an
    added column. For training and evaluation, such a row is an error.

    Class attributes:
        name: the value of ``data.format`` that chooses this format in a recipe; CSV and TSV share "csv".
        suffixes: endings of the format's file names, in lower case and with the dot.
        before_number: what stands between path and number where a message names a row, such as ``my.csv:12``.

    Attributes:
        path: the file.
        text: the columns with the texts, whose ``read`` makes a text of their cells; None to look at the other columns,
            with an empty text for each row.
        escape_formulas: whether cells that a spreadsheet would run as formulas are written with an apostrophe before
            them, in the formats that spreadsheets open as text.
        names: the columns of the table, from ``read_columns``.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    before_number: ClassVar[str] = " row "

    def __init__(self, path: Path, text: TextColumns | None, *, escape_formulas: bool = False) -> None:
        self.path = path
        self.text = text
        self.escape_formulas = escape_formulas
        self.names: tuple[str, ...] = ()
        self.names = self.read_columns()

    @classmethod
    def read_labelled_rows(cls, path: Path, data: DataConfig) -> tuple[Row, ...]:
        """Read the text and the label of every row of the file at ``path``, for training or evaluation.

        With ``data.answers``, the cells of all answers take the place of the label. A row without a text or a label has
        an empty string there, so that all such rows can be reported together.

        Raises:
            DataError: the file or rows of it cannot be read, a column that ``data`` names is missing, or there are no
                rows. The message names the file and the rows.
        """
        if names := cls(path, None).names:
            require_columns(data, names, str(path))
        table = cls(path, TextColumns.of(data))
        locations = table.locate_blocks(_ROWS_PER_BLOCK, lambda _: None)
        faults: list[str] = []
        rows = [row for place in locations for row in table._labelled_rows(table.read_block(place), data, faults)]
        if (more := len(faults) - _SHOWN_FAULTS) > 0:
            faults[_SHOWN_FAULTS:] = [f"{path}: and {more} more rows that cannot be read"]
        if faults:
            raise DataError(*faults)
        return require_rows(rows, str(path))

    def _labelled_rows(self, block: Block, data: DataConfig, faults: list[str]) -> Iterator[Row]:
        """Yield the rows that can be read, and add the faults of the others to ``faults``."""
        origin = f"{self.path}{self.before_number}"
        labels = zip(*(self.column_values(block, column) for column in data.label_columns), strict=True)
        empty = TextColumns.of(data).empty_fault
        for number, text, fault, cells in zip(block.numbers, block.texts, block.faults, labels, strict=True):
            if fault and fault != empty:
                faults.append(f"{origin}{number}: {fault}; {self.repair_advice(fault)}")
                continue
            try:
                row = labelled_row(text, fault, cells, data, origin, number)
            except DataError as error:
                faults += error.faults
            else:
                yield row

    def require_text(self, names: Sequence[str], where: str) -> None:
        """Check that each column of ``text`` is once among ``names``, the columns of the table.

        Raises:
            DataError: the message begins with ``where``.
        """
        if self.text is not None:
            for column in self.text.names:
                require_column(column, names, self.text.key, where)

    def repair_advice(self, fault: str) -> str:
        """Return what to do about the ``fault`` of a row."""
        return f"repair or remove that row, or name {NAME_COLUMNS}"

    def require_unused(self, columns: Sequence[str]) -> None:
        """Check that no row has one of ``columns``, the names of columns to add.

        Raises:
            DataError: the table has such a column.
        """
        if taken := [name for name in columns if name in self.names]:
            raise DataError(f"{self.path}: has a column {taken[0]!r} already; {PREFIX_ADVICE}")

    @abstractmethod
    def read_columns(self) -> tuple[str, ...]:
        """Return the names of the columns; in a format whose rows may differ in their columns, those of the first row.

        Raises:
            DataError: the file cannot be read, or the format has fixed columns and a column of ``text`` is not among
                them.
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
    def column_values(self, block: Block, column: str) -> Sequence[object]:
        """Return the cell of each row of ``block`` in ``column``; None for a row without such a cell.

        The cell of a row with a fault may be anything, and is not used.
        """

    @abstractmethod
    def write_part(self, path: Path, block: Block, columns: Columns, column_types: ColumnTypes) -> None:
        """Write the rows of ``block``, with the added ``columns`` at the end, as the file ``path``.

        Raises:
            DataError: an added column would overwrite a value of a row.
        """

    @abstractmethod
    def count_rows(self, path: Path) -> int:
        """Count the rows of the labelled table at ``path`` in another way than ``locate_blocks``, to check the work."""

    @abstractmethod
    def join_parts(self, parts: Sequence[Path], path: Path, column_types: ColumnTypes) -> None:
        """Write the whole table to ``path`` from the files that ``write_part`` wrote, in order; there may be none."""
