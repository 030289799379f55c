"""Replicates the files of devices that are presumed dead elsewhere, and removes surplus copies when the devices return.

The monitors agree on which devices are presumed dead (`model.liveness`). This worker only queues the files for
replication; their policies decide which replicas count. Nothing is queued while most hosts do not answer.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from tawara.metadata import device_liveness
from tawara.model.liveness import majority_is_silent
from tawara.workers.queue_passes import QueuePasses

log = structlog.get_logger(__name__)


class ReplicateAbsent(QueuePasses[int]):
    """See the module. A unit of work is a device."""

    name = "replicate_absent"

    def _due(self) -> Iterable[int]:
        cluster = self._view.current
        if majority_is_silent(cluster):
            return []
        return [devid for devid, absence in cluster.absences.items() if absence.to_queue]

    async def _queue_some(self, source: int) -> int | None:
        if majority_is_silent(self._view.current):
            return None
        return await self._metadata.write(device_liveness.queue_files, source)

    def _report(self, source: int, files: int) -> None:
        log.info("device_files_queued", devid=source, files=files)
