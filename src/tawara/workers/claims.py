"""Rows that workers have claimed, held while the work lasts; and what is queued for an errand, as it is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tawara.metadata import leases, queues
from tawara.metadata.contract import Metadata
from tawara.model.files import Announcement, Errand, Queued
from tawara.workers.runner import Claimed


async def hold(metadata: Metadata, items: Sequence[Claimed[Any]], *, until: int) -> None:
    """Hold claims, all of one kind, until then; until now is to give them back."""
    claims = [held.claim for held in items]
    renew: Any = leases.renew_copies if claims and isinstance(claims[0], Announcement) else leases.renew
    for held, claim in zip(items, await metadata.write(renew, claims, until=until), strict=True):
        held.claim = claim


class Errands:
    """See the module. What a worker queues by itself it queues turn by turn."""

    def __init__(self, metadata: Metadata, errand: Errand, *, lease: int) -> None:
        """`lease`: seconds."""
        self._metadata = metadata
        self._errand = errand
        self._lease = lease
        self.next_turn = 0.0
        """When the worker is to queue the next ones (unix seconds)."""

    def turn_is_due(self, *, now: float, pause: float) -> bool:
        """Whether the next ones are to be queued; a turn further off than a `pause` was set before the clock was."""
        return not now < self.next_turn <= now + pause

    def take_turn(self, *, pause: float) -> bool:
        """Whether a turn is due by the clock's guess; if so, the next is a `pause` later."""
        now = self._metadata.clock.guess()
        if not self.turn_is_due(now=now, pause=pause):
            return False
        self.next_turn = now + pause
        return True

    async def claim(self, limit: int, *, now: int) -> list[Claimed[Queued]]:
        """Claim up to `limit` that are due."""
        due = await self._metadata.read(queues.next_errand, self._errand)
        if due is None or due > now:
            return []
        claims = await self._metadata.write(queues.claim_errands, self._errand, limit=limit, now=now, lease=self._lease)
        return [Claimed(claim) for claim in claims]

    async def next_due(self, *, turns: bool = True) -> float | None:
        """When the next falls due, or the next turn, if `turns` are taken now; None if neither will."""
        due = await self._metadata.read(queues.next_errand, self._errand)
        if not turns:
            return due
        return self.next_turn if due is None else min(due, self.next_turn)

    async def renew(self, items: Sequence[Claimed[Queued]]) -> None:
        """Hold claims for another lease."""
        await hold(self._metadata, items, until=await self._metadata.clock.seconds() + self._lease)

    async def release(self, items: Sequence[Claimed[Queued]]) -> None:
        """Give claims back undone."""
        await hold(self._metadata, items, until=await self._metadata.clock.seconds())
