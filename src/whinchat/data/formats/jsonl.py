"""JSON Lines tables, also called newline-delimited JSON."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from whinchat.data.formats.table_format import Block, Columns, ColumnTypes, read_text_cell
from whinchat.data.formats.text_format import TextFormat, skip_bom
from whinchat.data.rows import Row, labelled_row, require_columns, require_rows, text_lines
from whinchat.errors import DataError
from whinchat.recipe.schema import DataConfig


class JsonlFormat(TextFormat):
    """One JSON object a line, with columns as keys; blank lines are no rows."""

    name = "jsonl"
    suffixes = (".jsonl", ".ndjson")

    @classmethod
    def read_labelled_rows(cls, path: Path, data: DataConfig) -> tuple[Row, ...]:
        rows = []
        for number, line in enumerate(text_lines(path), 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            cells = _parse_strictly(line, where)
            if not isinstance(cells, dict):
                raise DataError(
                    f"{where}: holds a {type(cells).__name__}; each line must hold one object such as "
                    f'{{"{data.text_column}": "...", "{data.label_column}": "..."}}'
                )
            require_columns(data, list(cells), where)
            rows.append(labelled_row(cells[data.text_column], cells[data.label_column], data, f"{path}:", number))
        return require_rows(rows, str(path))

    def read_columns(self) -> tuple[str, ...]:
        with self.path.open("rb") as file:
            self.skip_header(file)
            row, _, _ = next(self.read_rows(file), ({}, "", ""))
        return tuple(row)

    def write_part(self, path: Path, block: Block, columns: Columns, column_types: ColumnTypes) -> None:
        """Write the objects with the added keys; a line that holds no object is kept under the key "line"."""
        with path.open("wb") as out:
            for index, row in enumerate(block.rows):
                if taken := sorted(set(row) & set(columns)):
                    raise DataError(f"{self.path}: a row has the key {taken[0]!r} already; choose another --prefix")
                cells = {**row, **{name: values[index] for name, values in columns.items()}}
                try:
                    out.write(json.dumps(cells, ensure_ascii=False).encode() + b"\n")
                except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot hold
                    out.write(json.dumps(cells).encode() + b"\n")

    def skip_header(self, file: BinaryIO) -> int:
        return skip_bom(file)

    def row_ends(self, file: BinaryIO, start: int) -> Iterator[int]:
        end = start
        for line in file:
            end += len(line)
            if line.strip():
                yield end

    def read_rows(self, file: BinaryIO) -> Iterator[tuple[Any, str, str]]:
        for line in file:
            if line.strip():
                yield self._read_row(line.rstrip(b"\r\n"))

    def _read_row(self, raw: bytes) -> tuple[Any, str, str]:
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError) as fault:  # a ValueError is about JSON, UTF-8 or an integer's length
            reason = "nested too deeply" if isinstance(fault, RecursionError) else fault
            return {"line": _decode(raw)}, "", f"not JSON ({reason})"
        if not isinstance(row, dict):
            return {"line": _decode(raw)}, "", f"a {type(row).__name__}, not an object"
        if self.text_column not in row:
            return row, "", f"no key {self.text_column!r}"
        return row, *read_text_cell(row[self.text_column], self.text_column)

    def header(self, added: Sequence[str]) -> bytes:
        return b""


def _parse_strictly(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as fault:
        raise DataError(
            f"{where}: not valid JSON at column {fault.colno} ({fault.msg}); each line must hold one object"
        ) from None
    except RecursionError:
        raise DataError(f"{where}: JSON nested too deeply; each line must hold one flat object") from None
    except ValueError as fault:  # an integer of thousands of digits
        raise DataError(f"{where}: holds a number that cannot be read ({fault}); shorten it or quote it") from None


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
