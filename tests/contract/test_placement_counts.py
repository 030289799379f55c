"""Placement counts, the queues' lengths and the workers' pace, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from tawara.metadata import backlog, cluster, files, journal_outbox, journals, pace, queues, replicas
from tawara.metadata import placement_counts as rows
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.counting import Counter, count_all
from tawara.model.backlog import Queue
from tawara.model.cluster import Cluster, Device, DeviceState, Host, HostState, Observation, Observed
from tawara.model.errors import TooManyFiles
from tawara.model.files import NewFile, TaskType
from tawara.model.limits import END_OF_TIME
from tawara.model.pace import STOPPED_AFTER, WorkPace
from tawara.model.placement_counts import CountedRange, PlacementCounts
from tawara.model.placement_groups import PlacementGroup
from tawara.model.safety import judge

Opener = Callable[[], Awaitable[Metadata]]


async def fill(tx: Transaction) -> None:
    """Nine files: of class 0 on two devices, of class 1 on one, one without a replica, one on a device beyond 9."""
    key = tx.dialect.key_value
    insert = f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, ?, {key}, ?, ?, 0)"
    await tx.run_many(insert, [(fid, 1 + fid % 2, b"k%d" % fid, 10 * fid, fid % 2) for fid in range(1, 10)])
    on = [(fid, devid) for fid in range(1, 8) for devid in ((2, 1) if fid % 2 == 0 else (3,))]
    await tx.run_many("INSERT INTO file_on (fid, devid) VALUES (?, ?)", [*on, (9, 10), (9, 2)])


GROUPS = (
    PlacementGroup(1, 0, (), 1, 80),
    PlacementGroup(1, 0, (1, 2), 3, 20 + 40 + 60),
    PlacementGroup(2, 1, (2, 10), 1, 90),
    PlacementGroup(2, 1, (3,), 4, 10 + 30 + 50 + 70),
)


CLUSTER = Cluster(
    hosts={1: Host(1, "h", HostState.ALIVE, "10.0.0.1")},
    devices={devid: Device(devid, 1, DeviceState.ALIVE) for devid in range(1, 11)},
    observed={devid: Observation(Observed.WRITEABLE) for devid in range(1, 10)},
)


async def all_groups(metadata: Metadata) -> tuple[PlacementGroup, ...] | None:
    """The groups of a new count."""
    return PlacementCounts(0, 0, tuple([each async for each in count_all(metadata, CLUSTER)])).groups


async def test_files_are_counted_by_their_devices(metadata: Metadata) -> None:
    """Every file is in exactly one group, for any slices, with devices in the order of their numbers."""
    assert await all_groups(metadata) == ()
    await metadata.write(fill)
    assert await all_groups(metadata) == GROUPS
    for limit in (1, 4, 100):
        after, slices = 0, []
        while placed := await metadata.read_long(rows.files_from, after, None, limit):
            slices.append([each[0] for each in placed])
            after = placed[-1][0]
        assert [fid for fids in slices for fid in fids] == list(range(1, 10))
        assert len(slices) == -(-9 // limit)
    assert [each[0] for each in await metadata.read(rows.files_from, 2, 4)] == [3, 4]


async def test_ranges_are_stored(metadata: Metadata) -> None:
    """What is stored is loaded as it was, with groups or as evaluated; a range replaces those that it covers."""
    kept = CountedRange.of(0, 9, GROUPS, CLUSTER, counted_at=100, took=0.25)
    judged = CountedRange.of(9, 20, GROUPS, CLUSTER, counted_at=101, took=1.5, most=2)
    assert judged.groups is None
    assert judged.view.unreadable == {10}
    for each in (kept, judged):
        assert await metadata.write(rows.store, each)
    assert await metadata.read(rows.load, [9, 20]) == [kept, judged]
    outline = await metadata.read(rows.outline)
    assert [(each.after, each.up_to, each.files) for each in outline] == [(0, 9, 9), (9, 20, 9)]
    assert await metadata.read(rows.counted_at) is None
    await metadata.write(rows.finish, at=300)
    assert await metadata.read(rows.counted_at) == 300
    assert not await metadata.write(rows.store, replace(kept, after=10, up_to=30)), "there would be a gap"
    assert await metadata.write(rows.store, replace(kept, up_to=12)), "what is behind is to be counted again"
    assert [each.up_to for each in await metadata.read(rows.outline)] == [12]
    await metadata.write(rows.replace_all, PlacementCounts(400, 1.0, (judged,)))
    assert [each.up_to for each in await metadata.read(rows.outline)] == [20]


async def test_marks_of_changed_files(metadata: Metadata) -> None:
    """When the journals have written a note, its file is marked; a mark stays until the file has been counted."""
    await metadata.write(journal_outbox.of_places, [(5000, 1), (5000, 2), (5001, 1), (9000, 1)])

    async def numbers(tx: Transaction) -> list[int]:
        return [row[0] for row in await tx.rows("SELECT seq FROM tawara_note ORDER BY seq")]

    await metadata.write(journals.forget, await metadata.read(numbers))
    marks = await metadata.read(rows.marked)
    assert [first // 1024 for _, first in marks] == [5000 // 1024, 9000 // 1024]
    counted = CountedRange.of(0, 9999, (), CLUSTER, counted_at=1)
    await metadata.write(rows.store, counted, [marks[0][0]])
    assert await metadata.read(rows.marked) == marks[1:]


async def test_the_files_of_some_devices(metadata: Metadata) -> None:
    """Each file with a replica on one of these devices is returned once, with all of its devices; none if they are too
    many."""
    await metadata.write(fill)
    found = await metadata.read_long(rows.touched, [1, 10])
    assert found is not None
    assert sorted(found) == [
        (2, PlacementGroup(1, 0, (1, 2), 1, 20)),
        (4, PlacementGroup(1, 0, (1, 2), 1, 40)),
        (6, PlacementGroup(1, 0, (1, 2), 1, 60)),
        (9, PlacementGroup(2, 1, (2, 10), 1, 90)),
    ]
    assert await metadata.read_long(rows.touched, [1, 10], limit=3) is None
    assert await metadata.read_long(rows.touched, []) == []


async def test_one_process_counts_at_a_time(metadata: Metadata, opener: Opener) -> None:
    """Of several processes one may count; when it has finished, or its lease has expired, the next one may."""
    other = await opener()
    begun = await asyncio.gather(*(each.write(rows.begin, now=100, lease=60) for each in (metadata, other) * 4))
    assert sorted(begun) == [False] * 7 + [True]
    await metadata.write(rows.keep_tick, now=150, lease=60)
    assert not await other.write(rows.begin, now=209, lease=60)
    assert await other.write(rows.begin, now=210, lease=60)
    await metadata.write(rows.finish, at=211)
    assert await other.write(rows.begin, now=212, lease=60)
    await metadata.write(rows.release)
    assert await other.write(rows.begin, now=213, lease=60)
    assert await other.write(rows.begin, now=3, lease=60), "a turn that is far off was taken by a clock that is wrong"


async def test_counting_on_demand(metadata: Metadata) -> None:
    """A cheap count is repeated for each request; an expensive one is taken from the stored counts unless requested."""
    await metadata.write(fill)
    counter = Counter(metadata, lambda: CLUSTER)
    assert (await counter.counts()).groups == GROUPS
    dear = CountedRange(0, 9, 1, 5.0, 99, (PlacementGroup(1, 0, (1,), 99, 99),))
    await metadata.write(rows.replace_all, PlacementCounts(1, 5.0, (dear,)))
    assert (await Counter(metadata, lambda: CLUSTER).counts()).groups == dear.groups
    assert (await Counter(metadata, lambda: CLUSTER).counts(recount=True)).groups == GROUPS, "however long that takes"
    assert (await Counter(metadata, lambda: CLUSTER).counts()).groups == GROUPS, "and what was counted is kept"


async def test_a_recount_does_not_delay_others(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all files are recounted for one request, others get the stored counts."""
    await metadata.write(fill)
    dear = CountedRange(0, 9, 1, 5.0, 99, (PlacementGroup(1, 0, (1,), 99, 99),))
    await metadata.write(rows.replace_all, PlacementCounts(1, 5.0, (dear,)))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(*args: object, **options: object) -> AsyncIterator[CountedRange]:
        begun.set()
        await go_on.wait()
        yield CountedRange.of(0, 9, GROUPS, CLUSTER, counted_at=2)

    monkeypatch.setattr("tawara.metadata.counting.count_all", slowly)
    counter = Counter(metadata, lambda: CLUSTER)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        recount = group.create_task(counter.counts(recount=True))
        await begun.wait()
        assert (await counter.counts()).groups == dear.groups
        go_on.set()
        assert (await recount).groups == GROUPS


async def test_a_large_store_that_was_never_counted(metadata: Metadata) -> None:
    """Until the first count is complete, the result has what was counted so far, and says so."""
    await metadata.write(fill)
    await metadata.write(rows.store, CountedRange.of(0, 9, GROUPS, CLUSTER, counted_at=7))
    counter = Counter(metadata, lambda: CLUSTER)
    counter.SMALL = 5
    found = await counter.counts()
    assert (found.complete, found.at, found.files) == (False, 7, 9)


async def test_the_files_on_some_devices(metadata: Metadata) -> None:
    """If the groups of all files are too many, those of the files on some devices are returned, page by page."""
    await metadata.write(fill)
    counter = Counter(metadata, lambda: CLUSTER)
    assert await counter.about([1, 10]) == (
        PlacementGroup(1, 0, (1, 2), 3, 20 + 40 + 60),
        PlacementGroup(2, 1, (2, 10), 1, 90),
    )
    counter.MOST_EXAMINED = 3
    assert await counter.about([10, 1]) == await counter.about([1, 10]), "kept for the next page"
    with pytest.raises(TooManyFiles):
        await counter.about([1, 2, 3])


async def test_devices_that_have_changed_since(metadata: Metadata) -> None:
    """Figures evaluated with other states of the devices are corrected by the files of those that changed."""
    await metadata.write(fill)
    judged = CountedRange.of(0, 9, GROUPS, CLUSTER, counted_at=1, took=9.0, most=0)
    await metadata.write(rows.replace_all, PlacementCounts(1, 9.0, (judged,)))
    gone = {devid: seen for devid, seen in CLUSTER.observed.items() if devid != 2}
    counter = Counter(metadata, lambda: CLUSTER.with_observations(gone))
    counter.AT_ONCE = 0.0
    safety, uncounted = await counter.safety(await counter.counts())
    assert (safety, uncounted) == (judge(CLUSTER, GROUPS), 1), "at once as it was, with a word"
    counter.AT_ONCE = 60.0
    safety, uncounted = await counter.safety(await counter.counts())
    assert uncounted == 0
    assert safety == judge(CLUSTER.with_observations(gone), GROUPS)
    assert safety.unreadable.files == 1


async def test_what_waits_in_the_queues(metadata: Metadata) -> None:
    """Due, deferred, and stuck rows are distinguished, with the time since when the first is due."""
    await metadata.write(cluster.create_domain, "d")
    fid = await metadata.write(files.open_upload, dmid=1, key=b"k", classid=0, devids=(1,), now=100)
    await metadata.write(
        files.close_upload, NewFile(fid=fid, dmid=1, key=b"k", classid=0, length=1, devids=(1,)), now=110
    )
    await metadata.write(files.open_upload, dmid=1, key=b"other", classid=0, devids=(1,), now=120)
    for number, nexttry in ((50, 500), (51, 2000), (52, END_OF_TIME)):
        await metadata.write(queues.enqueue_replication, number, nexttry=nexttry)
        await metadata.write(queues.enqueue_deletion, number, nexttry)
    await metadata.write(queues.enqueue_tasks, TaskType.CHECK, [(n, None, "") for n in (60, 61, 62)], now=900)
    await metadata.write(queues.enqueue_tasks, TaskType.MOVE, [(60, 1, "2")], now=1001)
    await metadata.write(replicas.reserve_copy, fid, 2, now=1000)
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
    """A process replaces its earlier record, marks it as ended, and it is removed after a week."""
    await metadata.write(
        pace.record, "a", [WorkPace("replicate", 1, 0, 0.5, 1.25), WorkPace("delete", 2, 1, 0, 0)], now=1000
    )
    await metadata.write(pace.record, "b", [WorkPace("replicate", 7, 0, 3, 4)], now=1001)
    await metadata.write(pace.record, "a", [WorkPace("replicate", 9, 2, 8.125, 10)], now=1010)

    async def known() -> dict[tuple[str, str], WorkPace]:
        return {(each.process, each.work): each for each in await metadata.read(pace.load)}

    assert await known() == {
        ("a", "replicate"): WorkPace("replicate", 9, 2, 8.125, 10.0, "a", 1010),
        ("a", "delete"): WorkPace("delete", 2, 1, 0.0, 0.0, "a", 1000),
        ("b", "replicate"): WorkPace("replicate", 7, 0, 3.0, 4.0, "b", 1001),
    }
    await metadata.write(pace.record_end, "a", now=1020)
    retired = (await known())["a", "replicate"]
    assert (retired.rate, retired.pace, retired.recorded_at) == (0, 10.0, 1020 - STOPPED_AFTER)
    await metadata.write(pace.record, "b", [WorkPace("replicate", 8, 0, 3, 4)], now=1020 + pace.REMOVED_AFTER)
    assert {process for process, _ in await known()} == {"b"}
