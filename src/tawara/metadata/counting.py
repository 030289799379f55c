"""Taking the census: slice after slice over all files, leaving room for others between two slices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tawara.metadata import census
from tawara.metadata.contract import Metadata
from tawara.model.census import Census, Group, merged

LEASE = 60
"""Seconds for which a process that counts keeps others from doing so as well; renewed while it lasts."""
_FOLD = 10_000
"""Groups gathered before they are merged."""


async def count(metadata: Metadata, *, rest: float = 0.0, keep: bool = False) -> Census:
    """Count all files. Raises Db.

    After each slice there is a pause of `rest` times what it took. With `keep` the turn is kept, which the caller has.
    """
    mark = await metadata.read(census.change_mark)
    began = renewed = await metadata.clock.seconds()
    groups: Sequence[Group] = ()
    after: int | None = 0
    took = 0.0
    while after is not None:
        start = time.monotonic()
        more, after = await metadata.read(census.count_slice, after)
        groups = [*groups, *more]
        if len(groups) > _FOLD:
            groups = merged(groups)
        spent = time.monotonic() - start
        took += spent
        if keep and (now := await metadata.clock.seconds()) - renewed > LEASE / 3:
            renewed = now
            await metadata.write(census.keep_turn, now=renewed, lease=LEASE)
        await asyncio.sleep(spent * rest)
    return Census(began, took, mark, merged(groups))


class Counter:
    """What one process knows of the census, counting itself where that costs little."""

    AFFORDABLE = 0.5
    """Seconds that counting may take to be done whenever somebody asks."""
    PATIENCE = 20.0
    """Seconds that it may take when somebody asks for it in so many words."""
    FRESH = 2.0
    """Seconds for which a count is not repeated."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._known: Census | None = None
        self._turn = asyncio.Lock()

    async def census(self, *, recount: bool = False) -> Census:
        """The census: as of now where counting is cheap, or asked for and bearable; else the last one. Raises Db."""
        async with self._turn:
            stamp = await self._metadata.read(census.stamp)
            known = self._known
            if stamp is not None and (known is None or stamp.at > known.at):
                known = await self._metadata.read(census.load)
            cost = known.took if known else 0.0
            fresh = known is not None and 0 <= await self._metadata.clock.now() - known.at < self.FRESH
            if known is None or (not fresh and cost <= (self.PATIENCE if recount else self.AFFORDABLE)):
                known = await count(self._metadata)
                if recount:
                    await self._metadata.write(census.store, known)
            self._known = known
            return known
