"""The queue that flushes waiting items in batches."""

from __future__ import annotations

import asyncio

from tawara.batching import Batcher, Finished


class Flushes:
    """Batches in the order in which they were started; the test finishes each."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.finish: list[Finished] = []

    def __call__(self, batch: list[int], finished: Finished) -> None:
        self.batches.append(batch)
        self.finish.append(finished)


async def test_items_of_one_tick_share_a_batch() -> None:
    """An idle batcher flushes in the same loop iteration, with everything that was added before."""
    flushes = Flushes()
    batcher = Batcher(flushes, width=1, most=9)
    for number in range(3):
        batcher.add(number)
    assert flushes.batches == []
    await asyncio.sleep(0)
    assert flushes.batches == [[0, 1, 2]]


async def test_no_more_than_width_flushes_of_at_most_most_items() -> None:
    """Items beyond the limits wait for a flush to finish, in their order."""
    flushes = Flushes()
    batcher = Batcher(flushes, width=2, most=2)
    for number in range(3):
        batcher.add(number)
    await asyncio.sleep(0)
    batcher.add(3)
    await asyncio.sleep(0)
    for number in range(4, 7):
        batcher.add(number)
    await asyncio.sleep(0)
    assert flushes.batches == [[0, 1], [2, 3]]
    flushes.finish[1]()
    assert flushes.batches[2:] == [[4, 5]]
    flushes.finish[0]()
    flushes.finish[2]()
    assert flushes.batches[3:] == [[6]]
    assert not batcher.is_idle
    flushes.finish[3]()
    assert batcher.is_idle


async def test_with_max_wait_one_flush_at_a_time_while_it_is_fast() -> None:
    """A second flush starts only when items have waited for the first one for `max_wait`."""
    flushes = Flushes()
    batcher = Batcher(flushes, width=2, most=9, max_wait=3600)
    batcher.add(0)
    await asyncio.sleep(0)
    batcher.add(1)
    await asyncio.sleep(0)
    assert flushes.batches == [[0]]
    flushes.finish[0]()
    assert flushes.batches == [[0], [1]]
    slow = Flushes()
    batcher = Batcher(slow, width=2, most=9, max_wait=0)
    batcher.add(0)
    await asyncio.sleep(0)
    batcher.add(1)
    while len(slow.batches) < 2:
        await asyncio.sleep(0)
    assert slow.batches == [[0], [1]]


async def test_waiting_items_can_be_taken_back() -> None:
    """A waiting item that is taken back is in no later flush."""
    flushes = Flushes()
    batcher = Batcher(flushes, width=1, most=1)
    for number in range(3):
        batcher.add(number)
    await asyncio.sleep(0)
    assert batcher.take_waiting() == [1, 2]
    flushes.finish[0]()
    assert flushes.batches == [[0]]
    assert batcher.is_idle
