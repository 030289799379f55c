"""The worker that maintains the placement counts: it recounts what has changed, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tawara.metadata import files, journals, replicas
from tawara.metadata import placement_counts as rows
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.counting import Counter, count_all
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.model.cluster import Cluster
from tawara.model.files import NewFile
from tawara.workers.update_placement_counts import LEASE, UpdatePlacementCounts


@pytest.fixture
async def metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Metadata]:
    """An empty database, with ranges of five files or a few more."""
    monkeypatch.setattr("tawara.metadata.placement_counts.RANGE", 5)
    monkeypatch.setattr("tawara.metadata.placement_counts._CHUNK", 1)
    monkeypatch.setattr("tawara.metadata.placement_counts.SLICE", 2)
    opened = SqliteMetadata.open(tmp_path / "tawara.db")
    yield opened
    await opened.close()


async def store(metadata: Metadata, key: bytes, *devids: int) -> int:
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=devids, now=1)
    await metadata.write(
        files.close_upload, NewFile(fid=fid, dmid=1, key=key, classid=0, length=3, devids=devids), now=2
    )
    return fid


async def forget_notes(metadata: Metadata) -> None:
    """Do what the journal writer does when it has written all changes."""

    async def all_notes(tx: Transaction) -> list[int]:
        return [row[0] for row in await tx.rows("SELECT seq FROM tawara_note")]

    await metadata.write(journals.forget, await metadata.read(all_notes))


async def _age(tx: Transaction) -> None:
    """Make all counts a little older, to see which are recounted."""
    await tx.run("UPDATE tawara_placement SET counted_at = counted_at - 60 WHERE counted_at > 0")


async def counted(metadata: Metadata) -> set[int]:
    """The ends of the ranges that a worker counts now."""
    before = {each.up_to: each.counted_at for each in await metadata.read(rows.outline)}
    worker = UpdatePlacementCounts(metadata, ClusterView(metadata), period=0)
    items = await worker.take(1)
    assert items, "it is time"
    for item in items:
        await worker.work(item)
    after = {each.up_to: each.counted_at for each in await metadata.read(rows.outline)}
    await metadata.write(_age)
    return {up_to for up_to, at in after.items() if before.get(up_to) != at}


async def exact(metadata: Metadata) -> bool:
    """Whether the stored counts are those of all files, range by range without a gap."""
    found = await metadata.read(rows.load, [each.up_to for each in await metadata.read(rows.outline)])
    assert [each.after for each in found] == [0, *(each.up_to for each in found[:-1])][: len(found)]
    kept = Counter(metadata, Cluster)
    truth = [each async for each in count_all(metadata, Cluster())]
    stored = await kept._stored()
    return stored.groups == type(stored)(0, 0, tuple(truth)).groups


async def test_only_what_has_changed_is_counted(metadata: Metadata) -> None:
    """After any change of a file its range is recounted, and no other."""
    fids = [await store(metadata, b"k%02d" % number, 1, 2) for number in range(20)]
    await forget_notes(metadata)
    assert await counted(metadata) == {fids[5], fids[11], fids[17], fids[19]}
    assert await exact(metadata)
    assert await counted(metadata) == set()
    await metadata.write(files.delete, 1, b"k07", now=3)
    await metadata.write(replicas.drop_replica, fids[1], 2)
    assert await counted(metadata) == set(), "nothing is marked before the journals are done with it"
    await forget_notes(metadata)
    assert await counted(metadata) == {fids[5], fids[11]}
    assert await exact(metadata)
    await metadata.write(files.set_class, 1, b"k13", 1)
    await forget_notes(metadata)
    assert await counted(metadata) == {fids[17]}
    more = await store(metadata, b"more", 3)
    assert await counted(metadata) == {more}, "what is new is counted with the last range, mark or no mark"
    await forget_notes(metadata)
    await counted(metadata)
    assert await exact(metadata)


async def test_deletion_of_the_last_files(metadata: Metadata) -> None:
    """When the last files are deleted, the counts follow, and files stored later are counted."""
    for number in range(8):
        await store(metadata, b"k%d" % number, 1)
    await forget_notes(metadata)
    await counted(metadata)
    for number in range(4, 8):
        await metadata.write(files.delete, 1, b"k%d" % number, now=3)
    await forget_notes(metadata)
    await counted(metadata)
    assert await exact(metadata)
    for number in range(4):
        await metadata.write(files.delete, 1, b"k%d" % number, now=3)
    await forget_notes(metadata)
    await counted(metadata)
    assert await exact(metadata)
    await store(metadata, b"new", 1)
    await forget_notes(metadata)
    await counted(metadata)
    assert await exact(metadata)
    assert await metadata.read(rows.marked) == []


async def test_unmarked_changes_are_found_in_time(metadata: Metadata) -> None:
    """A file that a mogilefsd changes leaves no mark; its range is counted when it is old."""
    for number in range(12):
        await store(metadata, b"k%d" % number, 1)
    await forget_notes(metadata)
    await counted(metadata)

    async def change(tx: Transaction) -> None:
        await tx.run("DELETE FROM file_on WHERE fid = 2")

    await metadata.write(change)
    assert await counted(metadata) == set()
    worker = UpdatePlacementCounts(metadata, ClusterView(metadata), period=0, max_age=30)
    for item in await worker.take(1):
        await worker.work(item)
    assert await exact(metadata)


async def test_an_interrupted_pass_continues(metadata: Metadata) -> None:
    """Each range is stored when it is counted: the next worker starts after the stored ones."""
    for number in range(14):
        await store(metadata, b"k%02d" % number, 1)
    first = await anext(count_all(metadata, Cluster()))
    assert await metadata.write(rows.store, first)
    assert await metadata.read(rows.counted_at) is None
    await counted(metadata)
    assert await exact(metadata)


async def test_a_concurrent_complete_count(metadata: Metadata) -> None:
    """A range that does not fit the others any more, because all files were recounted, is not stored."""
    for number in range(20):
        await store(metadata, b"k%02d" % number, 1)
    ranges = [each async for each in count_all(metadata, Cluster())]
    await metadata.write(rows.replace_all, await Counter(metadata, Cluster).counts(recount=True))
    late = type(ranges[1])(3, 9, 1, 0.1, 6, ())
    assert not await metadata.write(rows.store, late)
    assert await exact(metadata)


async def test_recent_ranges_are_not_recounted(metadata: Metadata) -> None:
    """Ranges that any process has just counted are not recounted before they are due."""
    worker = UpdatePlacementCounts(metadata, ClusterView(metadata), period=3600)
    (item,) = await worker.take(1)
    await worker.work(item)
    await store(metadata, b"a", 1)
    assert await worker.take(1) == []
    assert await UpdatePlacementCounts(metadata, ClusterView(metadata), period=3600).take(1) == []


async def test_one_process_counts(metadata: Metadata) -> None:
    """Only one process counts at a time."""
    assert await metadata.write(rows.begin, now=10**9, lease=LEASE)
    worker = UpdatePlacementCounts(metadata, ClusterView(metadata), period=0)
    assert len(await worker.take(1)) == 1, "that turn is long over"
    assert await UpdatePlacementCounts(metadata, ClusterView(metadata), period=0).take(1) == []
