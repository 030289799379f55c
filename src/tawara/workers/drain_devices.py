"""Moves all replicas off the devices that are being drained, to devices that each file's policy accepts."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import drain
from tawara.model.drain import LONGEST_PAUSE, PREFIX
from tawara.model.files import TaskType
from tawara.workers.move_files import Held, MoveFiles

log = structlog.get_logger(__name__)


class DrainDevices(MoveFiles):
    """See the module."""

    name = "drain"
    task_type = TaskType.DRAIN

    async def take(self, limit: int) -> Sequence[Held]:
        """See Worker. While devices are being drained, the next of their files are queued first."""
        now = await self._metadata.clock.seconds()
        if self._is_running and self._queue.tick_is_due(now=now, pause=LONGEST_PAUSE):
            due = await self._metadata.write(drain.inject, now=now)
            self._queue.next_tick = now + LONGEST_PAUSE if due is None else max(due, now + 1)
            await self._view.refresh()
        return await self._queue.claim(limit, now=now)

    @property
    def _is_running(self) -> bool:
        running = any(name.startswith(PREFIX) for name in self._view.current.settings)
        if not running:
            self._queue.next_tick = 0.0  # the next drain starts at once
        return running

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._queue.next_due(ticks=self._is_running)
