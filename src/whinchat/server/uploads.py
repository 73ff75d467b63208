"""A table that was sent, labelled piece by piece."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException

from whinchat.data.formats.table_format import BlockLocation, ColumnTypes
from whinchat.data.formats.table_registry import find_table_format, table_suffixes
from whinchat.data.formats.text_format import TextFormat
from whinchat.errors import DataError
from whinchat.inference.prediction_columns import (
    LabelCounts,
    added_column_types,
    added_columns,
    open_unlabeled,
    readable_texts,
)
from whinchat.inference.predictor import Predictions
from whinchat.server.api_schema import TableEvent

# Small enough that a bar moves, large enough to fill a batch.
ROWS_PER_PIECE = 64


@dataclass(frozen=True)
class Upload:
    """A table on disk; ``kept`` deletes it when closed."""

    table: TextFormat
    places: tuple[BlockLocation, ...]
    labels: tuple[str, ...]
    kinds: ColumnTypes
    kept: ExitStack


async def store_upload(body: AsyncIterator[bytes], name: str, column: str, labels: Sequence[str]) -> Upload:
    """Keep what is sent, and find its rows.

    Raises:
        HTTPException: 422 where it is of no kind that can be labelled line by line, or has no such column.
    """
    ending = Path(name).suffix.lower()
    if not _is_text_format(ending):
        taken = ", ".join(filter(_is_text_format, table_suffixes()))
        raise HTTPException(422, f"{name}: send a {taken} file; `whinchat predict` takes Parquet, too")
    with ExitStack() as kept:
        path = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="whinchat-"))) / f"table{ending}"
        with path.open("wb") as file:
            async for chunk in body:
                file.write(chunk)
        kinds = added_column_types(labels)

        def look() -> tuple[TextFormat, tuple[BlockLocation, ...]]:
            table = open_unlabeled(path, column, kinds)
            assert isinstance(table, TextFormat)  # as its ending says
            return table, tuple(table.locate_blocks(ROWS_PER_PIECE, lambda seen: None))

        try:
            table, places = await asyncio.to_thread(look)
        except DataError as fault:
            raise HTTPException(422, str(fault).replace(str(path), name)) from None
        return Upload(table, places, tuple(labels), kinds, kept.pop_all())


def _is_text_format(suffix: str) -> bool:
    """Whether tables with this suffix can be sent back piece by piece."""
    table_format = find_table_format(Path(f"table{suffix}"))
    return table_format is not None and issubclass(table_format, TextFormat)


async def label_upload(upload: Upload, answer: Callable[[list[str]], Awaitable[Predictions]]) -> AsyncIterator[bytes]:
    """An event a line: one at the start, with the head of the table, and one for each piece."""
    table, kinds = upload.table, upload.kinds
    total = sum(place.rows for place in upload.places)
    tallies = [LabelCounts(0, 0, 0, {})]

    def event(piece: bytes) -> bytes:
        now = LabelCounts.total(tallies, upload.labels)
        line = TableEvent(
            done=now.rows, total=total, labels=now.labels, unsure=now.unsure, bad=now.bad, table=piece.decode()
        )
        return line.model_dump_json().encode() + b"\n"

    with upload.kept:
        yield event(table.header(tuple(kinds)))
        for place in upload.places:
            block = await asyncio.to_thread(table.read_block, place)
            texts = readable_texts(block)
            columns = added_columns(block, kinds, await answer(texts) if texts else None)
            part = table.path.with_suffix(".part")
            await asyncio.to_thread(table.write_part, part, block, columns, kinds)
            tallies.append(LabelCounts.of(columns))
            yield event(part.read_bytes())
