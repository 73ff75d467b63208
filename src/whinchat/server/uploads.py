"""Label a table from the body of a request, and send it back piece by piece."""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from fastapi import HTTPException

from whinchat.data.formats.table_format import Block, BlockLocation, ColumnTypes
from whinchat.data.formats.table_registry import find_table_format, read_column_names, table_suffixes
from whinchat.data.formats.text_format import TextFormat
from whinchat.data.rows import encoding_advice
from whinchat.data.text_columns import TEXT_COLUMN_KEY, TEXT_TEMPLATE_KEY, TextColumns
from whinchat.errors import DataError
from whinchat.inference.prediction_columns import (
    LabelCounts,
    added_column_types,
    added_columns,
    answer_names,
    open_unlabeled,
    readable_texts,
    with_prompt_faults,
)
from whinchat.inference.predictor import Predictions
from whinchat.inference.question_predictor import QuestionPredictions
from whinchat.recipe.task import Task
from whinchat.server.api_schema import Limits, TableEvent
from whinchat.server.error_responses import printable

# Few enough rows that a progress bar keeps moving, enough to fill a batch.
_ROWS_PER_PIECE = 64
# JSON takes up to twelve bytes for a character; the other columns of a line may take the rest.
_BYTES_PER_CHAR, _OTHER_BYTES = 12, 1 << 16
# The end of the first line, which is that of all lines; of "\r" only the next byte tells whether it is alone.
_LINE_END = re.compile(rb"\r?\n|\r(?=.)", re.DOTALL)
# What messages name by a key of a recipe or an option of the command line is a parameter of the request.
_PARAMETERS = {TEXT_COLUMN_KEY: "`column`", TEXT_TEMPLATE_KEY: "`column`", "--prefix": "`prefix`"}
_ENCODING_ADVICE = "save it as UTF-8 (a spreadsheet calls that CSV UTF-8)"


def rows_per_piece(limits: Limits) -> int:
    """Return how many rows of a table are labelled at a time; so many texts of it may wait."""
    return min(_ROWS_PER_PIECE, limits.max_waiting // 2)


@dataclass(frozen=True)
class TableRequest:
    """What a client wants of a table.

    Attributes:
        name: name of the file; its suffix gives the format.
        text: the columns that hold the texts.
        prefix: stands before the names of the added columns.
        task: the task of the classifier, with labels or questions.
    """

    name: str
    text: TextColumns
    prefix: str
    task: Task

    @property
    def column_types(self) -> ColumnTypes:
        """The columns that labelling adds."""
        return added_column_types(self.task.labels, self.prefix, self.task.questions)


@dataclass(frozen=True)
class Upload:
    """A table in a temporary file.

    Attributes:
        request: what the client wants of it.
        table: the table.
        blocks: where its pieces lie in the file.
        max_chars: most characters of a text.
    """

    request: TableRequest
    table: TextFormat
    blocks: tuple[BlockLocation, ...]
    max_chars: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(location.rows for location in self.blocks)

    def message(self, fault: DataError) -> str:
        """Return the message of an error in the client's words."""
        return _message(fault, self.table.path, self.request.name)


async def store_upload(
    body: AsyncIterator[bytes], request: TableRequest, limits: Limits, folder: Path, cleanup: ExitStack
) -> Upload:
    """Store the body of a request as a table, and find its rows.

    Args:
        body: the bytes of the file.
        request: what the client wants of it.
        limits: of the rows and the lines.
        folder: where the file is created.
        cleanup: deletes the file when closed.

    Raises:
        HTTPException: status 413 if the table has too many rows or too long a line, 422 if its format cannot be
            labelled in pieces or it cannot be read, 503 if the disk is full.
    """
    path = await _store(body, request.name, limits, folder, cleanup)
    try:
        table = await asyncio.to_thread(open_unlabeled, path, request.text, request.column_types)
        assert isinstance(table, TextFormat)  # because of its suffix
        blocks = await asyncio.to_thread(_locate, table, request.name, limits)
    except DataError as fault:
        raise HTTPException(422, _message(fault, path, request.name)) from None
    return Upload(request, table, blocks, limits.max_chars)


async def read_columns(
    body: AsyncIterator[bytes], name: str, limits: Limits, folder: Path, cleanup: ExitStack
) -> tuple[str, ...]:
    """Return the names of the columns of a table, whose body may be cut off after the first row.

    The arguments and errors are those of ``store_upload``.
    """
    path = await _store(body, name, limits, folder, cleanup)
    try:
        return await asyncio.to_thread(read_column_names, path)
    except DataError as fault:
        raise HTTPException(422, _message(fault, path, name)) from None


def free_prefix(columns: Sequence[str], task: Task) -> str:
    """Return a prefix with which no column that labelling adds is among ``columns``; empty where none is needed."""
    prefixes = chain(("", "predicted_"), (f"predicted{number}_" for number in count(2)))
    taken = set(columns)
    return next(
        prefix for prefix in prefixes if not added_column_types(task.labels, prefix, task.questions).keys() & taken
    )


async def _store(body: AsyncIterator[bytes], name: str, limits: Limits, folder: Path, cleanup: ExitStack) -> Path:
    """Write the body of a request to a file with the suffix of ``name``, and return its path."""
    suffixes = upload_suffixes()
    suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), None)
    if suffix is None:
        raise HTTPException(422, f"{name}: is not a table that the server can label; send {', '.join(suffixes)}")
    try:
        directory = cleanup.enter_context(tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True))
        path = Path(directory, f"table{suffix}")
        await _write(body, path, name, limits)
    except OSError as fault:
        reason = f"the server cannot store the table ({fault.strerror})"
        raise HTTPException(503, f"{name}: {reason}; try again later") from fault
    return path


async def _write(body: AsyncIterator[bytes], path: Path, name: str, limits: Limits) -> None:
    max_line = limits.max_chars * _BYTES_PER_CHAR + _OTHER_BYTES
    line = 0  # bytes of the last line so far
    line_end, before = None, b""
    with path.open("wb") as file:
        async for chunk in body:
            if line_end is None and (found := _LINE_END.search(before + chunk)):
                line_end = b"\r" if found[0] == b"\r" else b"\n"
            before = chunk[-1:]
            first, *further = map(len, chunk.split(line_end or b"\n"))
            if max(line + first, *further, 0) > max_line:
                raise HTTPException(413, f"{name}: a line is longer than {max_line:,} bytes; leave out other columns")
            line = further[-1] if further else line + first
            file.write(chunk)


def _locate(table: TextFormat, name: str, limits: Limits) -> tuple[BlockLocation, ...]:
    blocks, rows = [], 0
    for location in table.locate_blocks(rows_per_piece(limits), lambda seen: None):
        rows += location.rows
        if rows > limits.max_table_rows:
            raise HTTPException(413, f"{name}: more than {limits.max_table_rows:,} rows; send the table in parts")
        blocks.append(location)
    return tuple(blocks)


def upload_suffixes() -> list[str]:
    """Return the suffixes of the tables that can be sent back piece by piece."""

    def is_text(suffix: str) -> bool:
        table_format = find_table_format(Path(f"table{suffix}"))
        return table_format is not None and issubclass(table_format, TextFormat)

    return list(filter(is_text, table_suffixes()))


def _message(fault: DataError, path: Path, name: str) -> str:
    message = str(fault)
    for encoding in ("utf-16", "windows-1252"):
        message = message.replace(encoding_advice(path, encoding), _ENCODING_ADVICE)
    message = message.replace(str(path), name)
    for option, parameter in _PARAMETERS.items():
        message = message.replace(option, parameter)
    return message


async def label_upload(
    upload: Upload,
    find_fault: Callable[[str], str],
    predict: Callable[[list[str]], Awaitable[Predictions | QuestionPredictions]],
) -> AsyncIterator[bytes]:
    """Yield the lines of the response: an event with the table's header, then an event for each labelled piece.

    Where the table cannot go on, the last event has the reason.

    Args:
        upload: the table.
        find_fault: returns why there is no prompt for a text; an empty string where there is one.
        predict: predicts the labels of some texts, or the answers about them.
    """
    column_types, task = upload.request.column_types, upload.request.task
    labels = answer_names(task.labels, task.questions)
    counts = LabelCounts.total([], labels)

    def event(piece: bytes, error: str | None = None) -> bytes:
        line = TableEvent(
            done=counts.rows, total=upload.rows, labels=counts.labels, unsure=counts.unsure, bad=counts.bad,
            table=piece.decode(), error=None if error is None else printable(error),
        )  # fmt: skip
        return f"{line.model_dump_json()}\n".encode()

    try:
        yield event(upload.table.header(tuple(column_types)))
        for location in upload.blocks:
            block = await asyncio.to_thread(_read_block, upload, location, find_fault)
            texts = readable_texts(block)
            predictions = await predict(texts) if texts else None
            piece, piece_counts = await asyncio.to_thread(_label_block, upload, block, predictions)
            counts = LabelCounts.total([counts, piece_counts], labels)
            yield event(piece)
    except HTTPException as fault:
        yield event(b"", fault.detail)
    except DataError as fault:
        yield event(b"", upload.message(fault))
    except Exception:
        yield event(b"", "the server failed; its log says why")
        raise


def _read_block(upload: Upload, location: BlockLocation, find_fault: Callable[[str], str]) -> Block:
    block = upload.table.read_block(location)
    long = f"characters; a text may have at most {upload.max_chars:,}"
    faults = [
        fault or (f"{len(text):,} {long}" if len(text) > upload.max_chars else "")
        for text, fault in zip(block.texts, block.faults, strict=True)
    ]
    return with_prompt_faults(replace(block, faults=tuple(faults)), find_fault)


def _label_block(
    upload: Upload, block: Block, predictions: Predictions | QuestionPredictions | None
) -> tuple[bytes, LabelCounts]:
    """Return the labelled rows of ``block`` as bytes of the table, and their counts."""
    column_types = upload.request.column_types
    columns = added_columns(block, column_types, predictions)
    part = upload.table.path.with_suffix(".part")
    upload.table.write_part(part, block, columns, column_types)
    return part.read_bytes(), LabelCounts.of(block, predictions)
