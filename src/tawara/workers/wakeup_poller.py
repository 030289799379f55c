"""Hears what other processes have queued for workers at once, by one small question to the database twice a second.

A copy that is missing and bytes that are to go should not wait until an idle worker looks by itself: the first is a
file one failure from loss. All three engines have a question in common and no other way, and this one is cheap.
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
"""Seconds between two questions."""


class WakeupPoller:
    """See the module. What it cannot hear, because the database does not answer, workers find when it does again."""

    def __init__(self, metadata: Metadata, wakeups: Wakeups, *, period: float = PERIOD) -> None:
        self._metadata = metadata
        self._wakeups = wakeups
        self._period = period
        self._listening = Background("listener")

    def start(self) -> None:
        """Begin."""
        self._listening.start(self._keep_listening())

    async def stop(self) -> None:
        """Hear nothing more."""
        await self._listening.stop()

    async def _keep_listening(self) -> None:
        while True:
            with contextlib.suppress(TawaraError):
                await self._listen()
            await asyncio.sleep(self._period)

    async def _listen(self) -> None:
        replication, deletion = await self._metadata.read(queues.next_urgent)
        now = self._metadata.clock.guess()
        if replication is not None and replication <= now:
            self._wakeups.replicate.notify()
        if deletion is not None and deletion <= now:
            self._wakeups.delete.notify()
