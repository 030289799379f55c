"""The promises of the scrub, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tawara.metadata import cluster, files, fsck, queues, scrub
from tawara.metadata.contract import Metadata
from tawara.model.files import NewFile, TaskType
from tawara.model.fsck import Code, Event, FsckVerdict

Opener = Callable[[], Awaitable[Metadata]]
NOW = 1_000_000


async def store(metadata: Metadata, number: int) -> int:
    fid = await metadata.write(files.open_upload, dmid=1, key=b"k%d" % number, classid=0, devids=(1, 2), now=1)
    await metadata.write(
        files.close_upload,
        NewFile(fid=fid, dmid=1, key=b"k%d" % number, classid=0, length=9, devids=(1, 2)),
        now=1,
        replicate=False,
    )
    return fid


async def test_every_file_is_queued_once_a_pass(metadata: Metadata, opener: Opener) -> None:
    """With any number of workers at any times, each file is read once in each period."""
    workers = [metadata, await opener()]
    fids = [await store(metadata, number) for number in range(12)]
    await metadata.write(cluster.set_setting, scrub.PERIOD, "1000s")
    read: list[int] = []
    for now in range(NOW, NOW + 2000, 10):
        await asyncio.gather(*(workers[n % 2].write(scrub.inject, now=now) for n in range(3)))
        claims = await metadata.write(queues.claim_tasks, TaskType.SCRUB, limit=100, now=now)
        assert len(claims) <= 2
        read += [claim.fid for claim in claims]
        await metadata.write(queues.finish_tasks, claims)
    assert read == fids * 2
    stands = await metadata.read(scrub.progress, now=NOW)
    assert (stands.period, stands.at.done, stands.queued) == (1000, 12, 0)


async def test_its_findings_are_separate(metadata: Metadata) -> None:
    """Findings of the scrub are not in the log of checks, nor the other way round, except which replicas are
    corrupt."""
    fid = await store(metadata, 1)
    for task_type, code in ((TaskType.SCRUB, Code.MISSING), (TaskType.CHECK, Code.GONE)):
        await metadata.write(queues.enqueue_tasks, task_type, [(fid, None, "")], now=NOW)
        (claim,) = await metadata.write(queues.claim_tasks, task_type, limit=1, now=NOW)
        file = await metadata.read(files.find_fid, fid)
        assert file
        verdict = FsckVerdict(events=(Event(code, 2), Event(Code.BAD_CHECKSUM, 1)), logged=(Event(code, 2),))
        assert await metadata.write(fsck.record_result, claim, file, verdict, now=NOW)
    stands = await metadata.read(scrub.progress, now=NOW)
    assert stands.counts == {"BSUM": 2, "MISS": 1}
    found = [(NOW, fid, "MISS", 2), (NOW, fid, "BSUM", 1), (NOW, fid, "BSUM", 1)]
    assert [row[1:] for row in await metadata.read(scrub.log_after, 0)] == found
    assert await metadata.read(scrub.log_after, stands.last_logid) == []
    assert (await metadata.read(fsck.progress)).counts == {"GONE": 1}


async def test_recent_damage(metadata: Metadata) -> None:
    """Damage of the last period is counted by its result; older findings, and those of deleted files, are not."""
    await metadata.write(cluster.set_setting, scrub.PERIOD, "1000s")
    repaired, waiting, unrepairable, old, deleted, well = [await store(metadata, number) for number in range(6)]
    bad, good = Event(Code.BAD_CHECKSUM, 2), Event(Code.NO_CHECKSUM)
    for fid, events, at in (
        (repaired, (bad, Event(Code.MISSING, 1)), NOW),
        (waiting, (bad,), NOW),
        (unrepairable, (bad, Event(Code.START_SEARCH), Event(Code.GONE)), NOW),
        (old, (bad,), NOW - 2000),
        (deleted, (bad,), NOW),
        (well, (good,), NOW),
    ):
        await metadata.write(queues.enqueue_tasks, TaskType.SCRUB, [(fid, None, "")], now=at)
        (claim,) = await metadata.write(queues.claim_tasks, TaskType.SCRUB, limit=1, now=at)
        file = await metadata.read(files.find_fid, fid)
        assert file
        assert await metadata.write(fsck.record_result, claim, file, FsckVerdict(events=events), now=at)
    await metadata.write(queues.enqueue_replication, waiting)
    await metadata.write(files.delete, 1, b"k4", now=NOW)
    damage = (await metadata.read(scrub.progress, now=NOW + 10)).damage
    assert damage == scrub.ScrubDamage(replicas=4, files=3, waiting=1, unrepairable=1, repaired=1)
    later = (await metadata.read(scrub.progress, now=NOW + 2000)).damage
    assert later == scrub.ScrubDamage()
