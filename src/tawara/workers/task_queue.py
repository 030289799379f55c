"""Rows that workers have claimed, held while the work lasts; and what is queued for an errand, as it is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tawara.metadata import leases, queues
from tawara.metadata.contract import Metadata
from tawara.model.files import CopyReservation, QueuedTask, TaskType
from tawara.workers.runner import ClaimedRow


async def hold(metadata: Metadata, items: Sequence[ClaimedRow[Any]], *, until: int) -> None:
    """Hold claims, all of one kind, until then; until now is to give them back."""
    claims = [held.claim for held in items]
    renew: Any = leases.renew_copies if claims and isinstance(claims[0], CopyReservation) else leases.renew
    for held, claim in zip(items, await metadata.write(renew, claims, until=until), strict=True):
        held.claim = claim


class TaskQueue:
    """See the module. What a worker queues by itself it queues turn by turn."""

    def __init__(self, metadata: Metadata, task_type: TaskType, *, lease: int) -> None:
        """`lease`: seconds."""
        self._metadata = metadata
        self._task_type = task_type
        self._lease = lease
        self.next_tick = 0.0
        """When the worker is to queue the next ones (unix seconds)."""

    def tick_is_due(self, *, now: float, pause: float) -> bool:
        """Whether the next ones are to be queued; a turn further off than a `pause` was set before the clock was."""
        return not now < self.next_tick <= now + pause

    def take_tick(self, *, pause: float) -> bool:
        """Whether a turn is due by the clock's guess; if so, the next is a `pause` later."""
        now = self._metadata.clock.guess()
        if not self.tick_is_due(now=now, pause=pause):
            return False
        self.next_tick = now + pause
        return True

    async def claim(self, limit: int, *, now: int) -> list[ClaimedRow[QueuedTask]]:
        """Claim up to `limit` that are due."""
        due = await self._metadata.read(queues.next_task_due, self._task_type)
        if due is None or due > now:
            return []
        claims = await self._metadata.write(
            queues.claim_tasks, self._task_type, limit=limit, now=now, lease=self._lease
        )
        return [ClaimedRow(claim) for claim in claims]

    async def next_due(self, *, ticks: bool = True) -> float | None:
        """When the next falls due, or the next turn, if `turns` are taken now; None if neither will."""
        due = await self._metadata.read(queues.next_task_due, self._task_type)
        if not ticks:
            return due
        return self.next_tick if due is None else min(due, self.next_tick)

    async def renew(self, items: Sequence[ClaimedRow[QueuedTask]]) -> None:
        """Hold claims for another lease."""
        await hold(self._metadata, items, until=await self._metadata.clock.seconds() + self._lease)

    async def release(self, items: Sequence[ClaimedRow[QueuedTask]]) -> None:
        """Give claims back undone."""
        await hold(self._metadata, items, until=await self._metadata.clock.seconds())
