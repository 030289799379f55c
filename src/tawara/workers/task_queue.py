"""Claimed rows: renewing and releasing them, and claiming from the queue of one type of task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tawara.metadata import leases, queues
from tawara.metadata.contract import Metadata
from tawara.model.files import CopyReservation, QueuedTask, TaskType
from tawara.workers.runner import ClaimedRow


async def hold(metadata: Metadata, items: Sequence[ClaimedRow[Any]], *, until: int) -> None:
    """Extend the leases of claims, all of one kind, to `until` (unix seconds). The current time releases them."""
    claims = [held.claim for held in items]
    renew: Any = leases.renew_copies if claims and isinstance(claims[0], CopyReservation) else leases.renew
    for held, claim in zip(items, await metadata.write(renew, claims, until=until), strict=True):
        held.claim = claim


class LeaseHolder:
    """The part of a worker that renews and releases its claimed rows."""

    _metadata: Metadata
    _lease: int
    """Seconds."""

    async def renew(self, items: Sequence[ClaimedRow[Any]]) -> None:
        """See Worker."""
        await hold(self._metadata, items, until=await self._metadata.clock.seconds() + self._lease)

    async def release(self, items: Sequence[ClaimedRow[Any]]) -> None:
        """See Worker."""
        await hold(self._metadata, items, until=await self._metadata.clock.seconds())


class TaskQueue(LeaseHolder):
    """The tasks of one type. A worker that queues tasks itself does so in ticks, and asks here when one is due."""

    def __init__(self, metadata: Metadata, task_type: TaskType, *, lease: int) -> None:
        """`lease`: seconds."""
        self._metadata = metadata
        self._task_type = task_type
        self._lease = lease
        self.next_tick = 0.0
        """When the worker queues the next tasks (unix seconds)."""

    def tick_is_due(self, *, now: float, pause: float) -> bool:
        """Whether to queue the next tasks. A tick more than `pause` seconds ahead was set before the clock was."""
        return not now < self.next_tick <= now + pause

    def take_tick(self, *, pause: float) -> bool:
        """Whether a tick is due by the estimated time; if so, schedule the next one `pause` seconds later."""
        now = self._metadata.clock.guess()
        if not self.tick_is_due(now=now, pause=pause):
            return False
        self.next_tick = now + pause
        return True

    async def claim(self, limit: int, *, now: int) -> list[ClaimedRow[QueuedTask]]:
        """Claim up to `limit` tasks that are due."""
        due = await self._metadata.read(queues.next_task_due, self._task_type)
        if due is None or due > now:
            return []
        claims = await self._metadata.write(
            queues.claim_tasks, self._task_type, limit=limit, now=now, lease=self._lease
        )
        return [ClaimedRow(claim) for claim in claims]

    async def next_due(self, *, ticks: bool = True) -> float | None:
        """When the next task, or with `ticks` the next tick, is due (unix seconds); None if there is neither."""
        due = await self._metadata.read(queues.next_task_due, self._task_type)
        if not ticks:
            return due
        return self.next_tick if due is None else min(due, self.next_tick)
