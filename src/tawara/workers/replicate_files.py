"""Gives each queued file the replicas that its class's policy requires (docs/mogilefs.md 10.6).

The policy decides (`model.policy`); `copier` makes the copies and removes surplus ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import structlog

from tawara.metadata import files, queues, replicas
from tawara.metadata.contract import Metadata
from tawara.metadata.deferrals import NO_DEVICES, BlockedOn
from tawara.metadata.view import ClusterView
from tawara.model import backoff
from tawara.model.errors import ClassNotFound, InvalidReplpolicy
from tawara.model.explanation import Failure
from tawara.model.files import Replication
from tawara.model.limits import END_OF_TIME
from tawara.model.policy import Copy, OverReplicated, Satisfied, Situation, pick_surplus
from tawara.nodes.client import NodeClient
from tawara.workers.copier import Copier, CopierOptions, Job
from tawara.workers.runner import ClaimedRow
from tawara.workers.throttle import Throttle

log = structlog.get_logger(__name__)

Held = ClaimedRow[Replication]


class ReplicateFiles:
    """See the module. A unit of work is one file."""

    name = "replicate"

    def __init__(
        self, metadata: Metadata, view: ClusterView, nodes: NodeClient, **options: Unpack[CopierOptions]
    ) -> None:
        self._metadata = metadata
        self._view = view
        self._copier = Copier(metadata, view, nodes, throttle=Throttle(view, "replicate"), **options)
        self._rng = self._copier.rng

    @property
    def copied_bytes(self) -> int:
        """Bytes copied since the start."""
        return self._copier.copied

    # --- see Worker ---------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[Held]:
        """See Worker. Within a batch, files with fewer replicas come first.

        The change that queued these files may be newer than the view: a device, a class, its replica count, a device
        presumed dead. With an older view a file could seem to have enough replicas and leave the queue.
        """
        now = await self._metadata.clock.seconds()
        if not _is_due(await self._metadata.read(queues.next_replication), now):
            return []
        claims = await self._metadata.write(queues.claim_replications, limit=limit, now=now, lease=self._copier.lease)
        if claims:
            await self._view.refresh()
        counts = await self._metadata.read(replicas.counts, [claim.fid for claim in claims])
        return [ClaimedRow(claim) for claim in sorted(claims, key=lambda claim: counts.get(claim.fid, 0))]

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._metadata.read(queues.next_replication)

    async def renew(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await self._copier.renew(items)

    async def release(self, items: Sequence[Held]) -> None:
        """See Worker."""
        await self._copier.release(items)

    async def work(self, item: Held) -> float | None:
        """See Worker."""
        fid = item.claim.fid
        file = await self._metadata.read(files.find_fid, fid)
        if file is None:
            await self._finish(item)
            return None
        if not file.devids:
            log.error("no_replica_left", fid=fid, key=file.key)
            failure = Failure(await self._metadata.clock.seconds(), "no replica is left")
            return await self._postpone(item, END_OF_TIME, failcount=item.claim.failcount, failure=failure)
        await self._view.refresh_for(file.devids)
        try:
            job = self._copier.job(file, held=item, preferred_source=item.claim.from_devid)
        except (ClassNotFound, InvalidReplpolicy) as error:
            return await self._fail(item, str(error))
        return await self._satisfy(item, job)

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _satisfy(self, held: Held, job: Job) -> float | None:
        """Follow the policy until it is satisfied or nothing more can be done now.

        Before giving up, devices that this process has not observed yet are: a new one may be all that is missing.
        """
        observed = False
        while True:
            situation = self._copier.situation(job)
            result = job.policy.decide(situation, self._rng)
            if isinstance(result, Satisfied):
                await self._finish(held)
                return None
            if isinstance(result, OverReplicated):
                if not await self._remove_surplus(job, situation):
                    return await self._fail(held, "too many replicas, and none can be spared for certain now", job)
            elif isinstance(result, Copy) and result.choices:
                if not self._copier.has_source(job):
                    return await self._fail(held, "no replica can be read now", job)
                if await self._copier.copy_to(job, result.choices[0]):
                    if job.unnamed:
                        await self._finish(held)
                    return None
            elif job.conflict:
                soon = await self._metadata.clock.seconds() + backoff.COPY_UNDER_WAY
                return await self._postpone(held, soon, failcount=held.claim.failcount)
            elif not observed:
                observed = True
                await self._view.refresh_for((await self._view.refresh()).devices)
            else:
                return await self._fail(held, "no device can take another replica now", job)

    async def _remove_surplus(self, job: Job, situation: Situation) -> bool:
        """Remove one replica that the policy does not need, if enough others have the right size."""
        there = await self._copier.verified(job, situation.on)
        verified = Situation.of(situation.cluster, there, situation.mindevcount, size=situation.size)
        surplus = pick_surplus(job.policy, verified, self._rng)
        return surplus is not None and await self._copier.remove_surplus(job, surplus)

    # --- recording ----------------------------------------------------------------------------------------------------

    async def _finish(self, held: Held) -> None:
        await self._metadata.write(queues.finish_replication, held.claim)

    async def _fail(self, held: Held, reason: str, job: Job | None = None) -> float:
        failures = held.claim.failcount
        blocked_on = BlockedOn(self._view.current.unusable(), frozenset(job.suspects)) if job else NO_DEVICES
        log.debug("replication_deferred", fid=held.claim.fid, reason=reason, failures=failures + 1)
        now = await self._metadata.clock.seconds()
        nexttry = now + backoff.after_failed_replication(failures, self._rng)
        failure = Failure(now, reason)
        return await self._postpone(held, nexttry, failcount=failures + 1, failure=failure, blocked_on=blocked_on)

    async def _postpone(self, held: Held, nexttry: int, **why: Any) -> float:
        await self._metadata.write(queues.postpone_replication, held.claim, nexttry=nexttry, **why)
        return nexttry


def _is_due(nexttry: int | None, now: int) -> bool:
    return nexttry is not None and nexttry <= now
