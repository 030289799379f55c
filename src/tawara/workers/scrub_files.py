"""Reads every byte of every replica again within a period, and repairs damage.

`model.scrub` spreads the files evenly over the period; `model.fsck` decides what to do with the findings. A replica's
digest is compared with the stored one. Where none is stored, the digests of the replicas are compared with each other,
and one that most of them have is stored. Storage nodes compute digests, one at a time per disk, or the worker reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from tawara.metadata import files, queues, scrub
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.cluster import HashType
from tawara.model.files import QueuedTask, TaskType
from tawara.model.fsck import Code, FsckRules
from tawara.model.scrub import TICK
from tawara.nodes.client import NodeClient
from tawara.workers.examination import Examination, ExaminationOptions
from tawara.workers.runner import LEASE, ClaimedRow
from tawara.workers.task_queue import TaskQueue

Held = ClaimedRow[QueuedTask]

HASHTYPE = HashType.MD5
"""For files whose class has none: the cheapest, and the one that storage nodes verify while they receive."""
UNLOGGED = (Code.NO_CHECKSUM, Code.BAD_ALGORITHM, Code.BAD_COUNT)
"""Findings that are not damage."""
LONGEST_PAUSE = 60.0
"""Seconds after which the settings are read again."""


class ScrubFiles:
    """See the module. A unit of work is one file."""

    name = "scrub"

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        lease: int = LEASE,
        **options: Unpack[ExaminationOptions],
    ) -> None:
        self._metadata = metadata
        self._view = view
        self._setting: str | None = None
        self._queue = TaskQueue(metadata, TaskType.SCRUB, lease=lease)
        self._examination = Examination(metadata, view, nodes, throttle="scrub", unlogged=UNLOGGED, **options)

    async def take(self, limit: int) -> Sequence[Held]:
        """See Worker. When a tick is due, the next files are queued first."""
        now = await self._metadata.clock.seconds()
        setting = self._view.current.settings.get(scrub.PERIOD, "")
        if setting != self._setting or self._queue.tick_is_due(now=now, pause=LONGEST_PAUSE):
            self._setting = setting
            due = await self._metadata.write(scrub.inject, now=now)
            self._queue.next_tick = (
                now + LONGEST_PAUSE if due is None else min(max(due, now + TICK), now + LONGEST_PAUSE)
            )
        return await self._queue.claim(limit, now=now)

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._queue.next_due()

    async def renew(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await self._queue.renew(items)

    async def release(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await self._queue.release(items)

    async def work(self, item: Held) -> float | None:
        """See Worker."""
        file = await self._metadata.read(files.find_fid, item.claim.fid)
        if file is None:
            await self._metadata.write(queues.finish_tasks, [item.claim])
        else:
            skip_devcount = self._view.current.settings.get("skip_devcount", "") not in ("", "0")
            await self._examination.examine(item, file, FsckRules(hashtype=HASHTYPE, skip_devcount=skip_devcount))
        return None
