"""Keeps the placement counts up to date: recounts the ranges of files that have changed, a few at a time.

Changes without a mark, such as those of a mogilefsd on the same database, are found because every range is recounted
regularly.
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
"""Seconds between two passes, or checks whether there is anything to count."""
SHARE = 0.02
"""Share of the time spent counting: after a pass of 4 seconds the next one starts 200 seconds later."""
REST = 4.0
"""Pause after each slice, as a multiple of the time that the slice took."""
LEASE = 60
"""Seconds for which one process has the exclusive right to count; renewed during a pass."""
MAX_AGE = 24 * 3600
"""Seconds after which a range is recounted although no change was recorded."""
MAX_AGE_WITH_MOGILEFSD = 3600
"""The same next to a running mogilefsd, which records no changes."""


class UpdatePlacementCounts:
    """See the module. A unit of work is one pass over all ranges that are due."""

    name = "placement_counts"

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        *,
        period: float = PERIOD,
        max_age: int = MAX_AGE,
        share: float = SHARE,
    ) -> None:
        self._metadata = metadata
        self._view = view
        self._period = period
        self._max_age = max_age
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
                await self._metadata.write(rows.release)  # another process has recounted all files
                break
            left.difference_update(done)
            await self._renew_lease()
        else:
            await self._metadata.write(rows.unmark, sorted(left))  # of deleted files with numbers above all others
            whole = len(marks) < rows.MARKS
            await (self._metadata.write(rows.finish, at=item) if whole else self._metadata.write(rows.release))
        self._due = self._metadata.clock.guess() + max(self._period, took / self._share)
        log.debug("placement_counted", seconds=round(took, 3), ranges=len(ranges))
        return self._due

    async def _recount(
        self, ranges: Sequence[CountedRange], marks: Sequence[tuple[int, int]], *, at: int
    ) -> AsyncIterator[tuple[CountedRange, Sequence[int]]]:
        """Recount the ranges that have, or may have, changed. Yields each with the marks that it covers."""
        changed = pending(ranges, marks)
        counted_at = await self._metadata.read(rows.counted_at)
        valid = at if counted_at is None else at - self._max_age

        def is_due(index: int) -> bool:
            return index in changed or not valid < ranges[index].counted_at <= at

        *full, last = [*ranges, None] if not ranges or ranges[-1].files >= rows.RANGE else ranges
        for index, each in enumerate(full):
            if each is not None and is_due(index) and (counted := await self._count(each)) is not None:
                yield counted, changed.pop(index, [])
        left = [number for each in changed.values() for number in each]
        end = ranges[-1].up_to if ranges else 0
        if left or await self._metadata.read(rows.greatest_fid) > end or (last is not None and is_due(len(full))):
            async for counted in self._count_the_end(last, end):
                yield counted, left

    async def _count(self, known: CountedRange) -> CountedRange | None:
        return await count_range(self._metadata, self._view.current, known.after, known.up_to, rest=REST)

    async def _count_the_end(self, last: CountedRange | None, end: int) -> AsyncIterator[CountedRange]:
        """Recount the last range, which is not full, and the files after it."""
        after = end if last is None else last.after
        none = True
        while (counted := await count_range(self._metadata, self._view.current, after, None, rest=REST)) is not None:
            yield counted
            after, none = counted.up_to, False
        if none and last is not None and (empty := await self._count(last)) is not None:
            yield empty  # all its files have been deleted

    async def _renew_lease(self) -> None:
        now = await self._metadata.clock.seconds()
        if now - self._renewed > LEASE / 3:
            self._renewed = now
            await self._metadata.write(rows.keep_tick, now=now, lease=LEASE)

    async def next_due(self) -> float | None:
        """See Worker."""
        return max(self._due, self._metadata.clock.guess() + 1)

    async def renew(self, items: Sequence[int]) -> None:
        """See Worker. A pass renews its own lease."""

    async def release(self, items: Sequence[int]) -> None:
        """See Worker. The lease expires within a minute."""
