"""Compute a batch in smaller parts where the whole batch does not fit into memory."""

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from whinchat.errors import ModelError

T = TypeVar("T")
# What accelerate does not list.
_MESSAGES = ("CUBLAS_STATUS_ALLOC_FAILED", "Invalid buffer size")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether ``error`` says that a CPU or an accelerator has no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or should_reduce_batch_size(error):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


class BatchLimit:
    """The number of rows that fit into memory: halved whenever a batch does not fit, and kept for the batches after it.

    Attributes:
        rows: largest number of rows computed at a time; None for whole batches.
        note: a sentence part on the halved batches for card and report; None as long as every batch has fit.
    """

    def __init__(self, work: str, rows: int | None = None) -> None:
        """Name the ``work`` in messages, such as "training"; begin with ``rows`` at a time, or with whole batches."""
        self._work = work
        self.rows = rows
        self.note: str | None = None

    def compute(self, count: int, part: Callable[[slice], T], *, can_split: bool = True) -> list[T]:
        """Return the results of ``part`` for consecutive slices that cover ``count`` rows: one slice if that fits.

        Args:
            count: rows of the batch.
            part: computes some of the rows. What it changed must be undone where it raises an error.
            can_split: False where other processes wait for the whole batch.

        Raises:
            ModelError: a single row does not fit, or the batch may not be split.
        """
        results: list[T] = []
        start = 0
        while start < count:
            rows = min(self.rows or count, count - start)
            try:
                results.append(part(slice(start, start + rows)))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if rows == 1 or not can_split:
                    raise ModelError(self._too_large(rows, error)) from None
            else:
                start += rows
                continue
            # Only here, because the tensors of the failed try live as long as its exception.
            self._halve(rows)
        return results

    def _halve(self, rows: int) -> None:
        self.rows = (rows + 1) // 2
        gc.collect()
        clear_device_cache()
        self.note = (
            f"batches of {rows} texts did not fit into memory in {self._work}, so {self.rows} were computed at a time"
        )
        if self._work == "training":
            self.note += ", with the same effective batch"
        logging.getLogger("whinchat").warning(self.note)

    def _too_large(self, rows: int, error: Exception) -> str:
        texts = "one text does" if rows == 1 else f"{rows} texts do"
        smaller = "" if rows == 1 else "a smaller batch size, "
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return (
            f"{texts} not fit into memory in {self._work} ({reason}); set {smaller}a smaller "
            "backbone.max_prompt_tokens, backbone.load_in=nf4, or a smaller backbone.model"
        )
