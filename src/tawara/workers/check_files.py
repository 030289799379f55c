"""Compares the replicas with the database while a check (fsck) runs, and repairs what it can (docs/mogilefs.md 12).

A unit of work is a batch of files. Most are found correct by one query and one or two requests to each storage node;
the others are examined one by one, and `model.fsck` decides what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Unpack

import structlog

from tawara.metadata import files, fsck, queues, runs
from tawara.metadata.contract import Metadata
from tawara.metadata.runs import TICK
from tawara.metadata.view import ClusterView
from tawara.model.files import QueuedTask, StoredFile, TaskType
from tawara.model.fsck import Depth, FsckRules
from tawara.nodes.client import NodeClient
from tawara.workers.examination import Examination, ExaminationOptions
from tawara.workers.runner import LEASE, ClaimedRow
from tawara.workers.survey import Measured, is_right
from tawara.workers.task_queue import TaskQueue

log = structlog.get_logger(__name__)

Held = ClaimedRow[QueuedTask]
Batch = list[Held]

BATCH = 100
"""Files in a unit of work."""
AHEAD = 8
"""Units claimed at a time."""


class CheckFiles:
    """See the module."""

    name = "fsck"

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
        self._queue = TaskQueue(metadata, TaskType.CHECK, lease=lease)
        self._examination = Examination(metadata, view, nodes, throttle="fsck", **options)

    # --- see Worker ---------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[Batch]:
        """See Worker. While a check runs, the next files are queued first."""
        now = await self._metadata.clock.seconds()
        if self._is_running and self._queue.take_tick(pause=TICK):
            is_running = await self._metadata.write(fsck.inject, now=now)
            if not is_running:
                log.info("fsck_ended")
                await self._view.refresh()
        held = await self._queue.claim(BATCH * min(limit, AHEAD), now=now)
        return [held[start : start + BATCH] for start in range(0, len(held), BATCH)]

    @property
    def _is_running(self) -> bool:
        return bool(self._view.current.settings.get("fsck_host"))

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._queue.next_due(ticks=self._is_running)

    async def renew(self, items: Sequence[Batch]) -> None:
        """See Worker."""
        await self._queue.renew(list(chain(*items)))

    async def release(self, items: Sequence[Batch]) -> None:
        """See Worker."""
        await self._queue.release(list(chain(*items)))

    async def work(self, item: Batch) -> float | None:
        """See Worker."""
        await self._view.refresh()
        found = await self._metadata.read(files.find_fids, [held.claim.fid for held in item])
        by_fid = {file.fid: file for file in found}
        # Not from the view: it may not know yet that another kind of check has started.
        rules = FsckRules.of(await self._metadata.read(runs.settings, ""))
        in_order: list[Held] = []
        to_measure: list[tuple[Held, StoredFile]] = []
        closely: list[tuple[Held, Measured]] = []
        for held in item:
            file = by_fid.get(held.claim.fid)
            how = self._examination.depth(file, rules) if file else Depth.ROWS
            if how is Depth.EVERYTHING or (file and rules.miscounted(file)):
                closely.append((held, {}))
            elif file and how is Depth.LENGTHS:
                to_measure.append((held, file))
            else:
                in_order.append(held)
        found_lengths = await self._examination.survey.measure([file for _, file in to_measure])
        for (held, file), measured in zip(to_measure, found_lengths, strict=True):
            if is_right(file, measured):
                in_order.append(held)
            else:
                closely.append((held, measured))
        if in_order:
            await self._metadata.write(queues.finish_tasks, [held.claim for held in in_order])
        await asyncio.gather(
            *(self._examination.examine(held, by_fid[held.claim.fid], rules, measured) for held, measured in closely)
        )
        return None
