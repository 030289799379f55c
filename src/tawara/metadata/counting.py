"""Counts files by their sets of devices in slices, off the event loop, pausing between slices."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from tawara.metadata import placement_counts as rows
from tawara.metadata.contract import Metadata
from tawara.model.cluster import Cluster
from tawara.model.errors import Db, TooManyFiles
from tawara.model.placement_counts import MOST_GROUPS, CountedRange, PlacementCounts
from tawara.model.placement_groups import PlacementGroup, merged
from tawara.model.safety import Safety

log = structlog.get_logger(__name__)

_LOADED_AT_ONCE = 16
"""Ranges read in one transaction."""


async def count_range(
    metadata: Metadata, cluster: Cluster, after: int, up_to: int | None, *, rest: float = 0.0, most: int = MOST_GROUPS
) -> CountedRange | None:
    """Count up to `rows.RANGE` files with fids greater than `after`, up to `up_to`; None if there are none.

    After each slice it pauses for `rest` times the slice's duration. Raises Db.
    """
    at = await metadata.clock.seconds()
    totals = rows.Totals()
    took, last = 0.0, after
    while up_to is not None or totals.files < rows.RANGE:
        began = time.monotonic()
        placed = await metadata.read_long(rows.files_from, last, up_to, rows.SLICE)
        if not placed:
            break
        totals.add(placed)
        last = placed[-1][0]
        spent = time.monotonic() - began
        took += spent
        await asyncio.sleep(spent * rest)
    if last == after and up_to is None:
        return None

    def conclude() -> CountedRange:
        began = time.monotonic()
        groups = totals.groups()
        if len(groups) <= 2 * most:
            groups = list(merged(groups))
        counted = CountedRange.of(after, last if up_to is None else up_to, groups, cluster, counted_at=at, most=most)
        return replace(counted, took=took + time.monotonic() - began)

    return await asyncio.to_thread(conclude)


async def count_all(
    metadata: Metadata, cluster: Cluster, *, rest: float = 0.0, most: int = MOST_GROUPS
) -> AsyncIterator[CountedRange]:
    """Count all files, range by range. Raises Db."""
    after = 0
    while (counted := await count_range(metadata, cluster, after, None, rest=rest, most=most)) is not None:
        yield counted
        after = counted.up_to


class Counter:
    """The placement counts of one process: read from the database, or counted on demand if that is cheap."""

    LONGEST_RECOUNT = 0.5
    """Most seconds that a count may take to be repeated for each request."""
    FRESH = 2.0
    """Seconds for which a count is reused."""
    SMALL = 100_000
    """Greatest fid of a store that is counted on demand if no worker has counted it yet."""
    EXACT = 200_000
    """Most groups kept by a count for a single request, where the store is small."""

    MOST_EXAMINED = 1_000_000
    """Most files that are examined individually to determine the effect of losing devices."""
    AT_ONCE = 0.7
    """Seconds that a request waits for the figures to reflect changed devices."""
    PAGES = 60.0
    """Seconds for which such a result is kept, to be fetched page by page."""

    def __init__(self, metadata: Metadata, cluster: Callable[[], Cluster]) -> None:
        """`cluster`: returns the current state of the devices."""
        self._metadata = metadata
        self._cluster = cluster
        self._known: PlacementCounts | None = None
        self._ranges: dict[int, CountedRange] = {}
        self._about: tuple[tuple[int, ...], float, tuple[PlacementGroup, ...]] | None = None
        self._corrected: _Correction | None = None
        self._reading = asyncio.Lock()
        self._recounting = asyncio.Lock()

    async def counts(self, *, recount: bool = False) -> PlacementCounts:
        """Return the counts: current if counting is cheap or `recount` is set, else the workers' counts. Raises Db."""
        if recount:
            async with self._recounting:  # a separate lock: other requests do not wait for a recount
                small = await self._metadata.read(rows.greatest_fid) <= self.SMALL
                self._known = await self._count(exact=small, keep=True)
                return self._known
        async with self._reading:
            now = await self._metadata.clock.now()
            known = self._known
            if known is not None and 0 <= now - known.at < self.FRESH:
                return known
            stored = await self._stored()
            self._known = await self._count(exact=True, keep=False) if await self._is_small(stored) else stored
            return self._known

    async def _is_small(self, stored: PlacementCounts) -> bool:
        if stored.complete:
            return stored.took <= self.LONGEST_RECOUNT
        return await self._metadata.read(rows.greatest_fid) <= self.SMALL

    async def _count(self, *, exact: bool, keep: bool) -> PlacementCounts:
        at = await self._metadata.clock.seconds()
        most = self.EXACT if exact else MOST_GROUPS
        counting = count_all(self._metadata, self._cluster(), most=most)
        ranges = tuple([each async for each in counting])
        counts = PlacementCounts(at, sum(each.took for each in ranges), ranges)
        if keep:
            await self._metadata.write(rows.replace_all, counts)
            self._ranges = {}
        return counts

    async def _stored(self) -> PlacementCounts:
        """Return the workers' counts, of all files or of a first part; only changed ranges are read."""
        at = await self._metadata.read(rows.counted_at)
        complete = at is not None
        outline = await self._metadata.read_long(rows.outline)
        fresh = {each.up_to: each for each in outline}
        same = {
            up_to: each
            for up_to, each in self._ranges.items()
            if up_to in fresh and _signature(fresh[up_to]) == _signature(each)
        }
        missing = sorted(fresh.keys() - same.keys())
        for start in range(0, len(missing), _LOADED_AT_ONCE):
            part = missing[start : start + _LOADED_AT_ONCE]
            same |= {each.up_to: each for each in await self._metadata.read_long(rows.load, part)}
        self._ranges = same
        ranges = tuple(same[up_to] for up_to in sorted(same))
        oldest = min((each.counted_at for each in ranges), default=0) if at is None else at
        return PlacementCounts(oldest, sum(each.took for each in ranges), ranges, complete)

    async def about(self, devids: Sequence[int]) -> tuple[PlacementGroup, ...]:
        """Return the current groups of the files that have a replica on one of these devices.

        Raises Db, and TooManyFiles if there are too many files to examine individually.
        """
        async with self._reading:
            now, wanted = time.monotonic(), tuple(sorted(devids))
            if self._about is None or self._about[0] != wanted or now - self._about[1] > self.PAGES:
                found = await self._metadata.read_long(rows.touched, wanted, limit=self.MOST_EXAMINED)
                if found is None:
                    raise TooManyFiles
                groups = await asyncio.to_thread(merged, [group for _, group in found])
                self._about = wanted, now, groups
            return self._about[2]

    async def safety(self, counts: PlacementCounts) -> tuple[Safety, int]:
        """Return how safe the files are, and the number of devices whose later change of state is not considered.

        If considering them takes more than `AT_ONCE` seconds, a later request gets the result. Raises Db.
        """
        cluster = self._cluster()
        changed = counts.changed(cluster)
        if not changed:
            return await asyncio.to_thread(counts.safety, cluster), 0
        key = counts.at, counts.files, changed
        last = self._corrected
        if last is None or (last.task.done() and (last.key != key or time.monotonic() - last.began > self.PAGES / 4)):
            task = asyncio.create_task(self._correct(counts, cluster, changed), name="placement counts")
            last = self._corrected = _Correction(key, time.monotonic(), task)
        await asyncio.wait({last.task}, timeout=self.AT_ONCE)
        if last.key == key and last.task.done() and (corrected := last.task.result()) is not None:
            return corrected, 0
        return await asyncio.to_thread(counts.safety, cluster), len(changed)

    async def _correct(self, counts: PlacementCounts, cluster: Cluster, changed: frozenset[int]) -> Safety | None:
        """Return the figures corrected for the changed devices; None if they are not available yet."""
        try:
            touched = await self._metadata.read_long(rows.touched, sorted(changed))
        except Db as error:
            log.debug("placement_correction_failed", reason=str(error))
            return None
        return None if touched is None else await asyncio.to_thread(counts.corrected, cluster, touched)


@dataclass(frozen=True, slots=True)
class _Correction:
    """The figures corrected for devices that have changed since the count, complete or in progress."""

    key: tuple[int, int, frozenset[int]]
    began: float
    task: asyncio.Task[Safety | None]


def _signature(counted: CountedRange) -> tuple[int, int, float, int]:
    return counted.after, counted.counted_at, counted.took, counted.files


def pending(ranges: Sequence[CountedRange], marks: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    """Return the ranges with changed files: index -> numbers of the marks; index -1 for files after all ranges.

    A mark that spans several ranges is listed with the last of them; the others are included as well.
    """
    ends = [each.up_to for each in ranges]
    found: dict[int, list[int]] = {}
    for number, first in marks:
        begin, end = rows.fids_of(first)
        places = range(bisect_left(ends, begin), min(bisect_left(ends, end), len(ends) - 1) + 1)
        for place in places:
            found.setdefault(place, [])
        found.setdefault(places[-1] if places else -1, []).append(number)
    return found
