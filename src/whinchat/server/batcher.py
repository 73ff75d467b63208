"""Common batches for the texts of concurrent requests.

While one batch is computed, the texts of the next one gather. So a batch is as large as the load makes it, and no text
waits for further ones to arrive.

Three quarters of the places in a batch go to the texts that came first, so a request is answered when 4/3 of the texts
that were waiting when it came, and its own, are computed, whatever comes after it. The last quarter goes to the
requests with the fewest texts left, so a long request does not hold up a short one. Classifiers take turns, one batch
each. Requests that ask the same questions about texts of their own share batches, too.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from whinchat.server.served_models import BatchResult, ModelKey

PredictFunction = Callable[[ModelKey, Sequence[str]], BatchResult]

# A text that every classifier can answer. A classifier that fails on this text is broken.
CHECK_TEXT = "warm"
# Weight of the latest batch in the measured speed.
_SPEED_WEIGHT = 0.3
_MAX_RETRY_SECONDS = 600
# Share of the places in a batch that go to the shortest requests.
_SHORT_SHARE = 0.25


class QueueFullError(Exception):
    """As many texts are waiting as the limit allows."""


@dataclass(eq=False)
class Reservation:
    """Places of the queue that are kept for one client.

    Attributes:
        places: how many texts the client sends at most at a time.
        texts_left: how many texts the client has still to send, as far as known.
    """

    places: int
    texts_left: int = 0


@dataclass(eq=False)
class _PendingRequest:
    """A request in the queue: its texts that are in no batch yet, and the predictions for the texts before them."""

    key: ModelKey
    texts: Sequence[str]
    future: asyncio.Future[BatchResult]
    reservation: Reservation | None
    parts: list[Any] = field(default_factory=list)

    def take(self, count: int) -> Sequence[str]:
        """Take the next texts out of the queue."""
        taken, self.texts = self.texts[:count], self.texts[count:]
        return taken

    def add(self, outcome: BatchResult | BaseException) -> None:
        """Take the predictions for the next texts, or the error that ends the request."""
        if self.future.done():  # its client has gone
            return
        if isinstance(outcome, BaseException):
            self.texts = ()
            self.future.set_exception(outcome)
            return
        self.parts.append(outcome)
        if not self.texts:
            self.future.set_result(type(outcome).concatenate(self.parts))


class Batcher:
    """Calls ``predict`` with one batch after the other, in a thread of its own.

    Args:
        predict: predicts at most ``batch_size`` texts, all with the same classifier.
        batch_size: most texts in a batch.
        max_waiting: most texts that may wait, of all requests together.
        on_batch: called with the size of each batch before it is computed.
    """

    def __init__(
        self,
        predict: PredictFunction,
        batch_size: int,
        max_waiting: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._predict, self._on_batch = predict, on_batch
        self._batch_size, self._max_waiting = batch_size, max_waiting
        self._reservations: list[Reservation] = []
        self._queue: list[_PendingRequest] = []  # in the order in which they came
        self._last_turns: dict[tuple[ModelKey, bool], int] = {}  # number of the last batch
        self._short_places = 0.0
        self._broken: dict[ModelKey, asyncio.Future[BatchResult] | None] = {}
        self._texts_per_second = 0.0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictions")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of texts that are in no batch yet."""
        return sum(len(request.texts) for request in self._queue)

    @property
    def running(self) -> bool:
        """Whether the batcher accepts texts."""
        return self._task is not None and not self._task.done()

    @property
    def broken(self) -> list[str]:
        """The names of the classifiers that failed on ``CHECK_TEXT`` and have computed nothing since."""
        return sorted({key.name for key in self._broken})

    @property
    def retry_seconds(self) -> int:
        """Seconds in which the texts that are waiting now will be computed, at the measured speed; at least 1."""
        return self._seconds(self.waiting)

    @property
    def reservation_retry_seconds(self) -> int:
        """Seconds until the first reservation ends, where all of them share the measured speed; at least 1."""
        left = [reservation.texts_left for reservation in self._reservations]
        return self._seconds(self.waiting + min(left, default=0) * len(left))

    def _seconds(self, texts: int) -> int:
        seconds = texts / self._texts_per_second if self._texts_per_second else 1
        return min(_MAX_RETRY_SECONDS, max(1, math.ceil(seconds)))

    def start(self) -> None:
        """Start to compute batches. Call this inside a running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish all accepted requests, then end. A batch that nobody waits for any more is not waited for."""
        while waited := [request.future for request in self._queue if not request.future.done()]:
            await asyncio.wait(waited)
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def reserve(self, places: int, most: int) -> Iterator[Reservation]:
        """Keep places of the queue for one client, who sends at most so many texts at a time.

        Args:
            places: the number of texts.
            most: the number of reservations at a time; together they take at most half of the queue.

        Raises:
            QueueFullError: there are as many reservations already, or too many texts are waiting.
        """
        taken = sum(reservation.places for reservation in self._reservations) + places
        if len(self._reservations) == most or taken > self._max_waiting // 2 or not self._has_room(places):
            raise QueueFullError
        reservation = Reservation(places)
        self._reservations.append(reservation)
        try:
            yield reservation
        finally:
            self._reservations.remove(reservation)

    async def predict(
        self, key: ModelKey, texts: Sequence[str], *, reservation: Reservation | None = None
    ) -> BatchResult:
        """Predict one or more texts; the predictions have the order of the texts.

        Args:
            key: the classifier to predict with.
            texts: the texts.
            reservation: the places that the caller has reserved for them, if any.

        Raises:
            QueueFullError: too many texts are waiting.
        """
        if reservation is None and not self._has_room(len(texts)):
            raise QueueFullError
        predictions = await self._enqueue(key, texts, reservation)
        if reservation is not None:
            reservation.texts_left -= len(texts)
        return predictions

    def recheck(self) -> None:
        """Let each broken classifier compute ``CHECK_TEXT`` again; ``broken`` then says whether it can."""
        for key, check in self._broken.items():
            if check is None or check.done():
                again = self._enqueue(key, [CHECK_TEXT], Reservation(1))
                # Whoever reads `broken` learns of the error.
                again.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._broken[key] = again

    def _enqueue(
        self, key: ModelKey, texts: Sequence[str], reservation: Reservation | None
    ) -> asyncio.Future[BatchResult]:
        request = _PendingRequest(key, texts, asyncio.get_running_loop().create_future(), reservation)
        self._queue.append(request)
        self._arrived.set()
        return request.future

    def _has_room(self, count: int) -> bool:
        waiting = sum(len(request.texts) for request in self._queue if request.reservation is None)
        reserved = sum(reservation.places for reservation in self._reservations)
        return waiting + count <= self._max_waiting - reserved

    async def _run(self) -> None:
        while True:
            # A future is done early if its client has disconnected.
            self._queue = [request for request in self._queue if request.texts and not request.future.done()]
            if not self._queue:
                self._arrived.clear()
            await self._arrived.wait()
            key, batch = self._next_batch()
            outcomes = await self._compute_pieces(key, [request.take(count) for request, count in batch])
            for (request, _), outcome in zip(batch, outcomes, strict=True):
                request.add(outcome)

    async def _compute_pieces(
        self, key: ModelKey, pieces: Sequence[Sequence[str]]
    ) -> Sequence[BatchResult | BaseException]:
        """Return the predictions for each piece of a batch, or its error, which is no other piece's."""
        outcome = await self._compute(key, [text for piece in pieces for text in piece])
        if not isinstance(outcome, BaseException):
            self._broken.pop(key.classifier, None)
            ends = [sum(map(len, pieces[: index + 1])) for index in range(len(pieces))]
            return [outcome[end - len(piece) : end] for piece, end in zip(pieces, ends, strict=True)]
        alone = [await self._compute(key, piece) for piece in pieces] if len(pieces) > 1 else [outcome]
        # A question that fails says nothing about the classifier.
        if not all(isinstance(one, BaseException) for one in alone) or not isinstance(
            await self._compute(key.classifier, [CHECK_TEXT]), BaseException
        ):
            self._broken.pop(key.classifier, None)
        else:
            self._broken.setdefault(key.classifier, None)
        return alone

    async def _compute(self, key: ModelKey, texts: Sequence[str]) -> BatchResult | BaseException:
        """Predict in the thread, and return the predictions or the error."""
        self._on_batch(len(texts))
        started = time.perf_counter()
        computed = asyncio.get_running_loop().run_in_executor(self._thread, self._predict, key, texts)
        await asyncio.wait([computed])
        if error := computed.exception():
            return error
        speed = len(texts) / max(time.perf_counter() - started, 1e-6)
        self._texts_per_second += (speed - self._texts_per_second) * (_SPEED_WEIGHT if self._texts_per_second else 1)
        return computed.result()

    def _next_batch(self) -> tuple[ModelKey, list[tuple[_PendingRequest, int]]]:
        """Return the classifier whose turn it is, and its requests of the next batch with their numbers of texts."""
        # All questions about a classifier have one turn together, or ever new questions would take every turn.
        turns = [(request.key.classifier, bool(request.key.questions)) for request in self._queue]
        turn = min(turns, key=lambda turn: self._last_turns.get(turn, 0))
        key = self._queue[turns.index(turn)].key
        self._last_turns[turn] = 1 + max(self._last_turns.values(), default=0)
        batch_size = max(1, self._batch_size // key.text_cost)
        requests = [request for request in self._queue if request.key == key]
        # Of small batches, a part of a place is carried over to the next batch.
        for_short, self._short_places = divmod(self._short_places + batch_size * _SHORT_SHARE, 1)
        counts = dict.fromkeys(requests, 0)
        free = batch_size
        for request in requests:
            counts[request] = min(len(request.texts), free - int(for_short))
            free -= counts[request]
        for request in sorted(requests, key=lambda request: len(request.texts) - counts[request]):
            count = min(len(request.texts) - counts[request], free)
            counts[request] += count
            free -= count
        return key, [(request, count) for request, count in counts.items() if count]
