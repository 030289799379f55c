"""Wake-up calls inside one process: who has queued work rings, the worker that waits for it wakes at once.

A bell is a hint and never the truth: the work is in the database, and a worker also looks there by itself from time to
time. What other processes queue does not ring here, unless someone listens for it (`workers/listener.py`).
"""

from __future__ import annotations

import asyncio
import contextlib


class Wakeup:
    """One kind of work's wake-up call."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Say that there is work."""
        self._event.set()

    async def wait(self, at_most: float) -> bool:
        """Sleep until the bell is rung, `at_most` seconds; whether it was. Rings between two waits are not lost."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), at_most)
        notified = self._event.is_set()
        self._event.clear()
        return notified


class Wakeups:
    """The bells of one process."""

    def __init__(self) -> None:
        self.replicate = Wakeup()
        self.delete = Wakeup()
        self.fsck = Wakeup()
        self.rebalance = Wakeup()
        self.scrub = Wakeup()
        self.drain = Wakeup()

    @property
    def of_queues(self) -> tuple[Wakeup, ...]:
        """All of them: one for each kind of work that is queued by fid."""
        return self.replicate, self.delete, self.fsck, self.rebalance, self.scrub, self.drain
