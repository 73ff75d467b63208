"""A table that was sent, labelled piece by piece."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException

from whinchat.errors import DataError
from whinchat.use.blocks import Kinds, Place
from whinchat.use.files import Tally, added_columns, added_kinds, open_free, readable
from whinchat.use.labeller import Answers
from whinchat.use.lines import Csv, Jsonl, Lines, Tsv
from whinchat.use.server.schema import TableEvent

# Small enough that a bar moves, large enough to fill a batch.
ROWS_PER_PIECE = 64
_ENDINGS = (Csv.suffix, Tsv.suffix, Jsonl.suffix)


@dataclass(frozen=True)
class Upload:
    """A table on disk; ``kept`` deletes it when closed."""

    table: Lines
    places: tuple[Place, ...]
    labels: tuple[str, ...]
    kinds: Kinds
    kept: ExitStack


async def store_upload(body: AsyncIterator[bytes], name: str, column: str, labels: Sequence[str]) -> Upload:
    """Keep what is sent, and find its rows.

    Raises:
        HTTPException: 422 where it is of no kind that can be labelled line by line, or has no such column.
    """
    ending = Path(name).suffix.lower()
    if ending not in _ENDINGS:
        raise HTTPException(422, f"{name}: send a {', '.join(_ENDINGS)} file; `whinchat predict` takes Parquet, too")
    with ExitStack() as kept:
        path = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="whinchat-"))) / f"table{ending}"
        with path.open("wb") as file:
            async for chunk in body:
                file.write(chunk)
        kinds = added_kinds(labels)

        def look() -> tuple[Lines, tuple[Place, ...]]:
            table = open_free(path, column, kinds)
            assert isinstance(table, Lines)  # as its ending says
            return table, tuple(table.places(ROWS_PER_PIECE, lambda seen: None))

        try:
            table, places = await asyncio.to_thread(look)
        except DataError as fault:
            raise HTTPException(422, str(fault).replace(str(path), name)) from None
        return Upload(table, places, tuple(labels), kinds, kept.pop_all())


async def label_upload(upload: Upload, answer: Callable[[list[str]], Awaitable[Answers]]) -> AsyncIterator[bytes]:
    """An event a line: one at the start, with the head of the table, and one for each piece."""
    table, kinds = upload.table, upload.kinds
    total = sum(place.rows for place in upload.places)
    tallies = [Tally(0, 0, 0, {})]

    def event(piece: bytes) -> bytes:
        now = Tally.total(tallies, upload.labels)
        line = TableEvent(
            done=now.rows, total=total, labels=now.labels, unsure=now.unsure, bad=now.bad, table=piece.decode()
        )
        return line.model_dump_json().encode() + b"\n"

    with upload.kept:
        yield event(table.head(tuple(kinds)))
        for place in upload.places:
            block = await asyncio.to_thread(table.read, place)
            texts = readable(block)
            columns = added_columns(block, kinds, await answer(texts) if texts else None)
            part = table.path.with_suffix(".part")
            await asyncio.to_thread(table.write, part, block, columns, kinds)
            tallies.append(Tally.of(columns))
            yield event(part.read_bytes())
