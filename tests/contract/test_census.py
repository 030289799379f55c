"""The census, the queues' lengths and the workers' pace, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tawara.metadata import backlog, census, cluster, files, pace, queues, replicas
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.counting import Counter, count
from tawara.model.backlog import Queue
from tawara.model.census import Census, Group
from tawara.model.files import Errand
from tawara.model.limits import END_OF_TIME
from tawara.model.pace import LAPSE, Pace

Opener = Callable[[], Awaitable[Metadata]]


async def fill(tx: Transaction) -> None:
    """Nine files: of class 0 on two devices, of class 1 on one, one without a replica, one on a device beyond 9."""
    key = tx.dialect.key_value
    insert = f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, ?, {key}, ?, ?, 0)"
    await tx.run_many(insert, [(fid, 1 + fid % 2, b"k%d" % fid, 10 * fid, fid % 2) for fid in range(1, 10)])
    on = [(fid, devid) for fid in range(1, 8) for devid in ((2, 1) if fid % 2 == 0 else (3,))]
    await tx.run_many("INSERT INTO file_on (fid, devid) VALUES (?, ?)", [*on, (9, 10), (9, 2)])


GROUPS = (
    Group(1, 0, (), 1, 80),
    Group(1, 0, (1, 2), 3, 20 + 40 + 60),
    Group(2, 1, (2, 10), 1, 90),
    Group(2, 1, (3,), 4, 10 + 30 + 50 + 70),
)


async def test_files_are_counted_by_their_devices(metadata: Metadata) -> None:
    """Every file is in just one group, whatever the slices, with devices in the order of their numbers."""
    assert (await count(metadata)).groups == ()
    await metadata.write(fill)
    found = await count(metadata)
    assert found.groups == GROUPS
    assert found.files == 9
    for limit in (1, 4, 100):
        after: int | None = 0
        slices: list[list[Group]] = []
        while after is not None:
            groups, after = await metadata.read(census.count_slice, after, limit)
            slices.append(groups)
        assert sum(each.files for groups in slices for each in groups) == 9
        assert len(slices) == -(-9 // limit) + 1


async def test_a_census_is_kept(metadata: Metadata) -> None:
    """What is stored is loaded as it was, replaces the one before, and can be said to hold still."""
    assert await metadata.read(census.load) is None
    assert await metadata.read(census.stamp) is None
    await metadata.write(census.touch, now=5)
    assert await metadata.read(census.stamp) is None
    first = Census(100, 0.25, "mark", GROUPS)
    await metadata.write(census.store, first)
    assert await metadata.read(census.load) == first
    many = Group(1, 0, tuple(range(1000, 1100)), 7, 70)
    await metadata.write(census.store, Census(200, 1.5, "other", (many, replace(many, devids=many.devids[:90]))))
    found = await metadata.read(census.load)
    assert found is not None
    assert [(each.files, each.devids[:3]) for each in found.groups] == [(14, (1000, 1001, 1002))]
    await metadata.write(census.touch, now=300)
    assert await metadata.read(census.stamp) == Census(300, 1.5, "other", ())


async def test_one_counts_at_a_time(metadata: Metadata, opener: Opener) -> None:
    """Of several that want to count one may; when it has stored, or is gone for a lease, the next one may."""
    other = await opener()
    begun = await asyncio.gather(*(each.write(census.begin, now=100, lease=60) for each in (metadata, other) * 4))
    assert sorted(begun) == [False] * 7 + [True]
    await metadata.write(census.keep_turn, now=150, lease=60)
    assert not await other.write(census.begin, now=209, lease=60)
    assert await other.write(census.begin, now=210, lease=60)
    await metadata.write(census.store, Census(211, 1.0, "", ()))
    assert await other.write(census.begin, now=212, lease=60)
    assert await other.write(census.begin, now=3, lease=60), "a turn that is far off was taken by a clock that is wrong"


async def test_changes_are_seen(metadata: Metadata) -> None:
    """The mark is another one after a file was stored, a key deleted, a worker has done something; else it stays."""

    async def mark() -> str:
        return await metadata.read(census.change_mark)

    marks = [await mark()]
    fid = await metadata.write(files.open_upload, dmid=1, key=b"k", classid=0, devids=(1,), now=1)
    await metadata.write(files.close_upload, fid, dmid=1, key=b"k", classid=0, length=1, devids=(1,), now=2)
    marks.append(await mark())
    await metadata.write(files.delete, 1, b"k", now=3)
    marks.append(await mark())
    await metadata.write(pace.record, "p", [Pace("replicate", 5, 0, 1.0, 2.0)], now=9)
    marks.append(await mark())
    assert len(set(marks)) == 4
    await metadata.write(pace.record, "p", [Pace("replicate", 5, 0, 0, 2.0), Pace("census", 9, 0, 0, 2.0)], now=99)
    assert await mark() == marks[-1]


async def test_counting_on_demand(metadata: Metadata) -> None:
    """What is cheap is counted when somebody asks; what is not is taken from the last count, unless asked for."""
    await metadata.write(fill)
    dear = Census(1, 5.0, "", (Group(1, 0, (1,), 99, 99),))
    await metadata.write(census.store, dear)
    counter = Counter(metadata)
    assert await counter.census() == dear
    assert (await counter.census(recount=True)).groups == GROUPS
    assert (await Counter(metadata).census()).groups == GROUPS, "what was counted on demand is kept"
    await metadata.write(census.store, Census(1, 99.0, "", ()))
    assert (await Counter(metadata).census(recount=True)).took == 99.0, "nobody waits that long"


async def test_what_waits_in_the_queues(metadata: Metadata) -> None:
    """Due, put off, and waiting for a person are told apart, with the time since when the first is due."""
    await metadata.write(cluster.create_domain, "d")
    fid = await metadata.write(files.open_upload, dmid=1, key=b"k", classid=0, devids=(1,), now=100)
    await metadata.write(files.close_upload, fid, dmid=1, key=b"k", classid=0, length=1, devids=(1,), now=110)
    await metadata.write(files.open_upload, dmid=1, key=b"other", classid=0, devids=(1,), now=120)
    for number, nexttry in ((50, 500), (51, 2000), (52, END_OF_TIME)):
        await metadata.write(queues.enqueue_replication, number, nexttry=nexttry)
        await metadata.write(queues.enqueue_deletion, number, nexttry)
    await metadata.write(queues.enqueue_errands, Errand.CHECK, [(n, None, "") for n in (60, 61, 62)], now=900)
    await metadata.write(queues.enqueue_errands, Errand.MOVE, [(60, 1, "2")], now=1001)
    await metadata.write(replicas.announce_copy, fid, 2, now=1000)
    assert await metadata.read(backlog.queues, now=1000) == [
        Queue("replicate", due=2, later=1, stuck=1, since=110),
        Queue("delete", due=1, later=1, stuck=1, since=500),
        Queue("check", due=3, later=0, stuck=0, since=900),
        Queue("move", due=0, later=1, stuck=0, since=None),
        Queue("scrub", due=0, later=0, stuck=0, since=None),
        Queue("drain", due=0, later=0, stuck=0, since=None),
        Queue("upload", due=1),
        Queue("copy", due=1),
    ]


async def test_the_pace_of_each_process(metadata: Metadata) -> None:
    """A process replaces what it wrote before, retires without being forgotten, and is forgotten after a week."""
    await metadata.write(pace.record, "a", [Pace("replicate", 1, 0, 0.5, 1.25), Pace("delete", 2, 1, 0, 0)], now=1000)
    await metadata.write(pace.record, "b", [Pace("replicate", 7, 0, 3, 4)], now=1001)
    await metadata.write(pace.record, "a", [Pace("replicate", 9, 2, 8.125, 10)], now=1010)

    async def known() -> dict[tuple[str, str], Pace]:
        return {(each.process, each.work): each for each in await metadata.read(pace.load)}

    assert await known() == {
        ("a", "replicate"): Pace("replicate", 9, 2, 8.125, 10.0, "a", 1010),
        ("a", "delete"): Pace("delete", 2, 1, 0.0, 0.0, "a", 1000),
        ("b", "replicate"): Pace("replicate", 7, 0, 3.0, 4.0, "b", 1001),
    }
    await metadata.write(pace.retire, "a", now=1020)
    retired = (await known())["a", "replicate"]
    assert (retired.rate, retired.pace, retired.recorded_at) == (0, 10.0, 1020 - LAPSE)
    await metadata.write(pace.record, "b", [Pace("replicate", 8, 0, 3, 4)], now=1020 + pace.FORGOTTEN)
    assert {process for process, _ in await known()} == {"b"}
