"""Copy reservations: renewed while their status is known, otherwise expired and cleaned up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tawara.metadata import files, queues, replicas
from tawara.metadata.contract import Transaction
from tawara.model.errors import Db, NodeUnreachable
from tawara.workers.copying import DestinationFailed, SourceFailed
from tawara.workers.replicate_files import ReplicateFiles
from tests.unit.workers.replicate_fixture import SMALL_FILE, do_all, worker
from tests.unit.workers.workers_fixture import workers_fixture


async def test_an_expired_copy_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose reservation expired does not record its copy and leaves no bytes."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        put = fixture.nodes.put

        async def put_and_be_swept(*args: object, **kwargs: object) -> None:
            await put(*args, **kwargs)  # type: ignore[arg-type] # passed through
            await fixture.metadata.write(replicas.cancel_copy, fid, 2)

        monkeypatch.setattr(fixture.nodes, "put", put_and_be_swept)
        assert await do_all(fixture) is not None
        assert fixture.on_disk() == {fid: {1}}
        assert await fixture.devids(fid) == {1}


async def test_another_workers_copy_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stalled until its reservation expired, and then fails, does not delete newer bytes."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        put = fixture.nodes.put

        async def stall_and_fail(url: str, *args: object, **kwargs: object) -> None:
            later = int(time.time()) + 1000
            for swept in await fixture.metadata.write(replicas.claim_abandoned_copies, now=later):
                assert await fixture.metadata.write(replicas.end_reservation, swept)
                assert await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=later)
                await put(url, SMALL_FILE, length=len(SMALL_FILE))
                await fixture.metadata.write(replicas.record_copy, fid, 2, now=later)
            raise NodeUnreachable(url)

        monkeypatch.setattr(fixture.nodes, "put", stall_and_fail)
        slow = ReplicateFiles(
            fixture.metadata, fixture.view, fixture.nodes, delete_wakeup=fixture.wakeups.delete, lease=0
        )
        (item,) = await slow.take(1)
        await slow.work(item)
        assert fixture.on_disk() == {fid: {1, 2}}
        assert await fixture.devids(fid) == {1, 2}


async def test_a_partial_copy_of_another_source_may_arrive_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When one source broke off, the reservation is kept although nothing was sent from the next source."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        classid = await fixture.new_class("three", 3, "MultipleHosts()")
        fid = await fixture.store(b"key", SMALL_FILE, 1, 2, classid=classid)
        tried = 0

        async def break_off_then_refuse(*_: object, **__: object) -> None:
            nonlocal tried
            tried += 1
            if tried == 1:
                raise SourceFailed("broke off")
            failure = DestinationFailed("refused")
            failure.nothing_sent = True
            raise failure

        monkeypatch.setattr("tawara.workers.copier.copy", break_off_then_refuse)
        await do_all(fixture)
        assert tried == 2
        now = int(time.time())
        assert not await fixture.metadata.write(replicas.reserve_copy, fid, 3, now=now)


async def test_a_reservation_of_unknown_status_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database fails while a copy is recorded, its reservation is not renewed and expires."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await fixture.store(b"key", SMALL_FILE, 1)

        async def lost(*_: object, **__: object) -> None:
            raise Db

        async def leases(tx: Transaction) -> list[tuple[object, ...]]:
            return await tx.rows("SELECT fid, devid, lease FROM tawara_copy")

        monkeypatch.setattr("tawara.workers.copier._record", lost)
        replicate = worker(fixture)
        (item,) = await replicate.take(1)
        with pytest.raises(Db):
            await replicate.work(item)
        held = await fixture.metadata.read(leases)
        assert len(held) == 1
        await replicate.renew([item])
        assert await fixture.metadata.read(leases) == held


async def test_bytes_that_cannot_be_deleted_are_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a device fails during a copy the reservation stays until the bytes can be deleted."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)

        async def gone(url: str, *_: object, **__: object) -> bool:
            raise NodeUnreachable(url)

        with monkeypatch.context() as patch:
            patch.setattr(fixture.nodes, "put", gone)
            patch.setattr(fixture.nodes, "delete", gone)
            assert await do_all(fixture) is not None
        later = int(time.time()) + 1000
        assert await fixture.metadata.write(replicas.claim_abandoned_copies, now=later) == [
            (fid, 2, -later - queues.LEASE)
        ]


async def test_other_content_at_the_destination_stays(tmp_path: Path) -> None:
    """A device with other content under the fid keeps it, gets no replica, and its reservation ends."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        await fixture.nodes.put(fixture.url(2, fid), b"of another store", length=16)
        assert await do_all(fixture) is not None
        assert fixture.place(2, fid).read_bytes() == b"of another store"
        assert await fixture.devids(fid) == {1}
        assert await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=int(time.time()))


async def test_a_bad_replica_is_replaced(tmp_path: Path) -> None:
    """A repair replaces bytes that a check has found wrong, with the header that permits it."""

    async def log_bad_bytes(tx: Transaction) -> None:
        row = "INSERT INTO fsck_log (utime, fid, evcode, devid) VALUES (1, ?, 'BSUM', 2)"
        await tx.run(row, fid)

    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        await fixture.nodes.put(fixture.url(2, fid), b"rotten", length=6)
        await fixture.metadata.write(log_bad_bytes)
        assert await do_all(fixture) is None
        assert fixture.place(2, fid).read_bytes() == SMALL_FILE
        assert await fixture.devids(fid) == {1, 2}


async def test_a_file_deleted_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of a file that is deleted meanwhile is deleted, and nothing is left to replicate or to be deferred."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        put, puts = fixture.nodes.put, list[object]()

        async def put_and_delete(url: str, *args: object, **kwargs: object) -> None:
            await put(url, *args, **kwargs)  # type: ignore[arg-type] # passed through
            puts.append(url)
            if len(puts) == 1:
                await fixture.metadata.write(files.delete, fixture.dmid, b"key", now=int(time.time()))

        monkeypatch.setattr(fixture.nodes, "put", put_and_delete)
        assert await do_all(fixture) is None
        assert len(puts) == 1
        assert fixture.on_disk() == {fid: {1}}
        assert await fixture.metadata.read(queues.next_replication) is None
        assert await fixture.metadata.read(queues.next_deletion) is not None
