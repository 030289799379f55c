"""Copies of one file, each announced, made, proven and recorded; and replicas that are done without.

Whoever finds an announcement whose lease ran out deletes the bytes, so that a worker may die between any two steps.
`replicate` and `rebalance` decide what to copy where, `copying` moves the bytes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict, Unpack

import structlog

from tawara.metadata import files, leases, queues, replicas
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeup
from tawara.model.cluster import Checksum, StorageClass
from tawara.model.errors import ClassNotFound, FidConflict, LeaseLost, NodeUnreachable
from tawara.model.files import CopyReservation, QueuedTask, Replication, StoredFile
from tawara.model.placement import nearest_first, order_for_reading
from tawara.model.policy import Policy, Satisfied, Situation, parse
from tawara.nodes.client import NodeClient
from tawara.workers import task_queue
from tawara.workers.copying import SMALL, DestinationFailed, SourceFailed, copy, make_directories
from tawara.workers.runner import LEASE, ClaimedRow
from tawara.workers.throttle import Throttle

log = structlog.get_logger(__name__)


@dataclass
class Job:
    """One file under a worker's hands."""

    file: StoredFile
    storage_class: StorageClass
    policy: Policy
    on: set[int]
    """The devices that have a row for a replica."""
    held: ClaimedRow[Replication] | None = None
    """The claim that ends together with the copy that makes the policy happy, if that is what the copies are for."""
    preferred_source: int | None = None
    failed: set[int] = field(default_factory=set)
    """Devices that are not tried again this time as destinations."""
    bad_sources: set[int] = field(default_factory=set)
    fresh: set[int] = field(default_factory=set)
    """The devices on which a copy was made, and proven, just now."""
    conflict: bool = False
    """Whether a copy that someone else announced is under way, or waits to be swept."""
    unnamed: bool = False
    """Whether the last copy was finished when no key named the file any more."""
    suspects: set[int] = field(default_factory=set)
    """Devices that did not answer when they were to be read or written."""

    def doubt(self, devid: int, failure: Exception) -> None:
        """Note a device whose failure may be over soon."""
        cause = failure.__cause__
        if isinstance(cause, NodeUnreachable | TimeoutError) and not isinstance(cause, FidConflict):
            self.suspects.add(devid)


class CopierOptions(TypedDict, total=False):
    """What every worker that copies files may be told."""

    delete_wakeup: Required[Wakeup]
    large: int
    """How many files of more than `copying.SMALL` bytes are copied at the same time."""
    lease: int
    """Seconds."""
    side_channel_port: int | None
    """Where storage nodes are asked for the digest of a copy that they did not check."""
    rng: random.Random


class Copier:
    """See the module."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        throttle: str,
        **options: Unpack[CopierOptions],
    ) -> None:
        """`throttle`: which rate the bytes that are copied keep to."""
        self.lease = options.get("lease", LEASE)
        self.rng = options.get("rng") or random.Random()  # noqa: S311 - spreads copies over devices
        self._throttle = Throttle(view, throttle)
        self._side_channel_port = options.get("side_channel_port")
        self._metadata = metadata
        self._view = view
        self._nodes = nodes
        self._delete_wakeup = options["delete_wakeup"]
        self._large = asyncio.Semaphore(options.get("large", 8))
        self._announced: dict[tuple[int, int], CopyReservation] = {}
        """By (fid, devid): the places that are held."""
        self.copied = 0
        """Bytes, since the start."""

    # --- keeping and giving back --------------------------------------------------------------------------------------

    async def renew(self, items: Sequence[ClaimedRow[Any]]) -> None:
        """Hold claims, and the places of copies under way, for another lease."""
        await self._hold(items, until=await self._metadata.clock.seconds() + self.lease)

    async def release(self, items: Sequence[ClaimedRow[Any]]) -> None:
        """Give claims back undone, and have copies that were cut off swept at once."""
        await self._hold(items, until=await self._metadata.clock.seconds())

    async def _hold(self, items: Sequence[ClaimedRow[Any]], *, until: int) -> None:
        await task_queue.hold(self._metadata, items, until=until)
        if self._announced:
            for each in await self._metadata.write(leases.renew_copies, list(self._announced.values()), until=until):
                if each[:2] in self._announced:  # it may have been recorded meanwhile
                    self._announced[each[:2]] = each

    async def _announce(self, fid: int, devid: int, *, lease: int) -> bool:
        """Hold a place to write to; False if it is someone else's, or a replica's."""
        now = await self._metadata.clock.seconds()
        if not await self._metadata.write(replicas.reserve_copy, fid, devid, now=now, lease=lease):
            return False
        self._announced[fid, devid] = CopyReservation(fid, devid, now + lease)
        return True

    @contextmanager
    def _held_only_while_known(self, fid: int, devid: int) -> Iterator[None]:
        """Let the lease of a place end when the database did not say what became of it: renewed, it would never."""
        try:
            yield
        except Exception:
            self._announced.pop((fid, devid), None)
            raise

    async def _still_holds(self, fid: int, devid: int) -> bool:
        """Whether the place is ours for long enough to delete what lies there.

        After a stall it may have been swept, and be someone else's, whose copy must not be taken for ours.
        """
        held = self._announced[fid, devid]
        now = await self._metadata.clock.seconds()
        if held.lease - now < self.lease / 2:
            until = max(held.lease + 1, now + self.lease)
            (held,) = await self._metadata.write(leases.renew_copies, [held], until=until)
            self._announced[fid, devid] = held
        return held.lease - await self._metadata.clock.now() >= self.lease / 2

    # --- copying ------------------------------------------------------------------------------------------------------

    def job(
        self, file: StoredFile, *, held: ClaimedRow[Replication] | None = None, preferred_source: int | None = None
    ) -> Job:
        """Take a file in hand, by its class's policy. Raises ClassNotFound, InvalidReplpolicy."""
        storage_class = self._view.current.storage_class(file.dmid, file.classid)
        if storage_class is None:  # made a moment ago by someone else, and not yet read here
            raise ClassNotFound("class not known")
        return Job(file, storage_class, parse(storage_class.policy), set(file.devids), held, preferred_source)

    def situation(self, job: Job) -> Situation:
        """The file as its policy sees it now."""
        return Situation.of(
            self._view.current, job.on, job.storage_class.mindevcount, failed=job.failed, size=job.file.length
        )

    def has_source(self, job: Job) -> bool:
        """Whether any replica is worth a try."""
        return any(map(self._view.current.should_read_from, job.on - job.bad_sources))

    def _sources(self, job: Job, destination: int) -> list[int]:
        """Where to read from: the device that was named, if any, then the nearest, each as for a client
        (docs/mogilefs.md 9.2)."""
        cluster = self._view.current
        order = order_for_reading(cluster, job.on - job.bad_sources, self.rng)
        near = (nearest_first(cluster, devids, destination) for devids in (order.preferred, order.draining))
        sources = [devid for devids in near for devid in devids]
        return sorted(sources, key=lambda devid: devid != job.preferred_source)

    async def copy_to(self, job: Job, devid: int) -> bool:
        """Make one copy and record it. Whether that was all there was to do; a failure is noted in the job."""
        fid = job.file.fid
        if not await self._announce(fid, devid, lease=2 * self.lease):
            job.failed.add(devid)
            job.conflict = True
            return False
        with self._held_only_while_known(fid, devid):
            try:
                checksum = await self._transfer(job, devid)
            except SourceFailed as error:
                log.warning("copy failed", fid=fid, device=devid, reason=str(error))
                await self._withdraw(fid, devid)
                return False
            except DestinationFailed as error:
                log.warning("copy failed", fid=fid, device=devid, reason=str(error))
                nothing_of_ours = error.nothing_sent or error.is_conflict
                await (
                    self._release_reservation(fid, devid) if nothing_of_ours else self._withdraw(fid, devid, late=True)
                )
                return False
            return await self._record(job, devid, checksum)

    async def _transfer(self, job: Job, devid: int) -> Checksum | None:
        """Copy from the best source that works, as `_try_sources`; only so many large files at once."""
        async with self._large if job.file.length > SMALL else nullcontext():
            checksum = await self._try_sources(job, devid)
        self.copied += job.file.length
        return checksum

    async def _try_sources(self, job: Job, devid: int) -> Checksum | None:
        """Copy; what fails is noted in the job. Raises SourceFailed when no source is left, DestinationFailed."""
        error: SourceFailed | None = None
        while sources := self._sources(job, devid):
            try:
                return await self._try(job, sources[0], devid)
            except SourceFailed as failure:
                log.warning("replica not usable", fid=job.file.fid, device=sources[0], reason=str(failure))
                job.bad_sources.add(sources[0])
                job.doubt(sources[0], failure)
                error = failure
            except DestinationFailed as failure:
                job.failed.add(devid)
                job.doubt(devid, failure)
                failure.nothing_sent = failure.nothing_sent and error is None  # another source may have broken off
                raise
        raise error or SourceFailed("No replica can be read now")

    async def _try(self, job: Job, source_devid: int, devid: int) -> Checksum | None:
        cluster, file = self._view.current, job.file
        source, destination = cluster.url(source_devid, file.fid), cluster.url(devid, file.fid)
        seen = cluster.observed.get(devid)
        if source is None:
            raise SourceFailed("The device is gone")
        if destination is None:
            gone = DestinationFailed("The device is gone")
            gone.nothing_sent = True
            raise gone

        async def attempt(*, replace: bool = False) -> Checksum | None:
            return await copy(
                self._nodes,
                source,
                destination,
                length=file.length,
                checksum=file.checksum,
                hashtype=job.storage_class.hashtype,
                verifies_md5=seen is not None and seen.rejects_bad_md5,
                side_channel_port=self._side_channel_port,
                spend=self._throttle.spend,
                replace=replace,
            )

        try:
            return await attempt()
        except DestinationFailed as failure:
            if failure.is_conflict and await self._metadata.read(replicas.was_found_bad, file.fid, devid):
                log.warning("bad_replica_replaced", fid=file.fid, devid=devid)
                return await attempt(replace=True)
            if failure.is_conflict:
                log.warning("replica_conflict", fid=file.fid, devid=devid, reason=str(failure))
                raise
            if failure.nothing_sent or not await make_directories(self._nodes, destination):
                raise
        try:
            return await attempt()
        except DestinationFailed as failure:
            failure.nothing_sent = False  # what was sent the first time may still come
            raise

    # --- writing down -------------------------------------------------------------------------------------------------

    async def _record(self, job: Job, devid: int, checksum: Checksum | None) -> bool:
        """Make the copy a replica, and in the same transaction end the job if its policy is then happy.

        Another worker may have been at the same file, if a lease ran out or the file was queued anew: the replicas that
        there are then count, not those that this job knew of.
        """
        fid = job.file.fid
        happy = isinstance(job.policy.decide(self.situation(job).with_copy(devid), self.rng), Satisfied)
        expected = job.on | {devid}
        try:
            named, on = await self._metadata.write(
                _record,
                fid,
                devid,
                now=await self._metadata.clock.seconds(),
                checksum=checksum if checksum != job.file.checksum else None,
                claim=job.held.claim if job.held else None,
                happy=happy,
                expected=expected,
            )
            if not named:
                return await self._discard(job, devid)
        except LeaseLost:
            log.warning("copy was swept before it was recorded", fid=fid, device=devid)
            self._announced.pop((fid, devid), None)
            job.failed.add(devid)
            if await self._announce(fid, devid, lease=self.lease):
                await self._withdraw(fid, devid)
            return False
        self._announced.pop((fid, devid), None)
        job.on = on
        return happy and on == expected

    async def _discard(self, job: Job, devid: int) -> bool:
        """Delete a copy of a file that was deleted meanwhile, whose deletion waits for that; the job is done."""
        job.unnamed = True
        await self._withdraw(job.file.fid, devid)
        now = await self._metadata.clock.seconds()
        await self._metadata.write(queues.retry_deletion, job.file.fid, now)
        self._delete_wakeup.notify()
        return True

    async def _withdraw(self, fid: int, devid: int, *, late: bool = False) -> None:
        """Undo an announced copy: delete what may lie there, then end the announcement. What fails is swept later.

        With `late`, bytes that are not there may still come, and are left to be swept as well.
        """
        url = self._view.current.url(devid, fid)
        try:
            if await self._still_holds(fid, devid):
                there = url is not None and await self._nodes.delete(url)
                if late and not there:
                    until = await self._metadata.clock.seconds() + replicas.LATE
                    await self._metadata.write(leases.renew_copies, [self._announced[fid, devid]], until=until)
                else:
                    await self._metadata.write(replicas.end_reservation, self._announced[fid, devid])
        except NodeUnreachable as error:
            log.info("left to be swept", fid=fid, device=devid, reason=str(error))
        self._announced.pop((fid, devid), None)

    async def _release_reservation(self, fid: int, devid: int) -> None:
        """Give a place up to which nothing was sent: it may be tried again at once."""
        await self._metadata.write(replicas.end_reservation, self._announced[fid, devid])
        self._announced.pop((fid, devid), None)

    # --- doing without ------------------------------------------------------------------------------------------------

    async def proven(self, job: Job, devids: Iterable[int]) -> frozenset[int]:
        """Those of the devices that are seen, now, to have the file in its right length."""
        wanted = set(devids)
        asked = list(wanted - job.fresh)
        there = await asyncio.gather(*(self._is_there(job.file, devid) for devid in asked))
        return frozenset(wanted & job.fresh).union(devid for devid, yes in zip(asked, there, strict=True) if yes)

    async def retire(self, job: Job, devid: int, *, finishes: ClaimedRow[QueuedTask] | None = None) -> bool:
        """Do without a replica, durably; False, and nothing is changed, if the file's replicas have changed.

        The errand that it `finishes`, if it does, ends in the same transaction.
        """
        fid = job.file.fid
        now = await self._metadata.clock.seconds()
        retired = await self._metadata.write(
            _retire,
            fid,
            devid,
            among=frozenset(job.on),
            now=now,
            lease=self.lease,
            finished=[finishes.claim] if finishes else [],
        )
        if retired:
            self._announced[fid, devid] = CopyReservation(fid, devid, now + self.lease)
            job.on.discard(devid)
            job.failed.add(devid)
            with self._held_only_while_known(fid, devid):
                await self._withdraw(fid, devid)
        return retired

    async def _is_there(self, file: StoredFile, devid: int) -> bool:
        url = self._view.current.url(devid, file.fid)
        if url is None or not self._view.current.should_read_from(devid):
            return False
        try:
            return await self._nodes.size(url) == file.length
        except NodeUnreachable:
            return False


async def _record(
    tx: Transaction,
    fid: int,
    devid: int,
    *,
    now: int,
    checksum: Checksum | None,
    claim: Replication | None,
    happy: bool,
    expected: set[int],
) -> tuple[bool, set[int]]:
    """Record a copy: whether a key still names the fid, and the devices that have it now.

    If it is named, also its checksum; and if it is where it was `expected` and that is enough, the end of the work.
    Is it elsewhere as well, then someone else may have ended the work, and it is held on to: there may be too many.
    """
    named = await replicas.record_copy(tx, fid, devid, now=now)
    on = set(await replicas.devices_of(tx, fid))
    if named and checksum is not None:
        await files.store_checksum(tx, fid, checksum)
    if named and claim is not None:
        if on != expected:
            await queues.hold_replication(tx, claim)
        elif happy:
            await queues.finish_replication(tx, claim)
    return named, on


async def _retire(
    tx: Transaction,
    fid: int,
    devid: int,
    *,
    among: frozenset[int],
    now: int,
    lease: int,
    finished: Sequence[QueuedTask],
) -> bool:
    """Do without a replica; if that could be done, also the end of the work."""
    if not await replicas.remove_surplus_replica(tx, fid, devid, among=among, now=now, lease=lease):
        return False
    await queues.finish_tasks(tx, finished)
    return True
