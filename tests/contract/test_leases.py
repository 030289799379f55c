"""Claims and their release, and removal of replicas, on every engine."""

from __future__ import annotations

import asyncio

from tawara.metadata import cluster, deferrals, files, leases, queues, replicas
from tawara.metadata.contract import Metadata
from tawara.metadata.deferrals import BlockedOn, DeferralNote
from tawara.metadata.queues import LEASE
from tawara.model.cluster import DeviceState
from tawara.model.explanation import Failure
from tawara.model.files import CopyReservation, TaskType
from tawara.model.limits import END_OF_TIME
from tawara.workers.retry_deferred import _retry_deferred
from tests.contract.test_queues import Opener, store


async def _queued(metadata: Metadata, *fids: int) -> None:
    for fid in fids:
        await metadata.write(queues.enqueue_replication, fid, nexttry=1)
        await metadata.write(queues.enqueue_deletion, fid, 1)


async def test_renewed_claims_stay_claimed(metadata: Metadata) -> None:
    """A renewed claim is due when its new lease ends, and only its holder can finish it."""
    await _queued(metadata, 1)
    (old,) = await metadata.write(queues.claim_replications, limit=1, now=10, lease=60)
    assert old.nexttry == 70
    (claim,) = await metadata.write(leases.renew, [old], until=100)
    assert claim.nexttry == 100
    assert await metadata.write(queues.claim_replications, limit=1, now=99) == []
    await metadata.write(queues.finish_replication, old)
    assert await metadata.read(queues.next_replication) == 100
    await metadata.write(queues.finish_replication, claim)
    assert await metadata.read(queues.next_replication) is None


async def test_lost_claims_are_not_renewed(metadata: Metadata) -> None:
    """A claim that another worker has taken over is left unchanged."""
    await _queued(metadata, 1)
    (late,) = await metadata.write(queues.claim_deletions, limit=1, now=10, lease=60)
    (taken,) = await metadata.write(queues.claim_deletions, limit=1, now=70, lease=60)
    assert await metadata.write(leases.renew, [late], until=500) == [late]
    assert await metadata.read(queues.next_deletion) == taken.nexttry


async def test_released_claims_are_due(metadata: Metadata) -> None:
    """A released claim is due at once; a lost one cannot be released."""
    await _queued(metadata, 1, 2)
    claims = await metadata.write(queues.claim_replications, limit=2, now=10, lease=60)
    await metadata.write(queues.postpone_replication, claims[0], nexttry=5000, failcount=1)
    await metadata.write(leases.renew, claims, until=20)
    assert [each.fid for each in await metadata.write(queues.claim_replications, limit=2, now=20)] == [claims[1].fid]


async def test_renewed_copies_are_not_cleaned_up(metadata: Metadata) -> None:
    """A copy in progress is cleaned up when its last lease has expired, not its first."""
    fid = await store(metadata, b"k", (1,))
    await metadata.write(replicas.reserve_copy, fid, 2, now=10, lease=60)
    held = await metadata.write(leases.renew_copies, [CopyReservation(fid, 2, 70)], until=200)
    assert held == [(fid, 2, 200)]
    assert await metadata.write(replicas.claim_abandoned_copies, now=199) == []
    (swept,) = await metadata.write(replicas.claim_abandoned_copies, now=200, lease=60)
    assert swept == (fid, 2, -260)
    assert await metadata.write(leases.renew_copies, held, until=500) == held
    (swept,) = await metadata.write(leases.renew_copies, [swept], until=300)
    assert await metadata.write(replicas.claim_abandoned_copies, now=299) == []
    assert await metadata.write(replicas.end_reservation, swept)


async def test_release_all(metadata: Metadata) -> None:
    """Leased work and reserved copies are due at once; long deferred work stays deferred."""
    fid = await store(metadata, b"k", (1,))
    await metadata.write(queues.replicate_now, now=0)
    await _queued(metadata, 77)
    await metadata.write(queues.claim_replications, limit=9, now=10)
    await metadata.write(queues.enqueue_replication, 78, nexttry=20 + LEASE + 1)
    await metadata.write(replicas.reserve_copy, fid, 2, now=10)
    await metadata.write(leases.release_all, now=20)
    due = {each.fid for each in await metadata.write(queues.claim_replications, limit=9, now=20)}
    assert 77 in due
    assert 78 not in due
    assert await metadata.write(replicas.claim_abandoned_copies, now=20) == [(fid, 2, -20 - LEASE)]


async def test_only_one_of_two_removes_a_replica(metadata: Metadata, opener: Opener) -> None:
    """Two workers that evaluated the same three replicas remove one of them, not one each."""
    other = await opener()
    fid = await store(metadata, b"k", (1, 2, 3))
    among = frozenset({1, 2, 3})
    told = await asyncio.gather(
        *(
            (metadata, other)[n % 2].write(replicas.remove_surplus_replica, fid, 1 + n % 3, among=among, now=1)
            for n in range(9)
        )
    )
    assert sorted(told) == [False] * 8 + [True]
    left = await metadata.read(replicas.devices_of, fid)
    assert len(left) == 2
    found = await metadata.read(files.find_fid, fid)
    assert found is not None
    assert found.devcount == 2
    (given_up,) = among - set(left)
    later = 1 + replicas.COPY_LEASE
    assert await metadata.write(replicas.claim_abandoned_copies, now=later) == [(fid, given_up, -later - LEASE)]


async def test_a_dead_device_is_emptied_in_passes(metadata: Metadata) -> None:
    """A limited number of replicas at a time is dropped and their fids queued, only while the device is dead."""
    hostid = await metadata.write(cluster.create_host, "h", ip="127.0.0.1", http_port=7500)
    await metadata.write(cluster.create_device, 2, hostid)
    fids = [await store(metadata, b"%d" % n, (1, 2)) for n in range(5)]
    assert await metadata.write(replicas.empty_dead_device, 2, limit=3, now=1) == 0
    await metadata.write(cluster.set_device_state, "h", 2, DeviceState.DEAD)
    assert [await metadata.write(replicas.empty_dead_device, 2, limit=3, now=1) for _ in range(3)] == [3, 2, 0]
    assert await metadata.read(replicas.counts, fids) == dict.fromkeys(fids, 1)
    assert {each.fid for each in await metadata.write(queues.claim_replications, limit=9, now=1)} == set(fids)


async def test_a_dead_device_is_emptied_at_the_configured_rate(metadata: Metadata) -> None:
    """Settings limit how many of its replicas are queued at a time, and the length of the queue (docs/mogilefs.md
    11.3)."""
    hostid = await metadata.write(cluster.create_host, "h", ip="127.0.0.1", http_port=7500)
    await metadata.write(cluster.create_device, 2, hostid)
    for n in range(6):
        await store(metadata, b"%d" % n, (1, 2))
    for claim in await metadata.write(queues.claim_replications, limit=99, now=1):
        await metadata.write(queues.finish_replication, claim)
    await metadata.write(cluster.set_device_state, "h", 2, DeviceState.DEAD)
    await metadata.write(cluster.set_setting, "queue_rate_for_reaper", "2")
    await metadata.write(cluster.set_setting, "queue_size_for_reaper", "3")
    passes = [await metadata.write(replicas.empty_dead_device, 2, limit=1000, now=1) for _ in range(3)]
    assert passes == [2, 1, None]
    for claim in await metadata.write(queues.claim_replications, limit=99, now=1):
        await metadata.write(queues.finish_replication, claim)
    await metadata.write(cluster.set_setting, "queue_size_for_reaper", "0")
    assert [await metadata.write(replicas.empty_dead_device, 2, limit=1000, now=1) for _ in range(3)] == [2, 1, 0]


async def test_deletions_are_rescheduled_or_removed(metadata: Metadata) -> None:
    """A deferred deletion can be made due, never later than before; removing it changes nothing else."""
    fid = await store(metadata, b"k", (1,))
    await metadata.write(queues.enqueue_deletion, fid, 100)
    await metadata.write(queues.retry_deletion, fid, 200)
    assert await metadata.read(queues.next_deletion) == 100
    await metadata.write(queues.retry_deletion, fid, 50)
    (claim,) = await metadata.write(queues.claim_deletions, limit=1, now=50)
    await metadata.write(queues.forget_deletion, claim)
    assert await metadata.read(queues.next_deletion) is None
    assert await metadata.read(replicas.devices_of, fid) == (1,)


async def test_failed_work_is_rescheduled(metadata: Metadata) -> None:
    """Work deferred by failures becomes due; work scheduled for later or waiting for an operator does not."""
    await _queued(metadata, 1, 2)
    failed, unrepairable = await metadata.write(queues.claim_replications, limit=2, now=10)
    await metadata.write(queues.postpone_replication, failed, nexttry=9000, failcount=4)
    await metadata.write(queues.postpone_replication, unrepairable, nexttry=END_OF_TIME, failcount=4)
    await metadata.write(queues.enqueue_replication, 3, nexttry=9000)
    deletions = await metadata.write(queues.claim_deletions, limit=2, now=10)
    await metadata.write(queues.postpone_deletion, deletions[0], nexttry=9000, failcount=1)
    await metadata.write(queues.enqueue_tasks, TaskType.SCRUB, [(1, None, ""), (2, None, "")], now=10)
    check, _ = await metadata.write(queues.claim_tasks, TaskType.SCRUB, limit=2, now=10)
    await metadata.write(queues.postpone_task, check, nexttry=9000, failcount=20)
    assert await metadata.write(queues.retry_all_deferred, now=20, failures=4) == 3
    assert [each.fid for each in await metadata.write(queues.claim_tasks, TaskType.SCRUB, limit=9, now=20)] == [1]
    assert [each.fid for each in await metadata.write(queues.claim_replications, limit=9, now=20)] == [failed.fid]
    assert [each.fid for each in await metadata.write(queues.claim_deletions, limit=9, now=20)] == [deletions[0].fid]


async def test_counts_of_no_fids(metadata: Metadata) -> None:
    """Counting the replicas of no fids runs no query, and of unknown ones gives an empty result."""
    assert await metadata.read(replicas.counts, []) == {}
    assert await metadata.read(replicas.counts, [4711]) == {}


async def test_work_deferred_by_a_device_is_rescheduled(metadata: Metadata, opener: Opener) -> None:
    """Deferred work names the missing devices; of many processes that see them well one reschedules it, once a
    minute."""
    other = await opener()
    await _queued(metadata, 1, 2)
    first, second = await metadata.write(queues.claim_replications, limit=2, now=10)
    for claim, failcount, blocked_on in (
        (first, 4, BlockedOn(missed=frozenset({3}))),
        (second, 9, BlockedOn(suspects=frozenset({3, 5}))),
    ):
        await metadata.write(
            queues.postpone_replication,
            claim,
            nexttry=9000,
            failcount=failcount,
            failure=Failure(20, "x"),
            blocked_on=blocked_on,
        )
    notes = deferrals.notes((await metadata.read(cluster.load)).settings)
    assert notes == [DeferralNote(3, 20, True), DeferralNote(3, 20, False), DeferralNote(5, 20, False)]

    async def reschedule(each: Metadata, known: list[DeferralNote], now: int) -> int | None:
        return await each.write(_retry_deferred, known, now=now)

    doubts = notes[1:]
    assert await reschedule(metadata, doubts, 100) == 0, (
        "what failed often on a device that seems well is left to its pause"
    )
    assert await reschedule(metadata, notes[:1], 159) is None
    assert sorted(await asyncio.gather(*(reschedule(each, notes, 160) for each in (metadata, other))), key=str) == [
        2,
        None,
    ]
    assert deferrals.notes((await metadata.read(cluster.load)).settings) == []


async def test_a_renewed_note_is_kept(metadata: Metadata) -> None:
    """A note that was renewed since it was read is kept."""
    await metadata.write(deferrals.note, BlockedOn(missed=frozenset({3})), now=20)
    notes = deferrals.notes((await metadata.read(cluster.load)).settings)
    await metadata.write(deferrals.note, BlockedOn(missed=frozenset({3})), now=30)
    await metadata.write(_retry_deferred, notes, now=100)
    assert deferrals.notes((await metadata.read(cluster.load)).settings) == [DeferralNote(3, 30, True)]
