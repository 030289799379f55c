"""Queues the files of classes whose replica count was raised or whose policy was changed for replication."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from tawara.metadata import class_changes
from tawara.workers.queue_passes import QueuePasses

log = structlog.get_logger(__name__)


class QueueChangedClasses(QueuePasses[str]):
    """See the module. A unit of work is the setting that records the change of a class."""

    name = "reclass"

    def _due(self) -> Iterable[str]:
        return (field for field in self._view.current.settings if field.startswith(class_changes.PREFIX))

    async def _queue_some(self, source: str) -> int | None:
        now = await self._metadata.clock.seconds()
        return await self._metadata.write(class_changes.queue_files, source, now=now)

    def _report(self, source: str, files: int) -> None:
        if files:
            log.info("class_files_queued", setting=source, files=files)
