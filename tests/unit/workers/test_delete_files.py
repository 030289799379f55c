"""DeleteFiles, CleanupOrphans and ReapDead with real storage nodes and a real database."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tawara.metadata import diagnosis, files, queues, replicas
from tawara.metadata.contract import Transaction
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import DeviceState
from tawara.model.errors import NodeUnreachable
from tawara.workers.cleanup_orphans import CleanupOrphans
from tawara.workers.delete_files import DeleteFiles
from tawara.workers.reap_dead import GRACE, ReapDead
from tests.unit.workers.workers_fixture import WorkersFixture, set_state, workers_fixture

CONTENT = b"a bale of rice"


async def delete_due(fixture: WorkersFixture) -> float | None:
    """Do the due deletions. Returns the time to which the last was deferred."""
    worker, until = DeleteFiles(fixture.metadata, fixture.view, fixture.nodes), None
    for item in await worker.take(100):
        until = await worker.work(item)
    return until


async def store_and_delete(fixture: WorkersFixture, *devids: int) -> int:
    fid = await fixture.store(b"key", CONTENT, *devids)
    await fixture.metadata.write(files.delete, fixture.dmid, b"key", now=int(time.time()))
    return fid


async def test_all_data_is_deleted(tmp_path: Path) -> None:
    """A deleted file leaves no data on any device, and no row in any queue."""
    async with workers_fixture(tmp_path, {"h1": [1, 2], "h2": [3]}) as fixture:
        await store_and_delete(fixture, 1, 2, 3)
        assert await delete_due(fixture) is None
        assert fixture.on_disk() == {}
        assert await fixture.metadata.read(queues.backlog) == {"replicate": 0, "delete": 0, "uploads": 0}


async def test_a_missing_replica_counts_as_deleted(tmp_path: Path) -> None:
    """A replica that is missing on its device does not prevent the end of the deletion."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await store_and_delete(fixture, 1, 2)
        fixture.place(1, fid).unlink()
        assert await delete_due(fixture) is None
        assert fixture.on_disk() == {}


@pytest.mark.parametrize(
    ("state", "pause"), [(DeviceState.READONLY, 3600), (DeviceState.DOWN, 3600), (DeviceState.DEAD, None)]
)
async def test_devices_that_do_not_allow_deletions(tmp_path: Path, state: DeviceState, pause: int | None) -> None:
    """Deletions on read-only and down devices are deferred, on a dead one they are not; the other replicas are deleted
    at once (docs/mogilefs.md 11.1)."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await store_and_delete(fixture, 1, 2)
        await set_state(fixture, 2, state)
        until = await delete_due(fixture)
        assert fixture.on_disk() == {fid: {2}}
        if pause is None:
            assert until is None
        else:
            assert until is not None
            assert until - time.time() == pytest.approx(pause, abs=3)
            assert await fixture.metadata.read(replicas.devices_of, fid) == (2,)


async def test_a_row_of_an_unknown_device_is_dropped(tmp_path: Path) -> None:
    """A row of a device that does not exist does not stay in the queue indefinitely, as it did in MogileFS
    (docs/mogilefs.md 11.1)."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1)
        await fixture.metadata.write(replicas.reserve_copy, fid, 77, now=1)
        await fixture.metadata.write(replicas.record_copy, fid, 77, now=1)
        await fixture.metadata.write(files.delete, fixture.dmid, b"key", now=1)
        assert await delete_due(fixture) is None
        assert await fixture.metadata.read(queues.next_deletion) is None


async def test_a_node_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a node does not delete, the deletion is deferred, longer each time, and the row is kept."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        fid = await store_and_delete(fixture, 1)

        async def refuse(url: str) -> bool:
            raise NodeUnreachable(url)

        monkeypatch.setattr(fixture.nodes, "delete", refuse)
        until = await delete_due(fixture)
        assert until is not None
        assert until - time.time() == pytest.approx(60, abs=3)
        assert await fixture.metadata.read(replicas.devices_of, fid) == (1,)


async def test_a_device_that_is_not_writeable_now(tmp_path: Path) -> None:
    """A device that is not observed as writeable is retried in ten minutes; the other replicas are deleted."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await store_and_delete(fixture, 1, 2)
        await fixture.storage["h2"].stop()
        await fixture.view.renew()
        until = await delete_due(fixture)
        assert until is not None
        assert until - time.time() == pytest.approx(600, abs=3)
        assert fixture.on_disk() == {fid: {2}}
        assert await fixture.metadata.read(replicas.devices_of, fid) == (2,)


async def test_a_named_file_is_never_deleted(tmp_path: Path) -> None:
    """A fid that a key refers to is kept although it is queued for deletion."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1)
        await fixture.metadata.write(queues.enqueue_deletion, fid, 1)
        await delete_due(fixture)
        assert fixture.on_disk() == {fid: {1}}
        assert await fixture.metadata.read(queues.next_deletion) is None
        assert await fixture.devids(fid) == {1}


async def test_a_copy_under_way_is_waited_for(tmp_path: Path) -> None:
    """While a copy is reserved the deletion does not end, and is soon retried."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await store_and_delete(fixture, 1)
        await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=int(time.time()))
        until = await delete_due(fixture)
        assert until is not None
        assert until - time.time() < 15
        case = await fixture.metadata.read(diagnosis.case_of_fid, fid, name="", now=int(time.time()))
        assert case.deletion is not None
        assert (case.deletion.failcount, case.failures) == (0, {}), "waiting for a copy is no failure"
        await fixture.metadata.write(replicas.cancel_copy, fid, 2)
        await fixture.metadata.write(queues.retry_deletion, fid, int(time.time()))
        assert await delete_due(fixture) is None
        assert fixture.on_disk() == {}
        assert (await fixture.metadata.read(queues.backlog))["delete"] == 0


# --- the sweeper ------------------------------------------------------------------------------------------------------


async def sweep(fixture: WorkersFixture, *, upload_open: int = 3600) -> None:
    worker = CleanupOrphans(fixture.metadata, fixture.view, fixture.nodes, wakeups=Wakeups(), upload_open=upload_open)
    for item in await worker.take(100):
        await worker.work(item)


async def test_expired_uploads_are_deleted(tmp_path: Path) -> None:
    """The data of an upload that was opened too long ago is deleted from its devices (docs/mogilefs.md 11.2)."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        now = int(time.time())
        old, new = [
            await fixture.metadata.write(
                files.open_upload, dmid=fixture.dmid, key=b"key", classid=0, devids=(1, 2), now=opened
            )
            for opened in (now - 4000, now)
        ]
        for fid in (old, new):
            await fixture.nodes.put(fixture.url(1, fid), CONTENT, length=len(CONTENT))
        await sweep(fixture)
        await delete_due(fixture)
        assert fixture.on_disk() == {new: {1}}


async def test_a_closed_upload_is_not_deleted(tmp_path: Path) -> None:
    """If a file's upload row is left, as MogileFS may leave it, only that row is deleted (docs/mogilefs.md 11.2)."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1)
        await fixture.metadata.write(_left_behind, fid)
        await sweep(fixture)
        await delete_due(fixture)
        assert fixture.on_disk() == {fid: {1}}
        assert await fixture.devids(fid) == {1}
        assert (await fixture.metadata.read(queues.backlog))["uploads"] == 0


async def _left_behind(tx: Transaction, fid: int) -> None:
    await tx.run(
        "INSERT INTO tempfile (fid, createtime, classid, dmid, dkey, devids) VALUES (?, 1, 0, 1, 'key', '1,2')", fid
    )


async def test_abandoned_copies_are_deleted(tmp_path: Path) -> None:
    """The data of a copy whose worker died is deleted when its lease expires, and the reservation ends."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1)
        now = int(time.time())
        await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=now - 100, lease=60)
        await fixture.nodes.put(fixture.url(2, fid), CONTENT, length=len(CONTENT))
        await sweep(fixture)
        assert fixture.on_disk() == {fid: {1}}
        assert await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=now)


async def test_a_stalled_sweeper_deletes_nothing(tmp_path: Path) -> None:
    """A worker whose claim expired deletes nothing; one whose claim is renewed does."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1)
        await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=1, lease=60)
        await fixture.nodes.put(fixture.url(2, fid), CONTENT, length=len(CONTENT))
        worker = CleanupOrphans(fixture.metadata, fixture.view, fixture.nodes, wakeups=Wakeups(), upload_open=3600)
        (item,) = await worker.take(9)
        claim, item.claim = item.claim, item.claim._replace(lease=-int(time.time()) - 1)
        await worker.work(item)
        assert fixture.on_disk() == {fid: {1, 2}}
        item.claim = claim
        await worker.renew([item])
        await worker.work(item)
        assert fixture.on_disk() == {fid: {1}}


async def test_an_abandoned_copy_on_a_silent_node_is_retried_soon(tmp_path: Path) -> None:
    """Its data is deleted within a minute of the node's return; until then nothing is copied there."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1)
        now = int(time.time())
        await fixture.metadata.write(replicas.record_orphan, fid, 2, now=now)
        await fixture.storage["h2"].stop()
        await sweep(fixture)
        assert not await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=now)
        assert await fixture.metadata.write(replicas.claim_abandoned_copies, now=now) == []
        claims = await fixture.metadata.write(replicas.claim_abandoned_copies, now=now + 60)
        assert [each[:2] for each in claims] == [(fid, 2)]


async def test_copies_in_progress_are_kept(tmp_path: Path) -> None:
    """A copy whose lease runs is left alone."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1)
        await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=int(time.time()), lease=60)
        await fixture.nodes.put(fixture.url(2, fid), CONTENT, length=len(CONTENT))
        await sweep(fixture)
        assert fixture.on_disk() == {fid: {1, 2}}


# --- the reaper -------------------------------------------------------------------------------------------------------


async def test_a_dead_device_is_emptied(tmp_path: Path) -> None:
    """The replicas of a device marked dead are dropped, and their files queued for replication (docs/mogilefs.md
    11.3)."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fids = [await fixture.store(b"%d" % number, CONTENT, 1, 2) for number in range(3)]
        await fixture.metadata.write(queues.replicate_now, now=1)
        for claim in await fixture.metadata.write(queues.claim_replications, limit=9, now=1):
            await fixture.metadata.write(queues.finish_replication, claim)
        reaper = ReapDead(fixture.metadata, fixture.view, replicate_wakeup=fixture.wakeups.replicate, grace=0)
        assert await reaper.take(10) == []
        await set_state(fixture, 2, DeviceState.DEAD)
        assert await reaper.take(10) == [2]
        await reaper.work(2)
        for fid in fids:
            assert await fixture.devids(fid) == {1}
        assert (await fixture.metadata.read(queues.backlog))["replicate"] == 3
        await reaper.work(2)
        due = await reaper.next_due()
        assert due is not None
        assert await reaper.take(10) == []


async def test_a_dead_device_is_left_alone_during_the_grace_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device is reaped only when it has been marked dead for the whole grace period."""
    seconds = 1000.0
    monkeypatch.setattr("tawara.workers.reap_dead.clock", SimpleNamespace(steady=lambda: seconds))
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        reaper = ReapDead(fixture.metadata, fixture.view, replicate_wakeup=fixture.wakeups.replicate)
        await set_state(fixture, 2, DeviceState.DEAD)
        assert await reaper.take(10) == []
        seconds += GRACE - 1
        assert await reaper.take(10) == []
        seconds += 1
        assert await reaper.take(10) == [2]


async def test_deletions_do_not_wait_for_a_dead_device(tmp_path: Path) -> None:
    """A deletion that was deferred because of a device continues when that device is marked dead and emptied."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await store_and_delete(fixture, 1, 2)
        await set_state(fixture, 2, DeviceState.DOWN)
        assert await delete_due(fixture) is not None
        await set_state(fixture, 2, DeviceState.DEAD)
        await fixture.metadata.write(replicas.empty_dead_device, 2, limit=10, now=int(time.time()))
        await delete_due(fixture)
        assert await fixture.metadata.read(queues.next_deletion) is None


async def test_a_device_brought_back_is_left_alone(tmp_path: Path) -> None:
    """A device that is not dead (any more) in the database keeps its replicas, whatever this process believes."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1, 2)
        assert await fixture.metadata.write(replicas.empty_dead_device, 2, limit=10, now=1) == 0
        assert await fixture.devids(fid) == {1, 2}
