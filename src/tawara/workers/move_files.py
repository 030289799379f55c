"""Moves a replica from one device to another, for a rebalance or a drain.

A move copies the file to a target that its policy chooses as if the source did not exist, and then removes the source.
At no moment does the file have fewer good replicas than before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import structlog

from tawara.metadata import files, queues
from tawara.metadata.contract import Metadata
from tawara.metadata.deferrals import NO_DEVICES, BlockedOn
from tawara.metadata.view import ClusterView
from tawara.model import backoff
from tawara.model.errors import ClassNotFound, InvalidReplpolicy
from tawara.model.explanation import Failure
from tawara.model.files import QueuedTask, TaskType
from tawara.model.policy import Copy, OverReplicated, Satisfied, Situation, is_content
from tawara.nodes.client import NodeClient
from tawara.workers.copier import Copier, CopierOptions, Job
from tawara.workers.runner import ClaimedRow
from tawara.workers.task_queue import TaskQueue
from tawara.workers.throttle import Throttle

log = structlog.get_logger(__name__)

Held = ClaimedRow[QueuedTask]

TRIES = 4
"""Attempts before the file stays where it is."""


class MoveFiles:
    """The common part of workers that move files. A unit of work is one task of `task_type`."""

    task_type: TaskType

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        throttle: Throttle | None = None,
        **options: Unpack[CopierOptions],
    ) -> None:
        """`throttle`: the one that all workers of this process that move files share; None for an own one."""
        self._metadata = metadata
        self._view = view
        self._copier = Copier(metadata, view, nodes, throttle=throttle or Throttle(view, "rebalance"), **options)
        self._rng = self._copier.rng
        self._queue = TaskQueue(metadata, self.task_type, lease=self._copier.lease)

    # --- see Worker ---------------------------------------------------------------------------------------------------

    async def renew(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await self._copier.renew(items)

    async def release(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await self._copier.release(items)

    async def work(self, item: Held) -> float | None:
        """See Worker."""
        file = await self._metadata.read(files.find_fid, item.claim.fid)
        if file is None or item.claim.devid not in file.devids:
            await self._finish(item)
            return None
        await self._view.refresh()
        await self._view.refresh_for({*file.devids, *_targets_of(item.claim)})
        try:
            job = self._copier.job(file, preferred_source=item.claim.devid)
        except (ClassNotFound, InvalidReplpolicy) as error:
            return await self._fail(item, str(error))
        return await self._move(item, job, item.claim.devid)

    # --- moving -------------------------------------------------------------------------------------------------------

    async def _move(self, held: Held, job: Job, source: int) -> float | None:
        named = _targets_of(held.claim)
        while True:
            result = job.policy.decide(self._without(job, source, named), self._rng)
            if isinstance(result, Satisfied | OverReplicated):
                return await self._remove_source(held, job, source)
            if not isinstance(result, Copy) or not result.ideal:
                if job.failed or job.conflict:
                    return await self._fail(held, "no target took the copy", job)
                log.info("move_skipped", fid=job.file.fid, devid=source, reason="no target satisfies the policy")
                await self._finish(held)
                return None
            if not self._copier.has_source(job):
                return await self._fail(held, "no replica can be read now", job)
            await self._copier.copy_to(job, result.ideal[0])
            if job.unnamed:
                await self._finish(held)
                return None

    def _without(self, job: Job, source: int, named: set[int]) -> Situation:
        """The input of the file's policy without the source and, if targets are named, with no other free devices."""
        cluster = self._view.current
        closed = set(cluster.devices) - named if named else set()
        return Situation.of(
            cluster,
            job.on - {source},
            job.storage_class.mindevcount,
            failed=job.failed | closed | {source},
            size=job.file.length,
        )

    async def _remove_source(self, held: Held, job: Job, source: int) -> float | None:
        """Remove the source's replica if the others are verified and satisfy the policy."""
        cluster = self._view.current
        verified = await self._copier.verified(job, job.on - {source})
        rest = Situation.of(cluster, verified, job.storage_class.mindevcount, size=job.file.length)
        if not rest.on or not is_content(job.policy, rest, self._rng):
            return await self._fail(held, "the other replicas are not all there", job)
        if not cluster.can_delete_from(source) or not await self._copier.remove_surplus(job, source, finishes=held):
            return await self._fail(held, "the source cannot be deleted from, or the replicas have changed", job)
        return None

    # --- recording ----------------------------------------------------------------------------------------------------

    async def _finish(self, held: Held) -> None:
        await self._metadata.write(queues.finish_tasks, [held.claim])

    async def _fail(self, held: Held, reason: str, job: Job | None = None) -> float | None:
        failures = held.claim.failcount + 1
        if failures >= TRIES:
            log.warning("move_failed", fid=held.claim.fid, devid=held.claim.devid, reason=reason)
            await self._finish(held)
            return None
        now = await self._metadata.clock.seconds()
        nexttry = now + backoff.after_failed_replication(failures - 1, self._rng)
        failure = Failure(now, reason)
        blocked_on = BlockedOn(self._view.current.unusable(), frozenset(job.suspects)) if job else NO_DEVICES
        await self._metadata.write(
            queues.postpone_task,
            held.claim,
            nexttry=nexttry,
            failcount=failures,
            failure=failure,
            blocked_on=blocked_on,
        )
        return nexttry


def _targets_of(claim: QueuedTask) -> set[int]:
    """The devices to which a move may go; an empty set means any."""
    return {int(each) for each in claim.arg.split(",") if each.isdigit()}
