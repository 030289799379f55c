"""The drain worker: empties the devices that people want to take out, by moves that each file's policy likes."""

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
        """See Worker. While devices are to be emptied, their next files are queued before."""
        now = await self._metadata.clock.seconds()
        if self._is_on and self._queue.tick_is_due(now=now, pause=LONGEST_PAUSE):
            due = await self._metadata.write(drain.inject, now=now)
            self._queue.next_tick = now + LONGEST_PAUSE if due is None else max(due, now + 1)
            await self._view.refresh()
        return await self._queue.claim(limit, now=now)

    @property
    def _is_on(self) -> bool:
        on = any(name.startswith(PREFIX) for name in self._view.current.settings)
        if not on:
            self._queue.next_tick = 0.0  # at once when there is one
        return on

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._queue.next_due(ticks=self._is_on)
