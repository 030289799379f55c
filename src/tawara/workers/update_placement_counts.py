"""The worker that keeps the placement counts: ranges of files that have changed are counted again, a little at a time.

Files that changed without leaving a mark, as those that a mogilefsd beside us changes, are found since every range is
counted again now and then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import structlog

from tawara.metadata import placement_counts as rows
from tawara.metadata.contract import Metadata
from tawara.metadata.counting import count_range, pending
from tawara.metadata.view import ClusterView
from tawara.model.placement_counts import CountedRange

log = structlog.get_logger(__name__)

PERIOD = 60.0
"""Seconds between two passes, or looks whether there is anything to count."""
SHARE = 0.02
"""Share of the time that counting may take: after a pass of four seconds the next begins 200 later."""
REST = 4.0
"""Pause after each slice, in the time that it took."""
LEASE = 60
"""Seconds for which a process that counts keeps others from doing so as well; renewed while it lasts."""
OLD = 24 * 3600
"""Seconds after which a range is counted again even if nobody has said that it changed."""
OLD_BESIDE = 3600
"""The same beside a running mogilefsd, which does not say."""


class UpdatePlacementCounts:
    """See the module. A unit of work is one pass, over all ranges that are due."""

    name = "census"

    def __init__(
        self, metadata: Metadata, view: ClusterView, *, period: float = PERIOD, old: int = OLD, share: float = SHARE
    ) -> None:
        self._metadata = metadata
        self._view = view
        self._period = period
        self._old = old
        self._share = share
        self._due = 0.0
        self._renewed = 0

    async def take(self, limit: int) -> Sequence[int]:
        """See Worker."""
        now = await self._metadata.clock.now()
        if now < self._due:
            return []
        self._due = now + self._period
        last = await self._metadata.read(rows.counted_at)
        if last is not None and last <= now < last + self._period:
            self._due = last + self._period
            return []
        if not await self._metadata.write(rows.begin, now=int(now), lease=LEASE):
            return []
        return [int(now)]

    async def work(self, item: int) -> float | None:
        """See Worker."""
        self._renewed = item
        marks = await self._metadata.read(rows.marked)
        ranges = await self._metadata.read(rows.outline)
        took = 0.0
        left = {number for number, _ in marks}
        async for counted, done in self._recount(ranges, marks, at=item):
            took += counted.took
            if not await self._metadata.write(rows.store, counted, done):
                await self._metadata.write(rows.release)  # someone has counted all files: what is left is theirs
                break
            left.difference_update(done)
            await self._keep_turn()
        else:
            await self._metadata.write(rows.unmark, sorted(left))  # of files that are gone, behind all that are there
            whole = len(marks) < rows.MARKS
            await (self._metadata.write(rows.finish, at=item) if whole else self._metadata.write(rows.release))
        self._due = self._metadata.clock.guess() + max(self._period, took / self._share)
        log.debug("placement_counted", seconds=round(took, 3), ranges=len(ranges))
        return self._due

    async def _recount(
        self, ranges: Sequence[CountedRange], marks: Sequence[tuple[int, int]], *, at: int
    ) -> AsyncIterator[tuple[CountedRange, Sequence[int]]]:
        """The ranges that have changed, or may have, counted again; with the marks that are done with then."""
        changed = pending(ranges, marks)
        counted_at = await self._metadata.read(rows.counted_at)
        valid = at if counted_at is None else at - self._old

        def is_due(place: int) -> bool:
            return place in changed or not valid < ranges[place].counted_at <= at

        *full, last = [*ranges, None] if not ranges or ranges[-1].files >= rows.RANGE else ranges
        for place, each in enumerate(full):
            if each is not None and is_due(place) and (counted := await self._count(each)) is not None:
                yield counted, changed.pop(place, [])
        left = [number for each in changed.values() for number in each]
        end = ranges[-1].up_to if ranges else 0
        if left or await self._metadata.read(rows.greatest_fid) > end or (last is not None and is_due(len(full))):
            async for counted in self._count_the_end(last, end):
                yield counted, left

    async def _count(self, known: CountedRange) -> CountedRange | None:
        return await count_range(self._metadata, self._view.current, known.after, known.up_to, rest=REST)

    async def _count_the_end(self, last: CountedRange | None, end: int) -> AsyncIterator[CountedRange]:
        """The last range, which is not full, and what is behind it."""
        after = end if last is None else last.after
        none = True
        while (counted := await count_range(self._metadata, self._view.current, after, None, rest=REST)) is not None:
            yield counted
            after, none = counted.up_to, False
        if none and last is not None and (empty := await self._count(last)) is not None:
            yield empty  # all of its files have been deleted

    async def _keep_turn(self) -> None:
        now = await self._metadata.clock.seconds()
        if now - self._renewed > LEASE / 3:
            self._renewed = now
            await self._metadata.write(rows.keep_tick, now=now, lease=LEASE)

    async def next_due(self) -> float | None:
        """See Worker."""
        return max(self._due, self._metadata.clock.guess() + 1)

    async def renew(self, items: Sequence[int]) -> None:
        """See Worker. A pass itself renews its turn."""

    async def release(self, items: Sequence[int]) -> None:
        """See Worker. The turn lapses within a minute."""
