"""The promises of the check of all files, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tawara.metadata import cluster, files, fsck, leases, queues, replicas, runs
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import FsckRunning, RebalRunning
from tawara.model.files import NewFile, QueuedTask, StoredFile, TaskType
from tawara.model.focus import Focus
from tawara.model.fsck import Code, Event, FsckVerdict

Opener = Callable[[], Awaitable[Metadata]]
NOW = 1000


async def store(metadata: Metadata, count: int) -> list[int]:
    """Store so many files on devices 1 and 2; return their fids."""

    async def one(number: int) -> int:
        key = b"k%d" % number
        fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1, 2), now=1)
        await metadata.write(
            files.close_upload,
            NewFile(fid=fid, dmid=1, key=key, classid=0, length=9, devids=(1, 2)),
            now=1,
            replicate=False,
        )
        return fid

    return sorted(await asyncio.gather(*map(one, range(count))))


async def the(metadata: Metadata, fid: int) -> StoredFile:
    found = await metadata.read(files.find_fid, fid)
    assert found is not None
    return found


async def claimed(metadata: Metadata, fid: int) -> QueuedTask:
    """The fid, queued for a check and claimed."""
    await metadata.write(queues.enqueue_tasks, TaskType.CHECK, [(fid, None, "")], now=NOW)
    (claim,) = await metadata.write(queues.claim_tasks, TaskType.CHECK, limit=1, now=NOW)
    return claim


async def test_every_file_is_queued_once(metadata: Metadata, opener: Opener) -> None:
    """With any number of workers, each file is queued for a check exactly once, and then the check ends."""
    workers = [metadata, await opener()]
    fids = await store(metadata, 30)
    await metadata.write(cluster.set_setting, "queue_rate_for_fsck", "7")
    await metadata.write(fsck.start, host="here", now=NOW)
    checked: list[int] = []
    for now in range(NOW, NOW + 20):
        going_on = await asyncio.gather(*(workers[n % 2].write(fsck.inject, now=now) for n in range(6)))
        claims = await metadata.write(queues.claim_tasks, TaskType.CHECK, limit=100, now=now)
        assert len(claims) <= 7
        checked += [claim.fid for claim in claims]
        await metadata.write(queues.finish_tasks, claims)
        if not any(going_on):
            break
    assert checked == fids
    at = await metadata.read(fsck.progress)
    assert (at.host, at.position, at.end, at.queued, at.stop_time) == ("", fids[-1], fids[-1], 0, now)


async def test_the_queue_does_not_grow_beyond_its_limit(metadata: Metadata) -> None:
    """At most queue_size_for_fsck fids wait; those of silent devices do not delay the others."""
    fids = await store(metadata, 12)
    await metadata.write(cluster.set_setting, "queue_size_for_fsck", "5")
    await metadata.write(fsck.start, host="here", now=NOW)
    for now in range(NOW, NOW + 5):
        assert await metadata.write(fsck.inject, now=now)
    assert await metadata.read(queues.count_tasks, TaskType.CHECK) == 5
    for claim in await metadata.write(queues.claim_tasks, TaskType.CHECK, limit=5, now=NOW):
        await metadata.write(fsck.defer_check, claim, now=NOW)
    await metadata.write(fsck.inject, now=NOW + 10)
    assert await metadata.read(queues.count_tasks, TaskType.CHECK) == 10
    assert (await metadata.read(fsck.progress)).position == fids[9]


async def test_a_tick_with_a_wrong_clock_does_not_delay_others(metadata: Metadata) -> None:
    """A worker whose clock is an hour ahead does not delay the others by an hour."""
    await store(metadata, 4)
    await metadata.write(cluster.set_setting, "queue_rate_for_fsck", "1")
    await metadata.write(fsck.start, host="here", now=NOW)
    await metadata.write(fsck.inject, now=NOW + 3600)
    await metadata.write(fsck.inject, now=NOW)
    await metadata.write(fsck.inject, now=NOW)
    assert await metadata.read(queues.count_tasks, TaskType.CHECK) == 2


async def test_a_check_is_stopped_and_continued(metadata: Metadata) -> None:
    """Tasks that had not begun when a check stopped are queued again when it continues; finished ones are not."""
    fids = await store(metadata, 6)
    await metadata.write(fsck.start, host="here", now=NOW)
    await metadata.write(fsck.inject, now=NOW)
    claims = await metadata.write(queues.claim_tasks, TaskType.CHECK, limit=2, now=NOW)
    await metadata.write(queues.finish_tasks, claims)
    await metadata.write(fsck.stop, now=NOW + 1)
    assert await metadata.read(queues.count_tasks, TaskType.CHECK) == 0
    await metadata.write(fsck.start, host="here", now=NOW + 2)
    await metadata.write(fsck.inject, now=NOW + 2)
    again = await metadata.write(queues.claim_tasks, TaskType.CHECK, limit=10, now=NOW + 2)
    assert [claim.fid for claim in again] == fids[2:]


async def test_one_run_at_a_time(metadata: Metadata, opener: Opener) -> None:
    """Of many concurrent starts of a check one succeeds, and none while a rebalance runs."""
    trackers = [metadata, await opener()]
    outcomes = await asyncio.gather(
        *(trackers[n % 2].write(fsck.start, host="here", now=NOW) for n in range(8)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in outcomes) == ["FsckRunning"] * 7 + ["NoneType"]
    await metadata.write(fsck.stop, now=NOW)
    await metadata.write(runs.set_all, {"rebal_host": "there"})
    with pytest.raises(RebalRunning):
        await metadata.write(fsck.start, host="here", now=NOW)
    with pytest.raises(FsckRunning):
        await metadata.write(_start_both, now=NOW)


async def _start_both(tx: Transaction, *, now: int) -> None:
    await runs.set_all(tx, {"rebal_host": None})
    await fsck.start(tx, host="here", now=now)
    await fsck.start(tx, host="here", now=now)


async def test_a_restricted_check_queues_only_matching_files(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A focus on domain, class, prefix and devices excludes all others, is resumed, and ends with the next check."""
    monkeypatch.setattr(fsck, "WINDOW", 4)
    fids = await store(metadata, 12)
    await metadata.write(replicas.drop_replica, fids[10], 2)
    await metadata.write(cluster.set_setting, "queue_rate_for_fsck", "2")

    async def queued(now: int) -> list[int]:
        claims = await metadata.write(queues.claim_tasks, TaskType.CHECK, limit=100, now=now)
        await metadata.write(queues.finish_tasks, claims)
        return [claim.fid for claim in claims]

    keys = {fid: (await the(metadata, fid)).key for fid in fids}
    for focus, expected in (
        (Focus(dmid=1, prefix=b"k1"), [fid for fid in fids if keys[fid].startswith(b"k1")]),
        (Focus(dmid=1, classid=7), []),
        (Focus(dmid=2), []),
        (Focus(devids=frozenset({2, 9})), [fid for fid in fids if fid != fids[10]]),
        (Focus(dmid=1, classid=0), fids),
    ):
        await metadata.write(fsck.reset, policy_only=False, position=0, focus=focus)
        await metadata.write(fsck.start, host="here", now=NOW)
        found: list[int] = []
        for now in range(NOW, NOW + 20):
            if now == NOW + 2 and (await metadata.read(fsck.progress)).host:
                await metadata.write(fsck.stop, now=now)
                await metadata.write(fsck.start, host="here", now=now)
            await metadata.write(fsck.inject, now=now)
            batch = await queued(now)
            assert len(batch) <= 2
            found += batch
        assert found == expected
        at = await metadata.read(fsck.progress)
        assert (at.host, at.position, at.focus) == ("", fids[-1], focus)
    await metadata.write(fsck.start, host="here", now=NOW)
    assert (await metadata.read(fsck.progress)).focus == Focus()


async def test_a_verdict_is_recorded_completely(metadata: Metadata) -> None:
    """Rows, orphans, count, checksum, replication and log change together, and the claim ends."""
    (fid,) = await store(metadata, 1)
    claim = await claimed(metadata, fid)
    checksum = Checksum(HashType.MD5, bytes(16))
    verdict = FsckVerdict(
        logged=(Event(Code.BAD_LENGTH, 1), Event(Code.REPLICATE)),
        drop=frozenset({1}),
        sweep=frozenset({1}),
        add=frozenset({3}),
        checksum=checksum,
        replicate=True,
    )
    assert await metadata.write(fsck.record_result, claim, await the(metadata, fid), verdict, now=NOW)
    after = await the(metadata, fid)
    assert (set(after.devids), after.devcount, after.checksum) == ({2, 3}, 2, checksum)
    assert await metadata.write(replicas.claim_abandoned_copies, now=NOW) == [(fid, 1, -NOW - queues.LEASE)]
    assert await metadata.read(queues.next_replication) == NOW
    assert [row[1:] for row in await metadata.read(fsck.log_after, 0)] == [
        (NOW, fid, "BLEN", 1),
        (NOW, fid, "REPL", None),
    ]
    assert await metadata.read(queues.next_task_due, TaskType.CHECK) is None


async def test_an_outdated_verdict_changes_nothing(metadata: Metadata) -> None:
    """A file whose replicas changed, that is being copied, or whose device was not dead after all, is left
    unchanged."""
    (fid,) = await store(metadata, 1)
    claim = await claimed(metadata, fid)
    seen = await the(metadata, fid)

    async def settle(verdict: FsckVerdict) -> bool:
        return await metadata.write(fsck.record_result, claim, seen, verdict, now=NOW)

    await metadata.write(replicas.reserve_copy, fid, 4, now=NOW)
    assert not await settle(FsckVerdict(add=frozenset({4})))
    hostid = await metadata.write(cluster.create_host, "h", ip="127.0.0.9", state="alive")
    await metadata.write(cluster.create_device, 1, hostid)
    assert not await settle(FsckVerdict(drop=frozenset({1}), lost=frozenset({1})))
    await metadata.write(replicas.record_copy, fid, 4, now=NOW)
    assert not await settle(FsckVerdict(drop=frozenset({1})))
    assert set((await the(metadata, fid)).devids) == {1, 2, 4}
    await metadata.write(files.delete, 1, b"k0", now=NOW)
    assert not await settle(FsckVerdict())
    assert await metadata.read(queues.count_tasks, TaskType.CHECK) == 1


async def test_a_running_replication_is_not_disturbed(metadata: Metadata) -> None:
    """A check never takes a fid from a replicate worker, but makes rows due that need an operator."""
    await metadata.write(queues.ensure_replication, 1, now=NOW)
    (claim,) = await metadata.write(queues.claim_replications, limit=1, now=NOW)
    await metadata.write(queues.ensure_replication, 1, now=NOW)
    assert await metadata.read(queues.next_replication) == claim.nexttry
    await metadata.write(queues.postpone_replication, claim, nexttry=2**31 - 1, failcount=1)
    await metadata.write(queues.ensure_replication, 1, now=NOW)
    assert await metadata.read(queues.next_replication) == NOW


async def test_leases_of_tasks(metadata: Metadata, opener: Opener) -> None:
    """A claimed task belongs to one worker, is renewed and released, and a worker that lost it finishes nothing."""
    workers = [metadata, await opener()]
    await metadata.write(queues.enqueue_tasks, TaskType.CHECK, [(fid, None, "") for fid in range(1, 41)], now=NOW)
    await metadata.write(queues.enqueue_tasks, TaskType.MOVE, [(1, 7, "8,9")], now=NOW)
    claims: list[QueuedTask] = []
    while len(claims) < 40:  # where the planner sorts, the first claim locks more than it takes
        taken = await asyncio.gather(
            *(workers[n % 2].write(queues.claim_tasks, TaskType.CHECK, limit=9, now=NOW, lease=60) for n in range(8))
        )
        assert any(taken)
        claims += [claim for some in taken for claim in some]
    assert sorted(claim.fid for claim in claims) == list(range(1, 41))
    (move,) = await metadata.write(queues.claim_tasks, TaskType.MOVE, limit=9, now=NOW)
    assert (move.fid, move.devid, move.arg) == (1, 7, "8,9")
    renewed = await metadata.write(leases.renew, claims[:2], until=NOW + 99)
    assert [claim.nexttry for claim in renewed] == [NOW + 99] * 2
    await metadata.write(queues.finish_tasks, claims[:1])
    assert await metadata.read(queues.count_tasks, TaskType.CHECK) == 40
    await metadata.write(leases.renew, renewed, until=NOW)
    assert await metadata.read(queues.next_task_due, TaskType.CHECK) == NOW
    await metadata.write(queues.finish_tasks, claims[2:])
    assert await metadata.read(queues.count_tasks, TaskType.CHECK) == 2
    await metadata.write(queues.enqueue_tasks, TaskType.MOVE, [(1, 6, "5"), (2, 6, "5")], now=NOW)
    assert await metadata.read(queues.count_tasks, TaskType.MOVE) == 2


async def test_the_counts_of_the_log(metadata: Metadata) -> None:
    """Counts are the same before lines are summed up, afterwards, and after the log was cleared."""

    async def write(tx: Transaction, now: int) -> None:
        await fsck.log(tx, 5, [Event(Code.MISSING, 1), Event(Code.MISSING, 2), Event(Code.REPLICATE)], now=now)

    async def counts() -> dict[str, int]:
        return (await metadata.read(fsck.progress)).counts

    await metadata.write(write, NOW)
    await metadata.write(write, NOW + 500)
    assert await counts() == {"MISS": 4, "REPL": 2}
    await metadata.write(fsck.summarize, now=NOW + 100)
    assert await counts() == {"MISS": 4, "REPL": 2}
    assert (await metadata.read(fsck.progress)).unsummed == 3
    await metadata.write(fsck.clear_log)
    assert await counts() == {"MISS": 4, "REPL": 2}
    assert await metadata.read(fsck.log_after, 0) == []
    await metadata.write(fsck.reset, policy_only=False, position=0)
    assert await counts() == {}
