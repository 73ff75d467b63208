"""Label a table from the body of a request, and send it back piece by piece."""

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
    with_prompt_faults,
)
from whinchat.inference.predictor import Predictions
from whinchat.prompts.template import PromptTemplate
from whinchat.server.api_schema import TableEvent

# Few enough rows that a progress bar keeps moving, enough to fill a batch.
ROWS_PER_PIECE = 64


@dataclass(frozen=True)
class Upload:
    """A table in a temporary folder.

    Attributes:
        table: the table.
        blocks: where its pieces lie in the file.
        labels: the labels of the classifier.
        column_types: the columns that labelling adds.
        cleanup: deletes the temporary folder when closed.
    """

    table: TextFormat
    blocks: tuple[BlockLocation, ...]
    labels: tuple[str, ...]
    column_types: ColumnTypes
    cleanup: ExitStack


async def store_upload(body: AsyncIterator[bytes], name: str, column: str, labels: Sequence[str]) -> Upload:
    """Store the body of a request as a table, and find its rows.

    Args:
        body: the bytes of the file.
        name: name of the file; its suffix gives the format.
        column: name of the column that holds the texts.
        labels: the labels of the classifier.

    Raises:
        HTTPException: status 422 if the format cannot be labelled in pieces, or the table cannot be read.
    """
    suffix = Path(name).suffix.lower()
    if not _is_text_format(suffix):
        suffixes = ", ".join(filter(_is_text_format, table_suffixes()))
        raise HTTPException(422, f"{name}: send a {suffixes} file; for Parquet use `whinchat predict`")
    with ExitStack() as cleanup:
        path = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="whinchat-"))) / f"table{suffix}"
        with path.open("wb") as file:
            async for chunk in body:
                file.write(chunk)
        column_types = added_column_types(labels)
        try:
            table = await asyncio.to_thread(open_unlabeled, path, column, column_types)
            assert isinstance(table, TextFormat)  # because of its suffix
            locations = table.locate_blocks(ROWS_PER_PIECE, lambda seen: None)
            blocks = await asyncio.to_thread(tuple, locations)
        except DataError as fault:
            raise HTTPException(422, str(fault).replace(str(path), name)) from None
        return Upload(table, blocks, tuple(labels), column_types, cleanup.pop_all())


def _is_text_format(suffix: str) -> bool:
    """Whether tables with this suffix can be sent back piece by piece."""
    table_format = find_table_format(Path(f"table{suffix}"))
    return table_format is not None and issubclass(table_format, TextFormat)


async def label_upload(
    upload: Upload, template: PromptTemplate, predict: Callable[[list[str]], Awaitable[Predictions]]
) -> AsyncIterator[bytes]:
    """Yield the lines of the response: an event with the table's header, then an event for each labelled piece.

    Args:
        upload: the table.
        template: the prompts of the classifier.
        predict: predicts the labels of some texts.
    """
    total = sum(location.rows for location in upload.blocks)
    counts = [LabelCounts(0, 0, 0, {})]

    def event(piece: bytes) -> bytes:
        so_far = LabelCounts.total(counts, upload.labels)
        rows, labels, table = so_far.rows, so_far.labels, piece.decode()
        line = TableEvent(done=rows, total=total, labels=labels, unsure=so_far.unsure, bad=so_far.bad, table=table)
        return f"{line.model_dump_json()}\n".encode()

    with upload.cleanup:
        yield event(upload.table.header(tuple(upload.column_types)))
        for location in upload.blocks:
            block = with_prompt_faults(await asyncio.to_thread(upload.table.read_block, location), template)
            texts = readable_texts(block)
            columns = added_columns(block, upload.column_types, await predict(texts) if texts else None)
            part = upload.table.path.with_suffix(".part")
            await asyncio.to_thread(upload.table.write_part, part, block, columns, upload.column_types)
            counts.append(LabelCounts.of(columns))
            yield event(part.read_bytes())
