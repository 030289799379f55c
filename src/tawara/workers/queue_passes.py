"""Queues the files of a class or of a device for replication, in passes of one transaction each."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeup
from tawara.workers.runner import NoClaims

Source = TypeVar("Source", bound=Hashable)

PERIOD = 5.0
"""Seconds between two checks for a source with files to queue."""


class QueuePasses(NoClaims, Generic[Source]):
    """The common part of workers that queue many files. A unit of work is one source: a class or a device."""

    def __init__(
        self, metadata: Metadata, view: ClusterView, *, replicate_wakeup: Wakeup, period: float = PERIOD
    ) -> None:
        """`period`: seconds between two checks for a source with files to queue."""
        self._metadata = metadata
        self._view = view
        self._replicate_wakeup = replicate_wakeup
        self._period = period
        self._in_progress: set[Source] = set()

    def _due(self) -> Iterable[Source]:
        """The sources with files to queue."""
        raise NotImplementedError

    async def _queue_some(self, source: Source) -> int | None:
        """Queue the next files of a source. Returns their number, None when the source is done."""
        raise NotImplementedError

    def _report(self, source: Source, files: int) -> None:
        """Log that a source is done."""
        raise NotImplementedError

    async def take(self, limit: int) -> Sequence[Source]:
        """See Worker."""
        taken = [source for source in self._due() if source not in self._in_progress][:limit]
        self._in_progress.update(taken)
        return taken

    async def work(self, item: Source) -> float | None:
        """See Worker."""
        count = 0
        try:
            while (queued := await self._queue_some(item)) is not None:
                count += queued
                self._replicate_wakeup.notify()
            await self._view.refresh()
        finally:
            self._in_progress.discard(item)
        self._report(item, count)
        return None

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._metadata.clock.guess() + self._period
