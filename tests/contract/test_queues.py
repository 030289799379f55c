"""The promises of the queues and the replicas' table, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tawara.metadata import files, leases, queues, replicas
from tawara.metadata.contract import Metadata
from tawara.metadata.queues import LEASE
from tawara.model.errors import LeaseLost
from tawara.model.files import CopyReservation, Deletion, NewFile, Replication

Opener = Callable[[], Awaitable[Metadata]]


async def store(metadata: Metadata, key: bytes, devids: tuple[int, ...] = (1,)) -> int:
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=devids, now=1)
    await metadata.write(
        files.close_upload,
        NewFile(fid=fid, dmid=1, key=key, classid=0, length=1, devids=devids),
        now=1,
        replicate=False,
    )
    return fid


async def test_two_claimants_never_get_one_row(metadata: Metadata, opener: Opener) -> None:
    """Of many concurrent claims, on several trackers, each due row goes to exactly one."""
    trackers = [metadata, await opener()]
    for fid in range(1, 61):
        await metadata.write(queues.enqueue_replication, fid)
        await metadata.write(queues.enqueue_deletion, fid, 0)
    replications = await asyncio.gather(
        *(trackers[n % 2].write(queues.claim_replications, limit=7, now=10) for n in range(20))
    )
    deletions = await asyncio.gather(
        *(trackers[n % 2].write(queues.claim_deletions, limit=7, now=10) for n in range(20))
    )
    assert sorted(each.fid for claim in replications for each in claim) == list(range(1, 61))
    assert sorted(each.fid for claim in deletions for each in claim) == list(range(1, 61))


async def test_an_expired_lease_makes_the_row_due(metadata: Metadata) -> None:
    """A claimed row belongs to one worker until its lease ends, and then becomes due by itself."""
    await metadata.write(queues.enqueue_replication, 1, from_devid=4)
    await metadata.write(queues.enqueue_deletion, 2, 0)
    (claim,) = await metadata.write(queues.claim_replications, limit=10, now=50)
    (deletion,) = await metadata.write(queues.claim_deletions, limit=10, now=50)
    assert claim == Replication(1, 50 + LEASE, 4, 0)
    assert deletion == Deletion(2, 50 + LEASE, 0)
    assert await metadata.write(queues.claim_replications, limit=10, now=49 + LEASE) == []
    assert await metadata.write(queues.claim_deletions, limit=10, now=49 + LEASE) == []
    assert len(await metadata.write(queues.claim_replications, limit=10, now=50 + LEASE)) == 1
    assert len(await metadata.write(queues.claim_deletions, limit=10, now=50 + LEASE)) == 1


async def test_a_lost_lease_finishes_nothing(metadata: Metadata) -> None:
    """A worker that lost the lease, by time or by newly queued work, neither finishes nor postpones the row."""
    await metadata.write(queues.enqueue_replication, 1)
    (lost,) = await metadata.write(queues.claim_replications, limit=1, now=50)
    await metadata.write(queues.enqueue_replication, 1)
    await metadata.write(queues.finish_replication, lost)
    await metadata.write(queues.postpone_replication, lost, nexttry=9999, failcount=5)
    (again,) = await metadata.write(queues.claim_replications, limit=1, now=60)
    assert again.failcount == 0
    await metadata.write(queues.finish_replication, again)
    assert await metadata.read(queues.next_replication) is None

    await metadata.write(queues.enqueue_deletion, 2, 0)
    (lapsed,) = await metadata.write(queues.claim_deletions, limit=1, now=50)
    (taken,) = await metadata.write(queues.claim_deletions, limit=1, now=50 + LEASE)
    assert await metadata.write(queues.finish_deletion, lapsed) is False
    await metadata.write(queues.postpone_deletion, lapsed, nexttry=9999, failcount=5)
    assert await metadata.write(queues.finish_deletion, taken) is True


async def test_postponed_work_waits(metadata: Metadata) -> None:
    """A postponed row becomes due at its time with its failures counted; replicate_now makes all due."""
    for fid in (1, 2):
        await metadata.write(queues.enqueue_replication, fid)
    claims = await metadata.write(queues.claim_replications, limit=2, now=50)
    for claim in claims:
        await metadata.write(queues.postpone_replication, claim, nexttry=500 + claim.fid, failcount=3)
    assert await metadata.read(queues.next_replication) == 501
    assert await metadata.write(queues.claim_replications, limit=2, now=500) == []
    assert await metadata.write(queues.replicate_now, now=100) == 2
    again = await metadata.write(queues.claim_replications, limit=2, now=100)
    assert sorted((each.fid, each.failcount) for each in again) == [(1, 3), (2, 3)]


async def test_the_longest_waiting_are_claimed_first(metadata: Metadata) -> None:
    """Claims are in order of due time and stop at the limit."""
    for fid, due in ((1, 30), (2, 10), (3, 20), (4, 99)):
        await metadata.write(queues.enqueue_replication, fid, nexttry=due)
        await metadata.write(queues.enqueue_deletion, fid, due)
    assert {each.fid for each in await metadata.write(queues.claim_replications, limit=2, now=50)} == {2, 3}
    assert {each.fid for each in await metadata.write(queues.claim_deletions, limit=2, now=50)} == {2, 3}
    assert await metadata.read(queues.next_deletion) == 30


async def test_a_deletion_ends_when_nothing_is_left(metadata: Metadata) -> None:
    """A fid is removed from every table only when no replica and no running copy is left."""
    fid = await store(metadata, b"k")
    await metadata.write(queues.enqueue_replication, fid)
    await metadata.write(files.delete, 1, b"k", now=1)
    assert await metadata.write(replicas.reserve_copy, fid, 2, now=1) is True
    (claim,) = await metadata.write(queues.claim_deletions, limit=1, now=1)
    assert await metadata.write(queues.finish_deletion, claim) is False
    await metadata.write(replicas.drop_replica, fid, 1)
    assert await metadata.write(queues.finish_deletion, claim) is False
    await metadata.write(replicas.cancel_copy, fid, 2)
    assert await metadata.write(queues.finish_deletion, claim) is True
    assert await metadata.read(queues.backlog) == {"replicate": 0, "delete": 0, "uploads": 0}


async def test_a_copy_is_reserved_once(metadata: Metadata, opener: Opener) -> None:
    """Of many concurrent reservations of one copy one succeeds; none if the replica exists already."""
    trackers = [metadata, await opener()]
    fid = await store(metadata, b"k")
    told = await asyncio.gather(*(trackers[n % 2].write(replicas.reserve_copy, fid, 2, now=1) for n in range(10)))
    assert sum(told) == 1
    assert await metadata.write(replicas.reserve_copy, fid, 1, now=1) is False


async def test_a_recorded_copy_is_a_replica(metadata: Metadata) -> None:
    """record_copy makes the copy a replica, counts it, and ends the reservation."""
    fid = await store(metadata, b"k")
    await metadata.write(replicas.reserve_copy, fid, 2, now=1)
    assert await metadata.write(replicas.record_copy, fid, 2, now=1) is True
    found = await metadata.read(files.find, 1, b"k")
    assert found is not None
    assert (sorted(found.devids), found.devcount) == ([1, 2], 2)
    assert await metadata.write(replicas.claim_abandoned_copies, now=10**9) == []


async def test_a_copy_of_a_deleted_file_is_no_replica(metadata: Metadata) -> None:
    """A copy that is finished after its key was deleted stays reserved, and the deletion waits for its end."""
    fid = await store(metadata, b"k")
    await metadata.write(replicas.reserve_copy, fid, 2, now=1)
    await metadata.write(files.delete, 1, b"k", now=1)
    assert await metadata.write(replicas.record_copy, fid, 2, now=7) is False
    assert await metadata.read(replicas.devices_of, fid) == (1,)
    await metadata.write(replicas.drop_replica, fid, 1)
    (claim,) = await metadata.write(queues.claim_deletions, limit=9, now=8)
    assert not await metadata.write(queues.finish_deletion, claim)
    await metadata.write(replicas.cancel_copy, fid, 2)
    assert await metadata.write(queues.finish_deletion, claim)
    with pytest.raises(LeaseLost):
        await metadata.write(replicas.record_copy, fid, 2, now=9)


async def test_an_abandoned_copy_is_cleaned_up_by_one_worker(metadata: Metadata, opener: Opener) -> None:
    """A copy whose lease expired is claimed by exactly one sweeper, until its own lease expires as well."""
    trackers = [metadata, await opener()]
    for fid in range(1, 11):
        await metadata.write(replicas.reserve_copy, fid, 2, now=0)
    assert await metadata.write(replicas.claim_abandoned_copies, now=replicas.COPY_LEASE - 1) == []
    now = replicas.COPY_LEASE
    swept = await asyncio.gather(
        *(trackers[n % 2].write(replicas.claim_abandoned_copies, now=now, limit=4) for n in range(8))
    )
    assert sorted(each[:2] for some in swept for each in some) == [(fid, 2) for fid in range(1, 11)]
    assert len(await metadata.write(replicas.claim_abandoned_copies, now=now + LEASE)) == 10


async def test_data_of_a_discarded_upload_may_arrive_late(metadata: Metadata) -> None:
    """A node that hung may store it after the deletion: the devices are cleaned up again a minute later."""
    fid = await metadata.write(files.open_upload, dmid=1, key=b"k", classid=0, devids=(1, 2), now=1)
    await metadata.write(files.discard_upload, fid, now=100)
    for devid in (1, 2):
        await metadata.write(replicas.drop_replica, fid, devid)
    (claim,) = await metadata.write(queues.claim_deletions, limit=9, now=100)
    assert not await metadata.write(queues.finish_deletion, claim)
    late = 100 + replicas.LATE
    assert await metadata.write(replicas.claim_abandoned_copies, now=late - 1) == []
    claims = await metadata.write(replicas.claim_abandoned_copies, now=late)
    assert [each[:2] for each in claims] == [(fid, 1), (fid, 2)]


async def test_a_copy_being_cleaned_up_is_not_recorded(metadata: Metadata) -> None:
    """A worker that stalled beyond its lease can neither renew nor record the copy that a sweeper is deleting."""
    fid = await store(metadata, b"k")
    await metadata.write(replicas.reserve_copy, fid, 2, now=100, lease=60)
    assert await metadata.write(replicas.claim_abandoned_copies, now=160) == [(fid, 2, -160 - LEASE)]
    lost = CopyReservation(fid, 2, 160)
    assert await metadata.write(leases.renew_copies, [lost], until=500) == [lost]
    assert not await metadata.write(replicas.end_reservation, lost)
    with pytest.raises(LeaseLost):
        await metadata.write(replicas.record_copy, fid, 2, now=161)
    assert await metadata.read(replicas.devices_of, fid) == (1,)
    assert await metadata.write(replicas.reserve_copy, fid, 2, now=161) is False
    await metadata.write(replicas.cancel_copy, fid, 2)
    assert await metadata.write(replicas.reserve_copy, fid, 2, now=162) is True


async def test_concurrent_copies_are_all_counted(metadata: Metadata, opener: Opener) -> None:
    """After concurrent recording and dropping of replicas of one fid, devcount equals the number of replicas."""
    trackers = [metadata, await opener()]
    fid = await store(metadata, b"k", (1, 2, 3, 4))
    for n in range(10):
        await metadata.write(replicas.reserve_copy, fid, 10 + n, now=1)
    await asyncio.gather(
        *(trackers[n % 2].write(replicas.record_copy, fid, 10 + n, now=1) for n in range(10)),
        *(trackers[n % 2].write(replicas.drop_replica, fid, n) for n in range(1, 4)),
    )
    found = await metadata.read(files.find, 1, b"k")
    assert found is not None
    assert found.devcount == len(found.devids) == 11
