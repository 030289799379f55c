"""Creates replicas (reserve, copy, verify, record) and removes surplus ones.

The bytes of an expired reservation are deleted by `cleanup_orphans`, so that a worker may die between any two steps.
`replicate_files` and `move_files` decide what to copy where; `copying` transfers the bytes.
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
from tawara.model.placement import as_near_as_first, nearest_first, order_for_reading
from tawara.model.policy import Policy, Satisfied, Situation, parse
from tawara.nodes.client import NodeClient
from tawara.nodes.parallel import WORTHWHILE, best_of_hosts
from tawara.workers import task_queue
from tawara.workers.copying import SMALL, DestinationFailed, SourceFailed, copy, make_directories
from tawara.workers.runner import LEASE, ClaimedRow
from tawara.workers.throttle import Throttle

log = structlog.get_logger(__name__)


@dataclass
class Job:
    """The copying of one file."""

    file: StoredFile
    storage_class: StorageClass
    policy: Policy
    on: set[int]
    """Devices with a row for a replica."""
    held: ClaimedRow[Replication] | None = None
    """The claim that is finished in the transaction that records the last required copy, if any."""
    preferred_source: int | None = None
    failed: set[int] = field(default_factory=set)
    """Devices not tried again as destinations for this job."""
    bad_sources: set[int] = field(default_factory=set)
    """Devices not tried again as sources for this job."""
    fresh: set[int] = field(default_factory=set)
    """Devices with a copy that this job has made and verified."""
    conflict: bool = False
    """Whether another worker holds a reservation for a copy, or one waits for cleanup."""
    unnamed: bool = False
    """Whether the file was deleted before the last copy was finished."""
    suspects: set[int] = field(default_factory=set)
    """Devices that did not answer a read or write."""

    def suspect(self, devid: int, failure: Exception) -> None:
        """Add the device to `suspects` if the failure may be temporary."""
        cause = failure.__cause__
        if isinstance(cause, NodeUnreachable | TimeoutError) and not isinstance(cause, FidConflict):
            self.suspects.add(devid)


class CopierOptions(TypedDict, total=False):
    """Options of every worker that copies files."""

    delete_wakeup: Required[Wakeup]
    large: int
    """Concurrent copies of files of more than `copying.SMALL` bytes."""
    lease: int
    """Seconds."""
    side_channel_port: int | None
    """Port for the digests of copies that the storage node did not verify."""
    rng: random.Random


class Copier:
    """See the module."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        throttle: Throttle,
        **options: Unpack[CopierOptions],
    ) -> None:
        """`throttle`: limits the bytes copied per second."""
        self.lease = options.get("lease", LEASE)
        self.rng = options.get("rng") or random.Random()  # noqa: S311 - spreads copies over devices
        self._throttle = throttle
        self._side_channel_port = options.get("side_channel_port")
        self._metadata = metadata
        self._view = view
        self._nodes = nodes
        self._delete_wakeup = options["delete_wakeup"]
        self._large = asyncio.Semaphore(options.get("large", 8))
        self._reserved: dict[tuple[int, int], CopyReservation] = {}
        """(fid, devid) -> the reservation that this process holds."""
        self.copied = 0
        """Bytes copied since the start."""

    # --- leases and reservations --------------------------------------------------------------------------------------

    async def renew(self, items: Sequence[ClaimedRow[Any]]) -> None:
        """Extend the leases of claims and of copy reservations."""
        await self._hold(items, until=await self._metadata.clock.seconds() + self.lease)

    async def release(self, items: Sequence[ClaimedRow[Any]]) -> None:
        """Release claims, and let the reservations of interrupted copies expire now."""
        await self._hold(items, until=await self._metadata.clock.seconds())

    async def _hold(self, items: Sequence[ClaimedRow[Any]], *, until: int) -> None:
        await task_queue.hold(self._metadata, items, until=until)
        if self._reserved:
            for each in await self._metadata.write(leases.renew_copies, list(self._reserved.values()), until=until):
                if each[:2] in self._reserved:  # it may have been recorded meanwhile
                    self._reserved[each[:2]] = each

    async def _reserve(self, fid: int, devid: int, *, lease: int) -> bool:
        """Reserve the copy; False if it is reserved already, or the device has a replica."""
        now = await self._metadata.clock.seconds()
        if not await self._metadata.write(replicas.reserve_copy, fid, devid, now=now, lease=lease):
            return False
        self._reserved[fid, devid] = CopyReservation(fid, devid, now + lease)
        return True

    @contextmanager
    def _renewed_only_while_known(self, fid: int, devid: int) -> Iterator[None]:
        """Stop renewing a reservation whose status is unknown after an error, so that it expires and is cleaned up."""
        try:
            yield
        except Exception:
            self._reserved.pop((fid, devid), None)
            raise

    async def _still_holds(self, fid: int, devid: int) -> bool:
        """Whether the reservation lasts long enough to delete the bytes.

        After a stall it may have expired and another worker may have reserved the copy, whose bytes must stay.
        """
        held = self._reserved[fid, devid]
        now = await self._metadata.clock.seconds()
        if held.lease - now < self.lease / 2:
            until = max(held.lease + 1, now + self.lease)
            (held,) = await self._metadata.write(leases.renew_copies, [held], until=until)
            self._reserved[fid, devid] = held
        return held.lease - await self._metadata.clock.now() >= self.lease / 2

    # --- copying ------------------------------------------------------------------------------------------------------

    def job(
        self, file: StoredFile, *, held: ClaimedRow[Replication] | None = None, preferred_source: int | None = None
    ) -> Job:
        """Create the job for a file. Raises ClassNotFound, InvalidReplpolicy."""
        storage_class = self._view.current.storage_class(file.dmid, file.classid)
        if storage_class is None:  # created by another process, and not read here yet
            raise ClassNotFound("class not known")
        return Job(file, storage_class, parse(storage_class.policy), set(file.devids), held, preferred_source)

    def situation(self, job: Job) -> Situation:
        """The input of the file's policy."""
        return Situation.of(
            self._view.current, job.on, job.storage_class.mindevcount, failed=job.failed, size=job.file.length
        )

    def has_source(self, job: Job) -> bool:
        """Whether any replica may be readable."""
        return any(map(self._view.current.should_read_from, job.on - job.bad_sources))

    def _sources(self, job: Job, destination: int) -> list[int]:
        """Devices to read from: the preferred source first, then the nearest, in the order for clients
        (docs/mogilefs.md 9.2)."""
        cluster = self._view.current
        order = order_for_reading(cluster, job.on - job.bad_sources, self.rng)
        near = (nearest_first(cluster, devids, destination) for devids in (order.preferred, order.draining))
        sources = [devid for devids in near for devid in devids]
        return sorted(sources, key=lambda devid: devid != job.preferred_source)

    async def copy_to(self, job: Job, devid: int) -> bool:
        """Make one copy and record it. Returns whether the job is done; a failure is recorded in the job."""
        fid = job.file.fid
        if not await self._reserve(fid, devid, lease=2 * self.lease):
            job.failed.add(devid)
            job.conflict = True
            return False
        with self._renewed_only_while_known(fid, devid):
            try:
                checksum = await self._transfer(job, devid)
            except SourceFailed as error:
                log.warning("copy_failed", fid=fid, devid=devid, reason=str(error))
                await self._cancel(fid, devid)
                return False
            except DestinationFailed as error:
                log.warning("copy_failed", fid=fid, devid=devid, reason=str(error))
                nothing_of_ours = error.nothing_sent or error.is_conflict
                await (
                    self._release_reservation(fid, devid) if nothing_of_ours else self._cancel(fid, devid, late=True)
                )
                return False
            return await self._record(job, devid, checksum)

    async def _transfer(self, job: Job, devid: int) -> Checksum | None:
        """Copy as `_try_sources`, with a limit on concurrent large files."""
        async with self._large if job.file.length > SMALL else nullcontext():
            checksum = await self._try_sources(job, devid)
        self.copied += job.file.length
        return checksum

    async def _try_sources(self, job: Job, devid: int) -> Checksum | None:
        """Copy from the first source that works, a large file from several at once if that works.

        Raises SourceFailed when none is left, DestinationFailed.
        """
        error: SourceFailed | None = None
        in_parallel = True
        while sources := self._sources(job, devid):
            others = self._others(job, sources, devid) if in_parallel else []
            try:
                return await self._try(job, sources[0], devid, others)
            except SourceFailed as failure:
                if others:  # which one failed, or is not what was stored, is found by reading one alone
                    log.warning("parallel_copy_failed", fid=job.file.fid, devid=devid, reason=str(failure))
                    in_parallel, error = False, failure
                    continue
                log.warning("replica_read_failed", fid=job.file.fid, devid=sources[0], reason=str(failure))
                job.bad_sources.add(sources[0])
                job.suspect(sources[0], failure)
                error = failure
            except DestinationFailed as failure:
                job.failed.add(devid)
                job.suspect(devid, failure)
                failure.nothing_sent = (
                    failure.nothing_sent and error is None
                )  # bytes of another source may still arrive
                raise
        raise error or SourceFailed("No replica can be read now")

    def _others(self, job: Job, sources: Sequence[int], destination: int) -> list[int]:
        """Return the devices to read from together with the first source: those as near, on other hosts, for a large
        file with a checksum. Without a checksum, ranges of replicas that differ would become a third version of it.
        """
        if job.file.length < WORTHWHILE or job.file.checksum is None or job.preferred_source is not None:
            return []
        near = as_near_as_first(self._view.current, sources, destination)
        urls = {url: devid for devid in near if (url := self._view.current.url(devid, job.file.fid))}
        return [urls[url] for url in best_of_hosts(list(urls)) if urls[url] != sources[0]]

    async def _try(self, job: Job, source_devid: int, devid: int, others: Sequence[int]) -> Checksum | None:
        cluster, file = self._view.current, job.file
        source, destination = cluster.url(source_devid, file.fid), cluster.url(devid, file.fid)
        seen = cluster.observed.get(devid)
        if source is None:
            raise SourceFailed(f"dev{source_devid} is not known any more")
        if destination is None:
            gone = DestinationFailed(f"dev{devid} is not known any more")
            gone.nothing_sent = True
            raise gone

        urls = {url: each for each in others if (url := cluster.url(each, file.fid)) is not None}

        def failed(url: str, at: int, error: Exception) -> None:
            bad = urls.get(url, source_devid)
            log.warning("replica_read_failed", fid=file.fid, devid=bad, at=at, reason=str(error))

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
                others=list(urls),
                on_failure=failed,
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
            failure.nothing_sent = False  # bytes of the first attempt may still arrive
            raise

    # --- recording ----------------------------------------------------------------------------------------------------

    async def _record(self, job: Job, devid: int, checksum: Checksum | None) -> bool:
        """Record the copy as a replica, and finish the claim in the same transaction if the policy is then satisfied.

        Another worker may have copied the same file, if a lease expired or the file was queued again: the replicas in
        the database count, not those that this job knew. Returns whether the job is done.
        """
        fid = job.file.fid
        satisfied = isinstance(job.policy.decide(self.situation(job).with_copy(devid), self.rng), Satisfied)
        expected = job.on | {devid}
        try:
            named, on = await self._metadata.write(
                _record,
                fid,
                devid,
                now=await self._metadata.clock.seconds(),
                checksum=checksum if checksum != job.file.checksum else None,
                claim=job.held.claim if job.held else None,
                satisfied=satisfied,
                expected=expected,
            )
            if not named:
                return await self._discard(job, devid)
        except LeaseLost:
            log.warning("copy_reservation_expired", fid=fid, devid=devid)
            self._reserved.pop((fid, devid), None)
            job.failed.add(devid)
            if await self._reserve(fid, devid, lease=self.lease):
                await self._cancel(fid, devid)
            return False
        self._reserved.pop((fid, devid), None)
        job.on = on
        return satisfied and on == expected

    async def _discard(self, job: Job, devid: int) -> bool:
        """Delete the copy of a file that was deleted meanwhile, and reschedule the deletion. The job is done."""
        job.unnamed = True
        await self._cancel(job.file.fid, devid)
        now = await self._metadata.clock.seconds()
        await self._metadata.write(queues.retry_deletion, job.file.fid, now)
        self._delete_wakeup.notify()
        return True

    async def _cancel(self, fid: int, devid: int, *, late: bool = False) -> None:
        """Cancel a copy: delete its bytes, then end the reservation. If that fails, it expires and is cleaned up.

        With `late`, bytes that are not there may still arrive; the reservation is then kept for the cleanup.
        """
        url = self._view.current.url(devid, fid)
        try:
            if await self._still_holds(fid, devid):
                there = url is not None and await self._nodes.delete(url)
                if late and not there:
                    until = await self._metadata.clock.seconds() + replicas.LATE
                    await self._metadata.write(leases.renew_copies, [self._reserved[fid, devid]], until=until)
                else:
                    await self._metadata.write(replicas.end_reservation, self._reserved[fid, devid])
        except NodeUnreachable as error:
            log.info("copy_cleanup_deferred", fid=fid, devid=devid, reason=str(error))
        self._reserved.pop((fid, devid), None)

    async def _release_reservation(self, fid: int, devid: int) -> None:
        """End a reservation for which nothing was sent; the copy may be tried again at once."""
        await self._metadata.write(replicas.end_reservation, self._reserved[fid, devid])
        self._reserved.pop((fid, devid), None)

    # --- removing -----------------------------------------------------------------------------------------------------

    async def verified(self, job: Job, devids: Iterable[int]) -> frozenset[int]:
        """Those of the devices that report a replica of the right length now."""
        wanted = set(devids)
        asked = list(wanted - job.fresh)
        there = await asyncio.gather(*(self._is_there(job.file, devid) for devid in asked))
        return frozenset(wanted & job.fresh).union(devid for devid, yes in zip(asked, there, strict=True) if yes)

    async def remove_surplus(self, job: Job, devid: int, *, finishes: ClaimedRow[QueuedTask] | None = None) -> bool:
        """Remove a replica; False, and nothing is changed, if the file's replicas are not those of the job any more.

        `finishes`: the task that is finished in the same transaction.
        """
        fid = job.file.fid
        now = await self._metadata.clock.seconds()
        removed = await self._metadata.write(
            _remove_surplus,
            fid,
            devid,
            among=frozenset(job.on),
            now=now,
            lease=self.lease,
            finished=[finishes.claim] if finishes else [],
        )
        if removed:
            self._reserved[fid, devid] = CopyReservation(fid, devid, now + self.lease)
            job.on.discard(devid)
            job.failed.add(devid)
            with self._renewed_only_while_known(fid, devid):
                await self._cancel(fid, devid)
        return removed

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
    satisfied: bool,
    expected: set[int],
) -> tuple[bool, set[int]]:
    """Record a copy. Returns whether a key still refers to the fid, and the devices with a replica.

    If so, the checksum is stored, too, and the claim is finished if the replicas are those `expected` and `satisfied`.
    With other replicas another worker may have finished the claim: it is then held, since there may be too many.
    """
    named = await replicas.record_copy(tx, fid, devid, now=now)
    on = set(await replicas.devices_of(tx, fid))
    if named and checksum is not None:
        await files.store_checksum(tx, fid, checksum)
    if named and claim is not None:
        if on != expected:
            await queues.hold_replication(tx, claim)
        elif satisfied:
            await queues.finish_replication(tx, claim)
    return named, on


async def _remove_surplus(
    tx: Transaction,
    fid: int,
    devid: int,
    *,
    among: frozenset[int],
    now: int,
    lease: int,
    finished: Sequence[QueuedTask],
) -> bool:
    """Remove a replica; if that was possible, finish the tasks, too."""
    if not await replicas.remove_surplus_replica(tx, fid, devid, among=among, now=now, lease=lease):
        return False
    await queues.finish_tasks(tx, finished)
    return True
