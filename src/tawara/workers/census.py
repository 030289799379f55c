"""The census worker: counts how many files lie on which devices, seldom, a little at a time, and only after changes."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import census as rows
from tawara.metadata.contract import Metadata
from tawara.metadata.counting import LEASE, count

log = structlog.get_logger(__name__)

PERIOD = 60.0
"""Seconds between two counts, or looks whether there is anything to count."""
SHARE = 0.02
"""Share of the time that counting may take: a store that takes four seconds is counted every 200."""
REST = 4.0
"""Pause after each slice, in the time that it took."""


class Census:
    """See the module. A unit of work is one count."""

    name = "census"

    def __init__(self, metadata: Metadata, *, period: float = PERIOD) -> None:
        self._metadata = metadata
        self._period = period
        self._due = 0.0

    async def take(self, limit: int) -> Sequence[int]:
        """See Worker."""
        now = await self._metadata.clock.now()
        if now < self._due:
            return []
        last = await self._metadata.read(rows.stamp)
        if last is not None:
            self._due = last.at + max(self._period, last.took / SHARE)
            if last.at <= now < self._due:
                return []
        self._due = now + self._period
        if last is not None and last.mark == await self._metadata.read(rows.change_mark):
            await self._metadata.write(rows.touch, now=int(now))
            return []
        if not await self._metadata.write(rows.begin, now=int(now), lease=LEASE):
            return []
        return [int(now)]

    async def work(self, item: int) -> float | None:
        """See Worker."""
        census = await count(self._metadata, rest=REST, keep=True)
        await self._metadata.write(rows.store, census)
        self._due = self._metadata.clock.guess() + max(self._period, census.took / SHARE)
        log.debug("files counted", files=census.files, groups=len(census.groups), seconds=round(census.took, 3))
        return self._due

    async def next_due(self) -> float | None:
        """See Worker."""
        return max(self._due, self._metadata.clock.guess() + 1)

    async def renew(self, items: Sequence[int]) -> None:
        """See Worker. The count itself renews its turn."""

    async def release(self, items: Sequence[int]) -> None:
        """See Worker. The turn lapses within a minute."""
