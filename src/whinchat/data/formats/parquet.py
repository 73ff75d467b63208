"""Parquet tables."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from whinchat.data.formats.table_format import Block, BlockLocation, Columns, ColumnTypes, TableFormat, read_text_cell
from whinchat.data.rows import Row, labelled_rows, require_column, require_columns
from whinchat.errors import DataError
from whinchat.recipe.schema import DataConfig

_ARROW_TYPES = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}


class ParquetFormat(TableFormat):
    """A Parquet file; a labelled table has a row group for each part."""

    name = "parquet"
    suffixes = (".parquet",)

    @classmethod
    def read_labelled_rows(cls, path: Path, data: DataConfig) -> tuple[Row, ...]:
        """Read the rows, with the label names that ``datasets`` stored beside integers; see the base class."""
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                require_columns(data, file.schema_arrow.names, str(path))
                table = file.read(columns=[data.text_column, data.label_column])
                class_names = _stored_class_names(file.schema_arrow.metadata, data.label_column)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; check data.source") from None
        except (pyarrow.ArrowException, OSError) as fault:
            raise DataError(f"{_unreadable(path, fault)}; write it again") from fault
        texts, labels = table[data.text_column].to_pylist(), table[data.label_column].to_pylist()
        return labelled_rows(texts, labels, class_names, data, str(path))

    def read_columns(self) -> tuple[str, ...]:
        try:
            names = tuple(pyarrow.parquet.read_schema(self.path).names)
        except (pyarrow.ArrowException, OSError) as fault:
            raise DataError(_unreadable(self.path, fault)) from None
        require_column(self.text_column, names, "--text-column", str(self.path))
        return names

    def locate_blocks(self, rows: int, on_bytes: Callable[[int], object]) -> Iterator[BlockLocation]:
        """Yield blocks from the file's own index, without reading rows; no block spans two row groups."""
        number = 0
        metadata = pyarrow.parquet.read_metadata(self.path)
        for group in range(metadata.num_row_groups):
            group_rows = metadata.row_group(group).num_rows
            for first in range(0, group_rows, rows):
                yield BlockLocation(number, (group, first), min(rows, group_rows - first))
                number += 1

    def read_block(self, location: BlockLocation) -> Block:
        """Read the row group in batches up to the end of the block, so that memory does not grow with the group."""
        group, first = location.start
        end = first + location.rows
        with pyarrow.parquet.ParquetFile(self.path) as file:
            batch_start, slices = 0, []
            for batch in file.iter_batches(batch_size=location.rows, row_groups=[group]):
                low, high = max(first, batch_start), min(end, batch_start + len(batch))
                if low < high:
                    slices.append(batch.slice(low - batch_start, high - low))
                batch_start += len(batch)
                if batch_start >= end:
                    break
            table = pyarrow.Table.from_batches(slices, file.schema_arrow)
        cells = (read_text_cell(value, self.text_column) for value in table[self.text_column].to_pylist())
        texts, faults = zip(*cells, strict=True)
        return Block(table, texts, faults)

    def write_part(self, path: Path, block: Block, columns: Columns, column_types: ColumnTypes) -> None:
        table = block.rows
        for field in _arrow_fields(column_types):
            table = table.append_column(field, pyarrow.array(columns[field.name], field.type))
        pyarrow.parquet.write_table(table, path)

    def join_parts(self, parts: Sequence[Path], path: Path, column_types: ColumnTypes) -> None:
        schema = pyarrow.parquet.read_schema(self.path)
        for field in _arrow_fields(column_types):
            schema = schema.append(field)
        with pyarrow.parquet.ParquetWriter(path, schema) as out:
            for part in parts:
                out.write_table(pyarrow.parquet.read_table(part, schema=schema))


def _unreadable(path: Path, fault: Exception) -> str:
    return f"{path}: cannot be read as Parquet ({' '.join(str(fault).split())})"


def _stored_class_names(metadata: dict[bytes, bytes] | None, column: str) -> list[str] | None:
    """Return the names of a ClassLabel column, which ``datasets`` stores in the metadata of the schema."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _arrow_fields(column_types: ColumnTypes) -> list[Any]:
    return [pyarrow.field(name, _ARROW_TYPES[cell_type]) for name, cell_type in column_types.items()]
