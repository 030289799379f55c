"""Queues the files of classes whose number of copies was raised, or whose policy was changed, for replication."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import class_changes
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeup
from tawara.workers.runner import NoClaims

log = structlog.get_logger(__name__)

PERIOD = 5.0
"""Seconds between two looks whether a class was changed."""


class QueueChangedClasses(NoClaims):
    """See the module. A unit of work is a class: its files, in turns of one transaction each."""

    name = "reclass"

    def __init__(
        self, metadata: Metadata, view: ClusterView, *, replicate_wakeup: Wakeup, period: float = PERIOD
    ) -> None:
        self._metadata = metadata
        self._view = view
        self._replicate_wakeup = replicate_wakeup
        self._period = period
        self._under_way: set[str] = set()

    async def take(self, limit: int) -> Sequence[str]:
        """See Worker."""
        changed = (field for field in self._view.current.settings if field.startswith(class_changes.PREFIX))
        taken = [field for field in changed if field not in self._under_way][:limit]
        self._under_way.update(taken)
        return taken

    async def work(self, item: str) -> float | None:
        """See Worker."""
        count = 0
        try:
            while True:
                now = await self._metadata.clock.seconds()
                queued = await self._metadata.write(class_changes.queue_files, item, now=now)
                if queued is None:
                    break
                count += queued
                self._replicate_wakeup.notify()
            await self._view.refresh()
        finally:
            self._under_way.discard(item)
        if count:
            log.info("class_files_queued", setting=item, files=count)
        return None

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._metadata.clock.guess() + self._period
