"""Parquet tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from whinchat.data.formats.table_format import Block, BlockLocation, Columns, ColumnTypes, TableFormat, text_cell
from whinchat.data.rows import require_column
from whinchat.errors import DataError


class ParquetFormat(TableFormat):
    """A Parquet file; the added columns come last."""

    suffix = ".parquet"

    def columns(self) -> tuple[str, ...]:
        """Those of the schema.

        Raises:
            DataError: not a Parquet file, or the texts' column is not in it.
        """
        try:
            names = tuple(pyarrow.parquet.read_schema(self.path).names)
        except (pyarrow.ArrowException, OSError) as fault:
            raise DataError(f"{self.path}: cannot be read as Parquet ({' '.join(str(fault).split())})") from None
        require_column(self.column, names, "--text-column", str(self.path))
        return names

    def places(self, rows: int, seen: Callable[[int], object]) -> Iterator[BlockLocation]:
        """From the file's own index; blocks do not reach over row groups."""
        number = 0
        meta = pyarrow.parquet.read_metadata(self.path)
        for group in range(meta.num_row_groups):
            size = meta.row_group(group).num_rows
            for first in range(0, size, rows):
                yield BlockLocation(number, (group, first), min(rows, size - first))
                number += 1

    def read(self, place: BlockLocation) -> Block:
        """Streamed up to the block, so that memory does not grow with the row group."""
        group, first = place.start
        with pyarrow.parquet.ParquetFile(self.path) as file:
            batches = file.iter_batches(batch_size=place.rows, row_groups=[group])
            skipped, kept = 0, []
            for batch in batches:
                low, high = max(first, skipped), min(first + place.rows, skipped + len(batch))
                if low < high:
                    kept.append(batch.slice(low - skipped, high - low))
                skipped += len(batch)
                if skipped >= first + place.rows:
                    break
            table = pyarrow.Table.from_batches(kept, file.schema_arrow)
        texts, faults = zip(*(text_cell(value, self.column) for value in table[self.column].to_pylist()), strict=True)
        return Block(table, texts, faults)

    def write(self, path: Path, block: Block, added: Columns, kinds: ColumnTypes) -> None:
        """A Parquet file with one row group."""
        table = block.rows
        for field in _arrow_fields(kinds):
            table = table.append_column(field, pyarrow.array(added[field.name], field.type))
        pyarrow.parquet.write_table(table, path)

    def join(self, parts: Sequence[Path], path: Path, kinds: ColumnTypes) -> None:
        """Each part as a row group."""
        schema = pyarrow.parquet.read_schema(self.path)
        for field in _arrow_fields(kinds):
            schema = schema.append(field)
        with pyarrow.parquet.ParquetWriter(path, schema) as out:
            for part in parts:
                out.write_table(pyarrow.parquet.read_table(part, schema=schema))


def _arrow_fields(kinds: ColumnTypes) -> list[Any]:

    types = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    return [pyarrow.field(name, types[kind]) for name, kind in kinds.items()]
