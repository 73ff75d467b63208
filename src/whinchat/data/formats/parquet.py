"""Parquet tables."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from whinchat.data.formats.table_format import (
    Block,
    BlockLocation,
    Columns,
    ColumnTypes,
    TableFormat,
)
from whinchat.data.rows import class_names_for, reading
from whinchat.data.text_columns import TextColumns
from whinchat.errors import DataError

_ARROW_TYPES = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}


class ParquetFormat(TableFormat):
    """A Parquet file; a labelled table has a row group for each part."""

    name = "parquet"
    suffixes = (".parquet",)

    # Where the last block ended: its row group, the next row in the group, the rest of the batch, and further batches.
    _group = -1
    _next_row = 0
    _rest: Any = None
    _batches: Iterator[Any] = iter(())

    def read_columns(self) -> tuple[str, ...]:
        with _reading_parquet(self.path):
            schema = pyarrow.parquet.read_schema(self.path)
        self._class_names = _stored_class_names(schema.metadata)
        self.require_text(schema.names, str(self.path))
        if self.text is not None and self.text.template is None:
            (column,) = self.text.names
            text_type = schema.field(column).type
            if not _holds_text(text_type):
                raise DataError(
                    f"{self.path}: {column!r} holds {text_type}, not text; name the column of the texts with "
                    f"{self.text.key}"
                )
        return tuple(schema.names)

    def locate_blocks(self, rows: int, on_bytes: Callable[[int], object]) -> Iterator[BlockLocation]:
        """Yield blocks from the file's own index, without reading rows; no block spans two row groups."""
        number, rows_before = 0, 0
        with _reading_parquet(self.path):
            metadata = pyarrow.parquet.read_metadata(self.path)
        for group in range(metadata.num_row_groups):
            group_rows = metadata.row_group(group).num_rows
            for first in range(0, group_rows, rows):
                yield BlockLocation(number, (group, first, rows_before + first), min(rows, group_rows - first))
                number += 1
            rows_before += group_rows

    def read_block(self, location: BlockLocation) -> Block:
        """Read the block in batches, going on where the last block ended: each row group is read once, in order."""
        group, first, rows_before = location.start
        end = first + location.rows
        slices = []
        with _reading_parquet(self.path):
            if group != self._group or first < self._next_row:
                file = pyarrow.parquet.ParquetFile(self.path)
                self._batches = file.iter_batches(batch_size=location.rows, row_groups=[group])
                self._group, self._next_row, self._rest = group, 0, None
            while self._next_row < end:
                batch = next(self._batches, None) if self._rest is None else self._rest
                if batch is None:
                    raise DataError(f"{self.path}: has fewer rows than its index says; write the file again")
                low, high = max(first - self._next_row, 0), min(end - self._next_row, len(batch))
                if low < high:
                    slices.append(batch.slice(low, high - low))
                self._rest = batch.slice(high) if high < len(batch) else None
                self._next_row += high
            table = pyarrow.Table.from_batches(slices)
        cells = [("", "")] * location.rows
        if self.text is not None:
            columns = [table[name] for name in self.text.names]
            cells = [_read_text(values, self.text) for values in zip(*columns, strict=True)]
        texts, faults = zip(*cells, strict=True)
        return Block(table, texts, faults, tuple(range(rows_before + 1, rows_before + 1 + location.rows)))

    def column_values(self, block: Block, column: str) -> Sequence[object]:
        """Return the cells, with the label names that ``datasets`` stored beside integers; see the base class."""
        with _reading_parquet(self.path):
            values = block.rows[column].to_pylist()
        return class_names_for(values, self._class_names.get(column, ()))

    def write_part(self, path: Path, block: Block, columns: Columns, column_types: ColumnTypes) -> None:
        table = block.rows
        for field in _arrow_fields(column_types):
            table = table.append_column(field, pyarrow.array(columns[field.name], field.type))
        pyarrow.parquet.write_table(table, path)

    def count_rows(self, path: Path) -> int:
        with _reading_parquet(path):
            return int(pyarrow.parquet.read_metadata(path).num_rows)

    def join_parts(self, parts: Sequence[Path], path: Path, column_types: ColumnTypes) -> None:
        schema = pyarrow.parquet.read_schema(self.path)
        for field in _arrow_fields(column_types):
            schema = schema.append(field)
        with pyarrow.parquet.ParquetWriter(path, schema) as out:
            for part in parts:
                out.write_table(pyarrow.parquet.read_table(part, schema=schema))


@contextmanager
def _reading_parquet(path: Path) -> Iterator[None]:
    with reading(path):
        try:
            yield
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as fault:
            if isinstance(fault, OSError) and fault.errno is not None:  # of the operating system, not of pyarrow
                raise
            reason = " ".join(str(fault).split())
            raise DataError(f"{path}: cannot be read as Parquet ({reason}); write the file again") from fault


def _read_text(values: Sequence[Any], text: TextColumns) -> tuple[str, str]:
    try:
        return text.read([value.as_py() for value in values])
    except UnicodeDecodeError as error:
        return "", f"not UTF-8 (byte 0x{error.object[error.start]:02x})"


def _holds_text(data_type: Any) -> bool:
    types = pyarrow.types
    if types.is_dictionary(data_type):
        data_type = data_type.value_type
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    return any(test(data_type) for test in tests)


def _stored_class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the names of each column of ClassLabels, or of lists of them, from the metadata of ``datasets``."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        listed = {column: _of_items(feature).get("names") for column, feature in features.items()}
    except (LookupError, TypeError, AttributeError, ValueError):
        return {}
    return {column: list(map(str, names)) for column, names in listed.items() if isinstance(names, list)}


def _of_items(feature: Any) -> Any:
    """Return the feature of the items of a list, in any of the forms in which ``datasets`` stores one."""
    return feature[0] if isinstance(feature, list) else feature.get("feature", feature)


def _arrow_fields(column_types: ColumnTypes) -> list[Any]:
    return [pyarrow.field(name, _ARROW_TYPES[cell_type]) for name, cell_type in column_types.items()]
