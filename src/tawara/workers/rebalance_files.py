"""Queues the moves of a rebalance, in ticks shared by all processes, and makes them (docs/mogilefs.md 13)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import rebalance
from tawara.metadata.runs import TICK
from tawara.model.files import TaskType
from tawara.workers.move_files import Held, MoveFiles

log = structlog.get_logger(__name__)


class RebalanceFiles(MoveFiles):
    """See the module."""

    name = "rebalance"
    task_type = TaskType.MOVE

    async def take(self, limit: int) -> Sequence[Held]:
        """See Worker. While a rebalance runs, the next moves are queued first."""
        now = await self._metadata.clock.seconds()
        cluster = self._view.current
        if self._is_running and self._queue.take_tick(pause=TICK):
            is_running = await self._metadata.write(rebalance.inject, cluster, self._rng, now=now)
            if not is_running:
                log.info("rebalance_ended")
            await self._view.refresh()  # devices may have changed their states
        return await self._queue.claim(limit, now=now)

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._queue.next_due(ticks=self._is_running)

    @property
    def _is_running(self) -> bool:
        return bool(self._view.current.settings.get("rebal_host"))
