"""Texts of requests that come at the same time, answered in common batches.

While one batch is computed the next gathers, so a batch is as large as the load makes it, and nobody waits for others
to come. Each request in turn puts one text into a batch: a long one does not hold up those beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from whinchat.inference.predictor import Predictions
from whinchat.server.served_models import ModelKey

Answer = Callable[[ModelKey, Sequence[str]], Predictions]


class QueueFullError(Exception):
    """More texts are waiting than may."""


@dataclass(eq=False)
class _Waiting:
    """A request's texts; the first ``taken`` of them are in batches already."""

    question: ModelKey
    texts: Sequence[str]
    done: asyncio.Future[Predictions]
    taken: int = 0
    answered: list[Predictions] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.texts) - self.taken


class Batcher:
    """Hands texts to ``answer``, one batch at a time, in a thread of its own.

    Args:
        answer: called with what one question asks of at most ``batch_size`` texts.
        batch_size: texts in a batch, at most.
        max_waiting: texts that may wait in all.
        watch: called with the size of each batch before it is computed.
    """

    def __init__(
        self, answer: Answer, batch_size: int, max_waiting: int, watch: Callable[[int], None] = lambda size: None
    ) -> None:
        self._answer = answer
        self._size = batch_size
        self._most = max_waiting
        self._watch = watch
        self._queue: list[_Waiting] = []
        self._some = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._work: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Texts that are in no batch yet."""
        return sum(one.left for one in self._queue)

    @property
    def running(self) -> bool:
        """Whether texts are being taken."""
        return self._work is not None and not self._work.done()

    def start(self) -> None:
        """Begin; inside a running event loop."""
        self._work = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Answer what was accepted, then end."""
        while self._queue:
            await asyncio.wait([one.done for one in self._queue])
        if self._work is not None:
            self._work.cancel()
        self._thread.shutdown()

    async def ask(self, question: ModelKey, texts: Sequence[str], *, patient: bool = False) -> Predictions:
        """Answers to ``texts``, one or more of them, in their order.

        Args:
            question: whom to ask.
            texts: the texts.
            patient: wait where too many others do, for work that is not a request of its own.

        Raises:
            QueueFullError: too many are waiting.
        """
        if not patient and self.waiting + len(texts) > self._most:
            raise QueueFullError
        one = _Waiting(question, texts, asyncio.get_running_loop().create_future())
        self._queue.append(one)
        self._some.set()
        return await one.done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # Whoever asked may have gone meanwhile.
            self._queue = [one for one in self._queue if one.left and not one.done.done()]
            if not self._queue:
                self._some.clear()
            await self._some.wait()
            batch = self._next()
            texts = [text for one, count in batch for text in one.texts[one.taken : one.taken + count]]
            for one, count in batch:
                one.taken += count
            self._watch(len(texts))
            computed = loop.run_in_executor(self._thread, self._answer, batch[0][0].question, texts)
            await asyncio.wait([computed])
            fault = computed.exception()
            start = 0
            for one, count in batch:
                if fault is not None:
                    one.taken = len(one.texts)
                    if not one.done.done():
                        one.done.set_exception(fault)
                    continue
                one.answered.append(computed.result()[start : start + count])
                start += count
                if not one.left and not one.done.done():
                    one.done.set_result(Predictions.concatenate(one.answered))
            # Those that have texts left go behind the others, so that each question has its turn.
            served = {one for one, _ in batch}
            self._queue = [one for one in self._queue if one not in served] + [one for one, _ in batch]

    def _next(self) -> list[tuple[_Waiting, int]]:
        """Who is in the next batch, with how many texts: those that ask what the first asks, one text each in turn."""
        asking = [one for one in self._queue if one.question == self._queue[0].question]
        counts = dict.fromkeys(asking, 0)
        room = self._size
        while room and (open_ := [one for one in asking if counts[one] < one.left]):
            for one in open_[:room]:
                counts[one] += 1
            room -= min(room, len(open_))
        return [(one, count) for one, count in counts.items() if count]
