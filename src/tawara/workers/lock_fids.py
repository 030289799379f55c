"""Wraps a worker so that it holds mogilefsd's lock on a fid while it changes that fid; see metadata.fid_locks.

A fid that another process has locked is retried after a short pause. That does not count as a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tawara.metadata.contract import Metadata
from tawara.metadata.fid_locks import FidLocks
from tawara.workers import task_queue
from tawara.workers.runner import Worker

PAUSE = 5
"""Seconds after which a locked fid is tried again."""


class LockFids:
    """See the module. The units of the wrapped worker are claimed rows or copy reservations."""

    def __init__(self, worker: Worker[Any], locks: FidLocks, metadata: Metadata) -> None:
        self.name = worker.name
        self._worker = worker
        self._locks = locks
        self._metadata = metadata

    async def take(self, limit: int) -> Sequence[Any]:
        """See Worker."""
        return await self._worker.take(limit)

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._worker.next_due()

    async def renew(self, items: Sequence[Any]) -> None:
        """See Worker."""
        await self._worker.renew(items)

    async def release(self, items: Sequence[Any]) -> None:
        """See Worker."""
        await self._worker.release(items)

    async def work(self, item: Any) -> float | None:
        """See Worker."""
        async with self._locks.hold(item.claim.fid) as held:
            if held:
                return await self._worker.work(item)
        until = await self._metadata.clock.seconds() + PAUSE
        await task_queue.hold(self._metadata, [item], until=until)
        return until
