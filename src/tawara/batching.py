"""A queue that flushes what waits in batches: calls that arrive at the same time share one query, commit or fsync.

There is no artificial delay. An idle batcher flushes at once; items that arrive while a batch is being run form the
next batch. The module holds the queue only: a flush is started by a callback, which may run the batch in a task
(`metadata.batching`) or in a thread (`disks.pools`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
Finished: TypeAlias = Callable[[], None]


class Batcher(Generic[T]):
    """The waiting items of one kind, and at most `width` concurrent flushes of at most `most` items each.

    Belongs to one event loop.
    """

    def __init__(
        self,
        flush: Callable[[list[T], Finished], None],
        *,
        width: int,
        most: int,
        max_wait: float | None = None,
    ) -> None:
        """`flush` starts to run a batch and returns; when the batch has ended, its second argument is to be called
        once, on the event loop.

        With `max_wait`, a second flush starts only when items have waited for the current one for so many seconds;
        without it, whenever fewer than `width` are being run.
        """
        self._flush = flush
        self._width, self._most, self._max_wait = width, most, max_wait
        self._waiting: deque[T] = deque()
        self._flushes: set[int] = set()
        self._slow: set[int] = set()
        """Flushes that others no longer wait for."""
        self._started = 0
        self._flush_scheduled = False
        self._max_wait_timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Queue an item for the next flush."""
        self._waiting.append(item)
        if self._flush_scheduled:
            return
        if self._may_flush():
            # After the callbacks that the loop has ready now, so that what they add joins the same batch.
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._start_flush)
        else:
            self._limit_wait()

    def take_waiting(self) -> list[T]:
        """Remove and return the items that are in no flush yet."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    @property
    def is_idle(self) -> bool:
        """Whether no item waits and no batch is being run."""
        return not self._waiting and not self._flushes

    def _may_flush(self) -> bool:
        if len(self._flushes) >= self._width:
            return False
        return self._max_wait is None or self._flushes <= self._slow

    def _start_flush(self) -> None:
        self._flush_scheduled = False
        if not self._waiting or not self._may_flush():
            return
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
        self._started += 1
        self._flushes.add(self._started)
        if self._waiting:
            self._limit_wait()
        self._flush(batch, partial(self._finish, self._started))

    def _finish(self, flush: int) -> None:
        self._flushes.discard(flush)
        self._slow.discard(flush)
        if self._max_wait_timer is not None:
            self._max_wait_timer.cancel()
            self._max_wait_timer = None
        self._start_flush()

    def _limit_wait(self) -> None:
        if self._max_wait is not None and self._max_wait_timer is None:
            self._max_wait_timer = asyncio.get_running_loop().call_later(self._max_wait, self._stop_waiting)

    def _stop_waiting(self) -> None:
        self._max_wait_timer = None
        self._slow |= self._flushes
        self._start_flush()
