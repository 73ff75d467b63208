"""Batches of concurrent requests: full, fair, in order, and no accepted text is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from whinchat.inference.predictor import Predictions
from whinchat.server.batcher import CHECK_TEXT, Batcher, QueueFullError
from whinchat.server.served_models import ModelKey

FIRST, SECOND = ModelKey("first"), ModelKey("second")


class Numbers:
    """Predicts the number that a text spells; each batch waits until the test releases it."""

    def __init__(self) -> None:
        self.batches: list[tuple[ModelKey, list[str]]] = []
        self.go = threading.Semaphore(0)

    def __call__(self, key: ModelKey, texts: Sequence[str]) -> Predictions:
        self.batches.append((key, list(texts)))
        assert self.go.acquire(timeout=10)
        if "bad" in texts:
            raise RuntimeError("bad text")
        texts = ["0" if text == CHECK_TEXT else text for text in texts]
        values = np.array([int(text) for text in texts])
        return Predictions(tuple(map(str, range(100))), np.eye(100)[values], values % 2 == 0)


async def until(numbers: Numbers, batches: int) -> None:
    for _ in range(1000):
        if len(numbers.batches) >= batches:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{len(numbers.batches)} batches, not {batches}")


def test_what_comes_while_one_is_computed_makes_the_next() -> None:
    async def story() -> None:
        numbers = Numbers()
        sizes: list[int] = []
        batcher = Batcher(numbers, 8, 100, sizes.append)
        batcher.start()
        first = asyncio.create_task(batcher.predict(FIRST, ["1"]))
        await until(numbers, 1)
        rest = [asyncio.create_task(batcher.predict(FIRST, [str(number), str(number + 50)])) for number in range(3)]
        await asyncio.sleep(0)
        assert batcher.waiting == 6
        numbers.go.release(2)
        predictions = await asyncio.gather(first, *rest)
        assert [part.label_indices.tolist() for part in predictions] == [[1], [0, 50], [1, 51], [2, 52]]
        assert predictions[1].unsure.tolist() == [True, True]
        assert sizes == [1, 6]
        await batcher.stop()

    asyncio.run(story())


def test_a_long_request_does_not_hold_up_a_short_one() -> None:
    async def story() -> None:
        numbers = Numbers()
        batcher = Batcher(numbers, 4, 100)
        batcher.start()
        long = asyncio.create_task(batcher.predict(FIRST, list(map(str, range(12)))))
        await until(numbers, 1)
        short = asyncio.create_task(batcher.predict(FIRST, ["70", "71"]))
        second = asyncio.create_task(batcher.predict(SECOND, ["90"]))
        await asyncio.sleep(0)
        numbers.go.release(10)
        assert (await short).label_indices.tolist() == [70, 71]
        assert (await second).label_indices.tolist() == [90]
        assert (await long).label_indices.tolist() == list(range(12))
        # The other classifier has its turn, and one of four places goes to the shortest request.
        texts = [["0", "1", "2", "3"], ["90"], ["4", "5", "6", "70"], ["7", "8", "9", "71"], ["10", "11"]]
        assert numbers.batches == [(SECOND if part == ["90"] else FIRST, part) for part in texts]
        await batcher.stop()

    asyncio.run(story())


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_request_waits_for_those_before_it_whatever_comes_after(batch_size: int) -> None:
    """A queue that is always full, of requests with one to four texts, and sometimes forty."""

    async def story() -> None:
        computed = 0
        tasks: list[asyncio.Task[None]] = []

        async def ask(count: int) -> None:
            start, ahead = computed, batcher.waiting + count
            await batcher.predict(FIRST, ["1"] * count)
            waits.append((computed - start - 2 * batch_size) / ahead)

        def refill(size: int) -> None:
            nonlocal computed
            computed += size
            room = 100 - batcher.waiting
            while room > 0 and len(tasks) < 300:
                count = 40 if len(tasks) % 50 == 49 else 1 + len(tasks) % 4
                tasks.append(asyncio.create_task(ask(count)))
                room -= count

        waits: list[float] = []
        numbers = Numbers()
        numbers.go.release(10_000)
        batcher = Batcher(numbers, batch_size, 200, refill)
        batcher.start()
        tasks.extend(asyncio.create_task(ask(1 + number % 4)) for number in range(40))
        while pending := [task for task in tasks if not task.done()]:
            await asyncio.wait(pending)
        await batcher.stop()
        assert len(waits) == 300
        assert max(waits) <= 4 / 3

    asyncio.run(story())


@pytest.mark.parametrize("batch_size", [1, 8])
def test_many_long_requests_do_not_hold_up_a_short_one(batch_size: int) -> None:
    async def story() -> None:
        numbers = Numbers()
        batcher = Batcher(numbers, batch_size, 1000)
        batcher.start()
        long = [asyncio.create_task(batcher.predict(FIRST, ["1"] * 50)) for _ in range(20)]
        await until(numbers, 1)
        short = asyncio.create_task(batcher.predict(FIRST, ["2"]))
        await asyncio.sleep(0)
        numbers.go.release(10_000)
        await asyncio.gather(short, *long)
        assert ["2" in texts for _, texts in numbers.batches].index(True) <= (4 if batch_size == 1 else 1)
        await batcher.stop()

    asyncio.run(story())


def test_too_many_are_refused_and_tables_wait() -> None:
    async def story() -> None:
        numbers = Numbers()
        batcher = Batcher(numbers, 2, 4)
        batcher.start()
        first = asyncio.create_task(batcher.predict(FIRST, ["1", "2", "3", "4"]))
        await until(numbers, 1)
        with pytest.raises(QueueFullError):
            await batcher.predict(FIRST, ["5", "6", "7"])
        second = asyncio.create_task(batcher.predict(FIRST, ["5", "6"]))
        await asyncio.sleep(0)
        assert batcher.waiting == 4
        with pytest.raises(QueueFullError), batcher.reserve(1, 9):
            pass
        numbers.go.release(10)
        assert [(await task).label_indices.tolist() for task in (first, second)] == [[1, 2, 3, 4], [5, 6]]
        # A table that has reserved its places finds room for each of its pieces; others find less.
        with batcher.reserve(2, 9) as reservation:
            table = asyncio.create_task(batcher.predict(FIRST, ["7", "8"], reservation=reservation))
            third = asyncio.create_task(batcher.predict(FIRST, ["9", "10"]))
            await asyncio.sleep(0)
            assert batcher.waiting == 4
            with pytest.raises(QueueFullError):
                await batcher.predict(FIRST, ["11"])
            with pytest.raises(QueueFullError), batcher.reserve(1, 9):
                pass
            assert [(await task).label_indices.tolist() for task in (table, third)] == [[7, 8], [9, 10]]
        with batcher.reserve(1, 1), pytest.raises(QueueFullError), batcher.reserve(1, 1):
            pass
        await batcher.stop()

    asyncio.run(story())


def test_the_time_to_come_again_is_that_of_the_queue() -> None:
    async def story() -> None:
        numbers = Numbers()
        batcher = Batcher(numbers, 2, 100)
        batcher.start()
        assert batcher.retry_seconds == 1
        first = asyncio.create_task(batcher.predict(FIRST, ["1", "2"]))
        await until(numbers, 1)
        await asyncio.sleep(0.2)
        numbers.go.release()
        await first
        # Two texts took at least 0.2 s, so that 40 take at least 4.
        waiting = asyncio.create_task(batcher.predict(FIRST, ["1"] * 40))
        await asyncio.sleep(0)
        assert 4 <= batcher.retry_seconds < 100
        with batcher.reserve(2, 9) as one, batcher.reserve(2, 9) as two:
            one.texts_left, two.texts_left = 20, 1000
            assert 8 <= batcher.reservation_retry_seconds < 200
        numbers.go.release(20)
        await waiting
        await batcher.stop()

    asyncio.run(story())


def test_a_bad_text_is_no_fault_of_its_neighbours() -> None:
    async def story() -> None:
        numbers = Numbers()
        batcher = Batcher(numbers, 8, 100)
        batcher.start()
        first = asyncio.create_task(batcher.predict(FIRST, ["1"]))
        await until(numbers, 1)
        bad = asyncio.create_task(batcher.predict(FIRST, ["bad", "2"]))
        good = asyncio.create_task(batcher.predict(FIRST, ["3"]))
        numbers.go.release(10)
        assert (await first).label_indices.tolist() == [1]
        assert (await good).label_indices.tolist() == [3]
        with pytest.raises(RuntimeError, match="bad text"):
            await bad
        assert not batcher.broken
        await batcher.stop()

    asyncio.run(story())


def test_a_classifier_that_fails_on_anything_is_broken_until_it_computes_again() -> None:
    class Sick(Numbers):
        sick = True

        def __call__(self, key: ModelKey, texts: Sequence[str]) -> Predictions:
            if self.sick and key == FIRST:
                raise MemoryError
            return super().__call__(key, texts)

    async def story() -> None:
        numbers = Sick()
        batcher = Batcher(numbers, 8, 100)
        batcher.start()
        numbers.go.release(10)
        with pytest.raises(MemoryError):
            await batcher.predict(FIRST, ["1"])
        assert (await batcher.predict(SECOND, ["2"])).label_indices.tolist() == [2]
        assert batcher.broken == ["first"]
        for sick in (True, False):
            numbers.sick = sick
            batcher.recheck()
            batcher.recheck()
            assert batcher.waiting == 1
            await batcher.predict(SECOND, ["2"])
            assert batcher.broken == (["first"] if sick else [])
        await batcher.stop()

    asyncio.run(story())


def test_a_fault_is_that_of_its_batch_alone() -> None:
    async def story() -> None:
        numbers = Numbers()
        batcher = Batcher(numbers, 2, 100)
        batcher.start()
        numbers.go.release(10)
        with pytest.raises(RuntimeError, match="bad text"):
            await batcher.predict(FIRST, ["1", "bad", "3"])
        assert (await batcher.predict(FIRST, ["4"])).label_indices.tolist() == [4]
        assert batcher.running
        await batcher.stop()

    asyncio.run(story())


def test_what_was_accepted_is_answered_before_the_end() -> None:
    async def story() -> None:
        numbers = Numbers()
        batcher = Batcher(numbers, 2, 100)
        batcher.start()
        asked = [asyncio.create_task(batcher.predict(FIRST, [str(number)] * 3)) for number in range(3)]
        await until(numbers, 1)
        end = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0.02)
        assert not end.done()
        numbers.go.release(10)
        await end
        assert [task.result().label_indices.tolist() for task in asked] == [[0] * 3, [1] * 3, [2] * 3]
        assert not batcher.running

    asyncio.run(story())


def test_who_has_gone_is_not_computed_for() -> None:
    async def story() -> None:
        numbers = Numbers()
        batcher = Batcher(numbers, 2, 100)
        batcher.start()
        first = asyncio.create_task(batcher.predict(FIRST, ["1"]))
        await until(numbers, 1)
        gone = asyncio.create_task(batcher.predict(FIRST, ["2"]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        last = asyncio.create_task(batcher.predict(FIRST, ["3"]))
        numbers.go.release(10)
        assert (await first).label_indices.tolist() == [1]
        assert (await last).label_indices.tolist() == [3]
        assert [texts for _, texts in numbers.batches] == [["1"], ["3"]]
        await batcher.stop()

    asyncio.run(story())
