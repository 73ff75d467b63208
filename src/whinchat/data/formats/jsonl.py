"""JSON Lines tables, also called newline-delimited JSON."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from whinchat.data.formats.table_format import PREFIX_ADVICE, Block, Columns, ColumnTypes
from whinchat.data.formats.text_format import LineReader, TextFormat, decode_line, open_unpacked
from whinchat.errors import DataError, nearest

_NOT_JSON = "not JSON"
_NO_OBJECT = "not an object"
_LINE_FAULTS = (_NOT_JSON, _NO_OBJECT)
# Rows differ in their keys. So many rows, or bytes, at the beginning of a file are searched for keys.
_MOST_KEY_ROWS, _MOST_KEY_BYTES = 1_000, 1 << 20
_WHITE_SPACE = b" \t\r\n"


class JsonRow(NamedTuple):
    """One row.

    Attributes:
        source: the JSON object as it stands in the file; an object with the key "line" for a line that holds none.
        cells: the keys and values of the object.
        is_object: whether the line holds an object.
    """

    source: str
    cells: dict[str, Any]
    is_object: bool


class JsonlFormat(TextFormat):
    """One JSON object a line, with columns as keys; blank lines are no rows.

    A labelled table repeats each object as it was written, so that no number, escape or order of keys changes.
    """

    name = "jsonl"
    suffixes = (".jsonl", ".ndjson")

    def read_columns(self) -> tuple[str, ...]:
        """Return the keys of the first rows, in the order in which they occur; rows that cannot be read have none."""
        names: dict[str, None] = {}
        seen = 0
        with self.open_lines() as lines:
            for _, line in islice(self.split_rows(lines), _MOST_KEY_ROWS):
                row, _, _ = self.read_row(line)
                if row.is_object:
                    names |= dict.fromkeys(row.cells)
                seen += len(line)
                if seen > _MOST_KEY_BYTES:
                    break
        # A single column may be missing in the first rows; of a template, a missing column is rather misspelled.
        if names and self.text is not None and self.text.template is not None:
            self.require_text(tuple(names), str(self.path))
        return tuple(names)

    def require_unused(self, columns: Sequence[str]) -> None:
        """Check every row, since rows may differ in their keys; see the base class."""
        wanted = set(columns)
        quoted = [json.dumps(name, ensure_ascii=False).encode() for name in columns]
        with self.open_lines() as lines:
            for number, line in self.split_rows(lines):
                # Most lines need no parser: a key stands there as it is, unless it is spelled with escapes.
                if (b"\\" in line or any(name in line for name in quoted)) and (
                    taken := sorted(wanted & set(self.read_row(line)[0].cells))
                ):
                    raise DataError(f"{self.path}:{number}: has a column {taken[0]!r} already; {PREFIX_ADVICE}")

    def repair_advice(self, fault: str) -> str:
        if fault.startswith(_LINE_FAULTS):
            return 'each line must hold one object such as {"text": "...", "label": "..."}; repair or remove that line'
        return super().repair_advice(fault)

    def column_values(self, block: Block, column: str) -> Sequence[object]:
        return [row.cells.get(column) for row in block.rows]

    def write_part(self, path: Path, block: Block, columns: Columns, column_types: ColumnTypes) -> None:
        """Write the objects with the added keys; a line that holds no object is kept under the key "line"."""
        with path.open("w", encoding="utf-8", newline="\n") as out:
            for index, row in enumerate(block.rows):
                if taken := sorted(set(row.cells) & set(columns)):
                    where = f"{self.path}:{block.numbers[index]}"
                    raise DataError(f"{where}: has a column {taken[0]!r} already; {PREFIX_ADVICE}")
                added = {name: values[index] for name, values in columns.items()}
                members = json.dumps(added, ensure_ascii=False, allow_nan=False)[1:]
                out.write(f"{row.source[:-1]}{', ' if row.cells else ''}{members}\n")

    def count_rows(self, path: Path) -> int:
        with open_unpacked(path) as lines:
            return sum(1 for _ in lines)

    def split_rows(self, lines: LineReader) -> Iterator[tuple[int, bytes]]:
        for line in lines:
            if stripped := line.strip(_WHITE_SPACE):
                yield lines.number, stripped

    def read_row(self, split: bytes) -> tuple[JsonRow, str, str]:
        line, fault = decode_line(split)
        if fault:
            return _kept_line(line), "", fault
        try:
            cells = _DECODER.decode(line)
        except RecursionError:
            return _kept_line(line), "", f"{_NOT_JSON} (nested too deeply)"
        except ValueError as error:
            # An integer's length has a limit, too, and the message goes on about how to change the limit.
            return _kept_line(line), "", f"{_NOT_JSON} ({str(error).partition(';')[0]})"
        if not isinstance(cells, dict):
            return _kept_line(line), "", f"{_NO_OBJECT} (a {type(cells).__name__})"
        return JsonRow(line, cells, is_object=True), *self._read_text(cells)

    def header(self, added: Sequence[str]) -> bytes:
        return b""

    def _read_text(self, cells: dict[str, Any]) -> tuple[str, str]:
        if self.text is None:
            return "", ""
        # Of the columns of a template some may be missing, as a cell may be empty.
        if not any(name in cells for name in self.text.names):
            name, *_ = self.text.names
            return "", f"no key {name!r}{nearest(name, cells).removesuffix('.')}"
        return self.text.read([cells.get(name) for name in self.text.names])


def _kept_line(line: str) -> JsonRow:
    cells = {"line": line}
    return JsonRow(json.dumps(cells, ensure_ascii=False), cells, is_object=False)


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for key, value in pairs:
        if key in cells:
            raise ValueError(f"the key {key!r} occurs twice in an object")
        cells[key] = value
    return cells


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object_of, parse_constant=_refuse_constant)
