"""The replicate worker: gives each queued file the copies that its class's policy wants (reference: section 10.6).

A copy is announced, made, proven and recorded; whoever finds an announcement whose lease ran out deletes the bytes, so
that a worker may die between any two steps. The policies decide (`model.policy`), `copying` moves the bytes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from tawara.client.nodes import NodeClient
from tawara.metadata import files, leases, queues, replicas
from tawara.metadata.bell import Bell
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.view import ClusterView
from tawara.model import backoff
from tawara.model.cluster import Checksum, StorageClass
from tawara.model.errors import InvalidReplpolicy, LeaseLost, NodeUnreachable
from tawara.model.files import Replication, StoredFile
from tawara.model.limits import END_OF_TIME
from tawara.model.placement import order_for_reading
from tawara.model.policy import Copy, Happy, Policy, Situation, TooHappy, parse, pick_surplus
from tawara.workers.copying import SMALL, DestinationFailed, SourceFailed, copy, make_directories
from tawara.workers.runner import LEASE, Claimed

log = structlog.get_logger(__name__)

Held = Claimed[Replication]

MOST_FAILURES = 32767
"""More do not fit into the column."""


@dataclass
class _Job:
    """One file under the worker's hands."""

    held: Held
    file: StoredFile
    storage_class: StorageClass
    policy: Policy
    on: set[int]
    """The devices that have a row for a replica."""
    failed: set[int] = field(default_factory=set)
    """Devices that are not tried again this time as destinations."""
    bad_sources: set[int] = field(default_factory=set)
    in_the_way: bool = False
    """Whether a copy that someone else announced is under way, or waits to be swept."""


class Replicate:
    """See the module. `large` is how many files of more than `copying.SMALL` bytes are copied at the same time."""

    name = "replicate"

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        delete_bell: Bell,
        large: int = 8,
        lease: int = LEASE,
        rng: random.Random | None = None,
    ) -> None:
        self._metadata = metadata
        self._view = view
        self._nodes = nodes
        self._delete_bell = delete_bell
        self._large = asyncio.Semaphore(large)
        self._lease = lease
        self._rng = rng or random.Random()  # noqa: S311 - spreads copies over devices
        self._announced: set[tuple[int, int]] = set()

    # --- see Worker ---------------------------------------------------------------------------------------------------

    async def take(self, limit: int) -> Sequence[Held]:
        """See Worker. Within a batch, the fewer replicas the sooner."""
        now = int(time.time())
        if not _is_due(await self._metadata.read(queues.next_replication), now):
            return []
        claims = await self._metadata.write(queues.claim_replications, limit=limit, now=now, lease=self._lease)
        counts = await self._metadata.read(replicas.counts, [claim.fid for claim in claims])
        return [Claimed(claim) for claim in sorted(claims, key=lambda claim: counts.get(claim.fid, 0))]

    async def next_due(self) -> float | None:
        """See Worker."""
        return await self._metadata.read(queues.next_replication)

    async def renew(self, items: Sequence[Held]) -> None:
        """See Worker."""
        until = int(time.time()) + self._lease
        claims = await self._metadata.write(leases.renew, [held.claim for held in items], until=until)
        for held, claim in zip(items, claims, strict=True):
            held.claim = claim
        if self._announced:
            await self._metadata.write(leases.renew_copies, list(self._announced), until=until)

    async def release(self, items: Sequence[Held]) -> None:
        """See Worker. Copies that were cut off are swept at once."""
        now = int(time.time())
        await self._metadata.write(leases.release, [held.claim for held in items], now=now)
        await self._metadata.write(leases.renew_copies, list(self._announced), until=now)

    async def work(self, item: Held) -> float | None:
        """See Worker."""
        fid = item.claim.fid
        file = await self._metadata.read(files.find_fid, fid)
        if file is None:
            await self._finish(item)
            return None
        if not file.devids:
            log.error("no replica is left", fid=fid, key=file.key)
            return await self._postpone(item, END_OF_TIME, failcount=item.claim.failcount)
        storage_class = self._view.current.storage_class(file.dmid, file.classid)
        try:
            if storage_class is None:  # made a moment ago by someone else, and not yet read here
                return await self._fail(item, "class not known")
            policy = parse(storage_class.policy)
        except InvalidReplpolicy as error:
            return await self._fail(item, str(error))
        return await self._satisfy(_Job(item, file, storage_class, policy, set(file.devids)))

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _satisfy(self, job: _Job) -> float | None:
        """Do what the policy says until it is happy, or nothing more can be done now."""
        while True:
            situation = self._situation(job)
            answer = job.policy.decide(situation, self._rng)
            if isinstance(answer, Happy):
                await self._finish(job.held)
                return None
            if isinstance(answer, TooHappy):
                if not await self._trim(job, situation):
                    return await self._fail(job.held, "too many replicas, and none can be spared for certain now")
            elif isinstance(answer, Copy) and answer.choices:
                if not any(map(self._view.current.should_read_from, job.on - job.bad_sources)):
                    return await self._fail(job.held, "no replica can be read now")
                ended = await self._copy_to(job, answer.choices[0])
                if ended:
                    return None
            elif job.in_the_way:
                soon = int(time.time()) + backoff.COPY_UNDER_WAY
                return await self._postpone(job.held, soon, failcount=job.held.claim.failcount)
            else:
                return await self._fail(job.held, "no device can take another replica now")

    def _situation(self, job: _Job) -> Situation:
        return Situation.of(
            self._view.current, job.on, job.storage_class.mindevcount, failed=job.failed, size=job.file.length
        )

    def _sources(self, job: _Job) -> list[int]:
        """Where to read from, the best first: the device that was named if any, then as for a client (9.2)."""
        order = order_for_reading(self._view.current, job.on - job.bad_sources, self._rng)
        sources = [*order.preferred, *order.draining]
        named = job.held.claim.from_devid
        return sorted(sources, key=lambda devid: devid != named)

    async def _copy_to(self, job: _Job, devid: int) -> bool:
        """Make one copy and record it. Whether that was all there was to do; a failure is noted in the job."""
        fid = job.file.fid
        now = int(time.time())
        if not await self._metadata.write(replicas.announce_copy, fid, devid, now=now, lease=2 * self._lease):
            job.failed.add(devid)
            job.in_the_way = True
            return False
        self._announced.add((fid, devid))
        try:
            checksum = await self._transfer(job, devid)
        except (SourceFailed, DestinationFailed) as error:
            log.warning("copy failed", fid=fid, device=devid, reason=str(error))
            await self._withdraw(fid, devid)
            return False
        return await self._record(job, devid, checksum)

    async def _transfer(self, job: _Job, devid: int) -> Checksum | None:
        """Copy from the best source that works, as `_try_sources`; only so many large files at once."""
        if job.file.length > SMALL:
            async with self._large:
                return await self._try_sources(job, devid)
        return await self._try_sources(job, devid)

    async def _try_sources(self, job: _Job, devid: int) -> Checksum | None:
        """Copy; what fails is noted in the job. Raises SourceFailed when no source is left, DestinationFailed."""
        error: SourceFailed | None = None
        while sources := self._sources(job):
            try:
                return await self._try(job, sources[0], devid)
            except SourceFailed as failure:
                log.warning("replica not usable", fid=job.file.fid, device=sources[0], reason=str(failure))
                job.bad_sources.add(sources[0])
                error = failure
            except DestinationFailed:
                job.failed.add(devid)
                raise
        raise error or SourceFailed("No replica can be read now")

    async def _try(self, job: _Job, source_devid: int, devid: int) -> Checksum | None:
        cluster, file = self._view.current, job.file
        source, destination = cluster.url(source_devid, file.fid), cluster.url(devid, file.fid)
        seen = cluster.observed.get(devid)
        if source is None:
            raise SourceFailed("The device is gone")
        if destination is None:
            raise DestinationFailed("The device is gone")

        async def attempt() -> Checksum | None:
            return await copy(
                self._nodes,
                source,
                destination,
                length=file.length,
                checksum=file.checksum,
                hashtype=job.storage_class.hashtype,
                verifies_md5=seen is not None and seen.rejects_bad_md5,
            )

        try:
            return await attempt()
        except DestinationFailed:
            if not await make_directories(self._nodes, destination):
                raise
            return await attempt()

    # --- writing down -------------------------------------------------------------------------------------------------

    async def _record(self, job: _Job, devid: int, checksum: Checksum | None) -> bool:
        """Make the copy a replica, and in the same transaction end the job if its policy is then happy."""
        fid = job.file.fid
        happy = isinstance(job.policy.decide(self._situation(job).with_copy(devid), self._rng), Happy)
        try:
            named = await self._metadata.write(
                _record,
                fid,
                devid,
                now=int(time.time()),
                checksum=checksum if checksum != job.file.checksum else None,
                finished=job.held.claim if happy else None,
            )
        except LeaseLost:
            log.warning("copy was swept before it was recorded", fid=fid, device=devid)
            self._announced.discard((fid, devid))
            job.failed.add(devid)
            now = int(time.time())
            if await self._metadata.write(replicas.announce_copy, fid, devid, now=now, lease=self._lease):
                await self._withdraw(fid, devid)
            return False
        self._announced.discard((fid, devid))
        job.on.add(devid)
        if not named:
            self._delete_bell.ring()
            await self._finish(job.held)
            return True
        return happy

    async def _withdraw(self, fid: int, devid: int) -> None:
        """Undo an announced copy: delete what may lie there, then end the announcement. What fails is swept later."""
        url = self._view.current.url(devid, fid)
        try:
            if url is not None:
                await self._nodes.delete(url)
        except NodeUnreachable as error:
            log.info("left to be swept", fid=fid, device=devid, reason=str(error))
        else:
            await self._metadata.write(replicas.retract_copy, fid, devid)
        self._announced.discard((fid, devid))

    async def _trim(self, job: _Job, situation: Situation) -> bool:
        """Delete one replica that the policy does not need, if enough others are seen to have the right size."""
        fid = job.file.fid
        there = await asyncio.gather(*(self._is_there(job.file, devid) for devid in situation.on))
        proven = frozenset(devid for devid, right in zip(situation.on, there, strict=True) if right)
        verified = Situation.of(situation.cluster, proven, situation.mindevcount, size=situation.size)
        surplus = pick_surplus(job.policy, verified, self._rng)
        if surplus is None:
            return False
        now = int(time.time())
        retired = await self._metadata.write(
            replicas.retire_replica, fid, surplus, among=frozenset(job.on), now=now, lease=self._lease
        )
        if not retired:
            return False
        job.on.discard(surplus)
        job.failed.add(surplus)
        await self._withdraw(fid, surplus)
        return True

    async def _is_there(self, file: StoredFile, devid: int) -> bool:
        url = self._view.current.url(devid, file.fid)
        if url is None or not self._view.current.should_read_from(devid):
            return False
        try:
            return await self._nodes.size(url) == file.length
        except NodeUnreachable:
            return False

    async def _finish(self, held: Held) -> None:
        await self._metadata.write(queues.finish_replication, held.claim)

    async def _fail(self, held: Held, reason: str) -> float:
        failures = held.claim.failcount
        log.debug("replication put off", fid=held.claim.fid, reason=reason, failures=failures + 1)
        nexttry = int(time.time()) + backoff.after_failed_replication(failures, self._rng)
        return await self._postpone(held, nexttry, failcount=min(failures + 1, MOST_FAILURES))

    async def _postpone(self, held: Held, nexttry: int, *, failcount: int) -> float:
        await self._metadata.write(queues.postpone_replication, held.claim, nexttry=nexttry, failcount=failcount)
        return nexttry


def _is_due(nexttry: int | None, now: int) -> bool:
    return nexttry is not None and nexttry <= now


async def _record(
    tx: Transaction, fid: int, devid: int, *, now: int, checksum: Checksum | None, finished: Replication | None
) -> bool:
    """Record a copy; whether a key still names the fid. If so, also its checksum, and the end of the work."""
    named = await replicas.record_copy(tx, fid, devid, now=now)
    if named and checksum is not None:
        await files.store_checksum(tx, fid, checksum)
    if named and finished is not None:
        await queues.finish_replication(tx, finished)
    return named
