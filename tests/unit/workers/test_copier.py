"""The places that copies are made at: held while it is known what becomes of them, and else swept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tawara.metadata import queues, replicas
from tawara.metadata.contract import Transaction
from tawara.model.errors import Db, NodeUnreachable
from tawara.workers.copying import DestinationFailed, SourceFailed
from tawara.workers.replicate import Replicate
from tests.unit.workers.house import house
from tests.unit.workers.replicating import SMALL_FILE, do_all, worker


async def test_a_swept_copy_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was so slow that its copy was swept does not believe in it, and leaves no bytes."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        put = home.nodes.put

        async def put_and_be_swept(*args: object, **kwargs: object) -> None:
            await put(*args, **kwargs)  # type: ignore[arg-type] # passed through
            await home.metadata.write(replicas.retract_copy, fid, 2)

        monkeypatch.setattr(home.nodes, "put", put_and_be_swept)
        assert await do_all(home) is not None
        assert home.on_disk() == {fid: {1}}
        assert await home.devids(fid) == {1}


async def test_another_workers_copy_at_the_same_place_is_not_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stalled until its copy was swept, and then fails, does not delete what was put there since."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        put = home.nodes.put

        async def stall_and_fail(url: str, *args: object, **kwargs: object) -> None:
            later = int(time.time()) + 1000
            for swept in await home.metadata.write(replicas.claim_abandoned_copies, now=later):
                assert await home.metadata.write(replicas.end_announcement, swept)
                assert await home.metadata.write(replicas.announce_copy, fid, 2, now=later)
                await put(url, SMALL_FILE, length=len(SMALL_FILE))
                await home.metadata.write(replicas.record_copy, fid, 2, now=later)
            raise NodeUnreachable(url)

        monkeypatch.setattr(home.nodes, "put", stall_and_fail)
        slow = Replicate(home.metadata, home.view, home.nodes, delete_bell=home.bells.delete, lease=0)
        (item,) = await slow.take(1)
        await slow.work(item)
        assert home.on_disk() == {fid: {1, 2}}
        assert await home.devids(fid) == {1, 2}


async def test_half_a_copy_of_another_source_may_come_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one source broke off in the midst, a place is held, though with the next source nobody was met there."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        classid = await home.new_class("three", 3, "MultipleHosts()")
        fid = await home.store(b"key", SMALL_FILE, 1, 2, classid=classid)
        tried = 0

        async def break_off_then_meet_nobody(*_: object, **__: object) -> None:
            nonlocal tried
            tried += 1
            if tried == 1:
                raise SourceFailed("broke off")
            failure = DestinationFailed("refused")
            failure.nothing_sent = True
            raise failure

        monkeypatch.setattr("tawara.workers.copier.copy", break_off_then_meet_nobody)
        await do_all(home)
        assert tried == 2
        now = int(time.time())
        assert not await home.metadata.write(replicas.announce_copy, fid, 3, now=now)


async def test_a_place_is_not_held_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database went while a copy was recorded, its place is not renewed with others, and so is swept."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        await home.store(b"key", SMALL_FILE, 1)

        async def lost(*_: object, **__: object) -> None:
            raise Db

        async def leases(tx: Transaction) -> list[tuple[object, ...]]:
            return await tx.rows("SELECT fid, devid, lease FROM tawara_copy")

        monkeypatch.setattr("tawara.workers.copier._record", lost)
        replicate = worker(home)
        (item,) = await replicate.take(1)
        with pytest.raises(Db):
            await replicate.work(item)
        held = await home.metadata.read(leases)
        assert len(held) == 1
        await replicate.renew([item])
        assert await home.metadata.read(leases) == held


async def test_bytes_that_cannot_be_withdrawn_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a device fails in the middle of a copy the announcement stays, until someone could delete the bytes."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)

        async def gone(url: str, *_: object, **__: object) -> bool:
            raise NodeUnreachable(url)

        with monkeypatch.context() as patch:
            patch.setattr(home.nodes, "put", gone)
            patch.setattr(home.nodes, "delete", gone)
            assert await do_all(home) is not None
        later = int(time.time()) + 1000
        assert await home.metadata.write(replicas.claim_abandoned_copies, now=later) == [
            (fid, 2, -later - queues.LEASE)
        ]


async def test_other_content_at_the_destination_stays(tmp_path: Path) -> None:
    """A device that holds other content under the fid keeps it, gets no replica, and its place is free again."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        await home.nodes.put(home.url(2, fid), b"of another store", length=16)
        assert await do_all(home) is not None
        assert home.place(2, fid).read_bytes() == b"of another store"
        assert await home.devids(fid) == {1}
        assert await home.metadata.write(replicas.announce_copy, fid, 2, now=int(time.time()))


async def test_what_a_check_found_bad_is_replaced(tmp_path: Path) -> None:
    """A repair replaces bytes that a check has found to be wrong, and says so to the storage node."""

    async def log_bad_bytes(tx: Transaction) -> None:
        row = "INSERT INTO fsck_log (utime, fid, evcode, devid) VALUES (1, ?, 'BSUM', 2)"
        await tx.run(row, fid)

    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        await home.nodes.put(home.url(2, fid), b"rotten", length=6)
        await home.metadata.write(log_bad_bytes)
        assert await do_all(home) is None
        assert home.place(2, fid).read_bytes() == SMALL_FILE
        assert await home.devids(fid) == {1, 2}
