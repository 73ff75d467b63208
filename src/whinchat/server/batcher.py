"""Common batches for the texts of concurrent requests.

While one batch is computed, the texts of the next one gather. So a batch is as large as the load makes it, and no text
waits for further ones to arrive. Requests take turns, one text each, so a long request does not hold up a short one.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from whinchat.inference.predictor import Predictions
from whinchat.server.served_models import ModelKey

PredictFunction = Callable[[ModelKey, Sequence[str]], Predictions]


class QueueFullError(Exception):
    """As many texts are waiting as the limit allows."""


@dataclass(eq=False)
class _PendingRequest:
    """A request in the queue: its texts that are in no batch yet, and the predictions for the texts before them."""

    key: ModelKey
    texts: Sequence[str]
    future: asyncio.Future[Predictions]
    parts: list[Predictions] = field(default_factory=list)


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
        self._queue: list[_PendingRequest] = []
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

    def start(self) -> None:
        """Start to compute batches. Call this inside a running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish all accepted requests, then end."""
        while self._queue:
            await asyncio.wait([request.future for request in self._queue])
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown()

    async def predict(self, key: ModelKey, texts: Sequence[str], *, bypass_queue_limit: bool = False) -> Predictions:
        """Predict one or more texts; the predictions have the order of the texts.

        Args:
            key: the classifier to predict with.
            texts: the texts.
            bypass_queue_limit: accept the texts although the queue is full. For the pieces of a table: its request was
                accepted already, and sends the next piece only when it has the last one.

        Raises:
            QueueFullError: too many texts are waiting.
        """
        if not bypass_queue_limit and self.waiting + len(texts) > self._max_waiting:
            raise QueueFullError
        request = _PendingRequest(key, texts, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._arrived.set()
        return await request.future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # A future is done early if its client has disconnected.
            self._queue = [request for request in self._queue if request.texts and not request.future.done()]
            if not self._queue:
                self._arrived.clear()
            await self._arrived.wait()
            batch = self._next_batch()
            texts: list[str] = []
            for request, count in batch:
                texts += request.texts[:count]
                request.texts = request.texts[count:]
            self._on_batch(len(texts))
            computed = loop.run_in_executor(self._thread, self._predict, batch[0][0].key, texts)
            await asyncio.wait([computed])
            error = computed.exception()
            start = 0
            for request, count in batch:
                if error is not None:
                    request.texts = ()
                    if not request.future.done():
                        request.future.set_exception(error)
                    continue
                request.parts.append(computed.result()[start : start + count])
                start += count
                if not request.texts and not request.future.done():
                    request.future.set_result(Predictions.concatenate(request.parts))
            # Requests with texts left go to the end of the queue, so that every classifier has its turn.
            served = [request for request, _ in batch]
            self._queue = [request for request in self._queue if request not in served] + served

    def _next_batch(self) -> list[tuple[_PendingRequest, int]]:
        """Return the requests of the next batch, all for the classifier of the first one, with their numbers of texts.

        The places of the batch are dealt out one text at a time, to each request in turn.
        """
        requests = [request for request in self._queue if request.key == self._queue[0].key]
        counts = dict.fromkeys(requests, 0)
        free = self._batch_size
        while free and (unfinished := [request for request in requests if counts[request] < len(request.texts)]):
            for request in unfinished[:free]:
                counts[request] += 1
            free -= min(free, len(unfinished))
        return [(request, count) for request, count in counts.items() if count]
