"""Wakes workers of the same process at once when work for them is queued.

A wakeup is a hint: the work itself is in the database, where workers also poll. Work that other processes queue causes
no wakeup here, unless `workers/wakeup_poller.py` polls for it.
"""

from __future__ import annotations

import asyncio
import contextlib


class Wakeup:
    """The event that wakes the worker of one kind of work."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake the worker: work is queued."""
        self._event.set()

    async def wait(self, at_most: float) -> bool:
        """Wait up to `at_most` seconds for a notification; return whether it came. One between waits is not lost."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), at_most)
        notified = self._event.is_set()
        self._event.clear()
        return notified


class Wakeups:
    """The wakeups of one process, one for each kind of work."""

    def __init__(self) -> None:
        self.replicate = Wakeup()
        self.delete = Wakeup()
        self.fsck = Wakeup()
        self.rebalance = Wakeup()
        self.scrub = Wakeup()
        self.drain = Wakeup()

    @property
    def of_queues(self) -> tuple[Wakeup, ...]:
        """Return the wakeups of the kinds of work that are queued by fid."""
        return self.replicate, self.delete, self.fsck, self.rebalance, self.scrub, self.drain
