"""Wakes workers for work that other processes have queued, by one small query twice a second.

A missing copy leaves its file one failure from loss, so it must not wait until an idle worker polls. A query is the
only means that all three engines have in common, and this one is cheap.
"""

from __future__ import annotations

import asyncio
import contextlib

from tawara.background import Background
from tawara.metadata import queues
from tawara.metadata.contract import Metadata
from tawara.metadata.wakeups import Wakeups
from tawara.model.errors import TawaraError

PERIOD = 0.5
"""Seconds between two queries."""


class WakeupPoller:
    """See the module. Work queued while the database does not answer is found by the workers themselves."""

    def __init__(self, metadata: Metadata, wakeups: Wakeups, *, period: float = PERIOD) -> None:
        self._metadata = metadata
        self._wakeups = wakeups
        self._period = period
        self._polling = Background("wakeup poller")

    def start(self) -> None:
        """Start polling."""
        self._polling.start(self._poll_forever())

    async def stop(self) -> None:
        """Stop polling."""
        await self._polling.stop()

    async def _poll_forever(self) -> None:
        while True:
            with contextlib.suppress(TawaraError):
                await self._poll()
            await asyncio.sleep(self._period)

    async def _poll(self) -> None:
        replication, deletion = await self._metadata.read(queues.next_urgent)
        now = self._metadata.clock.guess()
        if replication is not None and replication <= now:
            self._wakeups.replicate.notify()
        if deletion is not None and deletion <= now:
            self._wakeups.delete.notify()
