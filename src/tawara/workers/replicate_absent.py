"""Has the files of devices that are presumed dead replicated elsewhere, and trimmed when the devices are back.

Which device is which, the monitors have agreed upon (`model.absence`); nothing is written down about the files but that
they wait for replication, whose policies know what counts. Nothing is queued while most hosts do not answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tawara.metadata import device_liveness
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeup
from tawara.model.liveness import majority_is_silent
from tawara.workers.runner import NoClaims

log = structlog.get_logger(__name__)

PERIOD = 5.0
"""Seconds between two looks whether a device has files to be queued."""


class ReplicateAbsent(NoClaims):
    """See the module. A unit of work is a device: its files, in passes of one transaction each."""

    name = "replace"

    def __init__(
        self, metadata: Metadata, view: ClusterView, *, replicate_wakeup: Wakeup, period: float = PERIOD
    ) -> None:
        self._metadata = metadata
        self._view = view
        self._replicate_wakeup = replicate_wakeup
        self._period = period
        self._under_way: set[int] = set()

    async def take(self, limit: int) -> Sequence[int]:
        """See Worker."""
        cluster = self._view.current
        if majority_is_silent(cluster):
            return []
        due = [devid for devid, absent in cluster.absences.items() if absent.to_queue]
        taken = [devid for devid in due if devid not in self._under_way][:limit]
        self._under_way.update(taken)
        return taken

    async def work(self, item: int) -> float | None:
        """See Worker."""
        count = 0
        try:
            while not majority_is_silent(self._view.current):
                looked_at = await self._metadata.write(device_liveness.queue_files, item)
                if looked_at is None:
                    break
                count += looked_at
                self._replicate_wakeup.notify()
            await self._view.refresh()
        finally:
            self._under_way.discard(item)
        log.info("files of a device were looked at", device=item, files=count)
        return None

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._metadata.clock.guess() + self._period
