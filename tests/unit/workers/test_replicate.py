"""The replicate worker against real storage nodes and a real database."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path

import pytest

from tawara.metadata import cluster as rows
from tawara.metadata import files, queues, replicas
from tawara.metadata.view import ClusterView
from tawara.model.cluster import Checksum, DeviceState, HashType
from tawara.model.limits import END_OF_TIME
from tawara.node.server import StorageNode
from tawara.workers.copying import SMALL, SourceFailed, copy
from tawara.workers.hasten import Hasten
from tawara.workers.service import Workers
from tests.unit.workers.house import eventually, house, set_state
from tests.unit.workers.replicating import SMALL_FILE, do_all, worker

LARGE_FILE = bytes(range(256)) * (3 * SMALL // 256) + b"and a bit"


@pytest.mark.parametrize("content", [b"", SMALL_FILE, LARGE_FILE])
async def test_copies_reach_the_class_count(tmp_path: Path, content: bytes) -> None:
    """A closed file is copied, byte for byte, to another host, and its row leaves the queue."""
    async with house(tmp_path, {"h1": [1, 2], "h2": [3]}) as home:
        fid = await home.store(b"key", content, 1)
        replicate = worker(home)
        for item in await replicate.take(1):
            await replicate.work(item)
        assert replicate.copied_bytes == len(content)
        assert await home.devids(fid) == {1, 3}
        assert home.place(3, fid).read_bytes() == content
        stored = await home.metadata.read(files.find_fid, fid)
        assert stored
        assert stored.devcount == 2
        assert await home.metadata.read(queues.next_replication) is None


@pytest.mark.parametrize("content", [SMALL_FILE, LARGE_FILE])
@pytest.mark.parametrize("hashtype", list(HashType))
async def test_a_missing_checksum_is_filled_in(tmp_path: Path, content: bytes, hashtype: HashType) -> None:
    """A class with a hash type has the checksum computed while the bytes pass (14)."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        classid = await home.new_class("hashed", 2, "MultipleHosts()", hashtype)
        fid = await home.store(b"key", content, 1, classid=classid)
        await do_all(home)
        stored = await home.metadata.read(files.find_fid, fid)
        assert stored
        assert stored.checksum == Checksum(hashtype, hashlib.new(hashtype.hashlib, content).digest())


@pytest.mark.parametrize("content", [SMALL_FILE, LARGE_FILE])
async def test_a_rotten_source_is_not_copied(tmp_path: Path, content: bytes) -> None:
    """A replica whose checksum is wrong is passed over for a good one, and never spread."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        classid = await home.new_class("three", 3, "MultipleHosts()")
        checksum = Checksum(HashType.MD5, hashlib.md5(content).digest())
        fid = await home.store(b"key", content, 1, 2, classid=classid, checksum=checksum)
        home.place(1, fid).write_bytes(b"X" + content[1:])
        await do_all(home)
        assert await home.devids(fid) == {1, 2, 3}
        assert home.place(3, fid).read_bytes() == content


@pytest.mark.parametrize("content", [SMALL_FILE, LARGE_FILE])
async def test_with_only_a_rotten_source_nothing_is_written(tmp_path: Path, content: bytes) -> None:
    """When the only replica is damaged no copy appears, not even for a moment, and the work is put off."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        checksum = Checksum(HashType.SHA1, hashlib.sha1(content).digest())
        fid = await home.store(b"key", content, 1, checksum=checksum)
        home.place(1, fid).write_bytes(b"X" + content[1:])
        with pytest.raises(SourceFailed):
            await copy(
                home.nodes, home.url(1, fid), home.url(2, fid),
                length=len(content), checksum=checksum, hashtype=None, verifies_md5=True,
            )  # fmt: skip
        assert not home.place(2, fid).exists()
        until = await do_all(home)
        assert until is not None
        assert until > time.time()
        assert await home.devids(fid) == {1}
        assert home.on_disk() == {fid: {1}}


async def test_a_shortened_source_is_not_copied(tmp_path: Path) -> None:
    """A replica of the wrong length is no source, checksum or not."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        for number, content in enumerate((SMALL_FILE, LARGE_FILE)):
            fid = await home.store(b"%d" % number, content, 1)
            home.place(1, fid).write_bytes(content[:-1])
            await do_all(home)
            assert await home.devids(fid) == {1}
            assert not home.place(2, fid).exists()


async def test_a_destination_that_fails_is_replaced(tmp_path: Path) -> None:
    """When the chosen device does not take the copy another one gets it, and no announcement is left behind."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        (tmp_path / "h2" / "dev2").rename(tmp_path / "pulled out")
        for _ in range(3):  # the policy chooses by chance
            await do_all(home)
            await home.metadata.write(queues.enqueue_replication, fid)
        assert await home.devids(fid) == {1, 3}


async def test_a_full_device_gets_nothing(tmp_path: Path) -> None:
    """A device with less room than the file, or than the store keeps free, is never chosen."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        await home.monitor.stop()
        free = home.view.current.devices[2].mb_free
        assert free is not None
        observed = home.view.current.observed
        home.view = ClusterView(home.metadata, min_free_mb=free + 1)
        await home.view.refresh()
        home.view.observe(observed)
        fid = await home.store(b"key", SMALL_FILE, 1)
        assert await do_all(home) is not None
        assert home.on_disk() == {fid: {1}}


async def test_no_replica_at_all_waits_for_a_person(tmp_path: Path) -> None:
    """A file without any replica is put off to the end of time (docs/mogilefs.md 10.6)."""
    async with house(tmp_path, {"h1": [1]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        await home.metadata.write(replicas.drop_replica, fid, 1)
        assert await do_all(home) == END_OF_TIME
        assert await home.metadata.read(queues.next_replication) == END_OF_TIME


async def test_sources_that_are_away_are_waited_for(tmp_path: Path) -> None:
    """When no replica can be read now the work is put off, by more each time (docs/mogilefs.md 10.6)."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        await set_state(home, 1, DeviceState.DOWN)
        first = await do_all(home)
        assert first is not None
        assert 10 <= first - time.time() <= 20
        await home.metadata.write(queues.replicate_now, now=1)
        second = await do_all(home)
        assert second is not None
        assert 45 <= second - time.time() <= 75
        await set_state(home, 1, DeviceState.ALIVE)
        await home.metadata.write(queues.replicate_now, now=1)
        await do_all(home)
        assert await home.devids(fid) == {1, 2}


async def test_a_device_that_returns_is_not_kept_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a device can be used again, what was put off for its sake is done now, not when its pause ends."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        await set_state(home, 2, DeviceState.DOWN)
        hasten = Hasten(home.metadata, home.view, home.bells)
        fid = await home.store(b"key", SMALL_FILE, 1)
        for _ in range(4):
            until = await do_all(home)
            await home.metadata.write(queues.replicate_now, now=1)
        assert until is not None
        await do_all(home)
        await set_state(home, 2, DeviceState.ALIVE)
        assert await worker(home).take(1) == []
        assert await hasten.take(1) == []  # it was missed a moment ago
        monkeypatch.setattr("tawara.workers.hasten.SETTLED", 0)
        for item in await hasten.take(1):
            await hasten.work(item)
        await do_all(home)
        assert await home.devids(fid) == {1, 2}
        assert await hasten.take(1) == []


async def test_an_absence_that_nobody_else_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that a process put off, and died, is done when another one sees the device well, which never saw it ill.

    And at once: where no connection could be made nothing was sent that might come late, so nobody's place it is.
    """
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        port = home.storage["h2"].http_address[1]
        await home.storage["h2"].stop()
        assert home.view.current.is_writeable(2)  # no monitor has noticed
        await do_all(home)
        assert await worker(home).take(1) == []
        home.storage["h2"] = StorageNode(tmp_path / "h2", http=("127.0.0.2", port), side_channel=None)
        await home.storage["h2"].start()
        try:
            await home.view.renew()
            other = Hasten(home.metadata, home.view, home.bells)
            monkeypatch.setattr("tawara.workers.hasten.SETTLED", 0)
            for item in await other.take(1):
                await other.work(item)
            await do_all(home)
            assert await home.devids(fid) == {1, 2}
        finally:
            await home.storage["h2"].stop()


async def test_surplus_is_trimmed(tmp_path: Path) -> None:
    """Of too many replicas those that the policy does not need go, from the disk as well."""
    async with house(tmp_path, {"h1": [1, 2], "h2": [3, 4]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1, 2, 3, 4)
        await do_all(home)
        left = await home.devids(fid)
        assert len(left) == 2
        assert {home.devices[devid] for devid in left} == {"h1", "h2"}
        assert home.on_disk() == {fid: left}
        assert await home.metadata.read(queues.next_replication) is None


async def test_surplus_is_kept_for_a_damaged_one(tmp_path: Path) -> None:
    """A replica of the wrong size does not count as one that would be left."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1, 2, 3)
        home.place(2, fid).write_bytes(b"short")
        await do_all(home)
        assert {1, 3} <= await home.devids(fid)


async def test_two_workers_never_trim_each_others_remaining_copy(tmp_path: Path) -> None:
    """A replica is only given up while the others are still those that were looked at."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1, 2, 3)
        all_of_them = frozenset({1, 2, 3})
        assert await home.metadata.write(replicas.retire_replica, fid, 1, among=all_of_them, now=1)
        assert not await home.metadata.write(replicas.retire_replica, fid, 3, among=all_of_them, now=1)
        assert await home.devids(fid) == {2, 3}


async def test_deleted_while_it_waited(tmp_path: Path) -> None:
    """A file that was deleted before its turn is nothing to do."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        await home.metadata.write(files.delete, home.dmid, b"key", now=1)
        assert await do_all(home) is None
        assert await home.metadata.read(queues.next_replication) is None
        assert home.on_disk() == {fid: {1}}


async def test_deleted_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of a file that is deleted meanwhile is deleted at once, and the deletion that waited for it is due."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        replicate = worker(home)
        put = home.nodes.put

        async def delete_then_put(*args: object, **kwargs: object) -> None:
            await home.metadata.write(files.delete, home.dmid, b"key", now=1)
            (claim,) = await home.metadata.write(queues.claim_deletions, limit=1, now=1)
            await home.metadata.write(replicas.drop_replica, fid, 1)
            assert not await home.metadata.write(queues.finish_deletion, claim)
            await put(*args, **kwargs)  # type: ignore[arg-type] # passed through

        monkeypatch.setattr(home.nodes, "put", delete_then_put)
        (item,) = await replicate.take(1)
        await replicate.work(item)
        assert await home.metadata.read(replicas.devices_of, fid) == ()
        assert home.on_disk() == {fid: {1}}  # as the deletion was only feigned
        (claim,) = await home.metadata.write(queues.claim_deletions, limit=1, now=int(time.time()))
        assert await home.metadata.write(queues.finish_deletion, claim)
        assert await replicate.next_due() is None


async def test_leases_are_renewed_and_given_back(tmp_path: Path) -> None:
    """A claim is renewed under the worker's hands; given back it is due at once for anyone."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        await home.store(b"key", SMALL_FILE, 1)
        replicate = worker(home)
        (item,) = await replicate.take(1)
        before = item.claim.nexttry
        await replicate.renew([item])
        assert item.claim.nexttry >= before
        assert await replicate.take(1) == []
        await replicate.release([item])
        assert len(await replicate.take(1)) == 1


async def test_the_most_endangered_go_first(tmp_path: Path) -> None:
    """Of what is claimed together a file with one replica goes before one with two."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        classid = await home.new_class("three", 3, "MultipleHosts()")
        await home.store(b"two", SMALL_FILE, 1, 2, classid=classid)
        endangered = await home.store(b"one", SMALL_FILE, 1, classid=classid)
        first, _ = await worker(home).take(10)
        assert first.claim.fid == endangered


async def test_the_most_endangered_go_first_across_the_queue(tmp_path: Path) -> None:
    """Of a dead device's files those without a second replica are claimed before those with one, in whatever batch."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        classid = await home.new_class("three", 3, "MultipleHosts()")
        for number in range(6):
            await home.store(b"safe %d" % number, SMALL_FILE, 1, 2, 3, classid=classid)
        endangered = await home.store(b"endangered", SMALL_FILE, 1, 3, classid=classid)
        for claim in await home.metadata.write(queues.claim_replications, limit=99, now=1):
            await home.metadata.write(queues.finish_replication, claim)
        await set_state(home, 3, DeviceState.DEAD)
        now = int(time.time())
        assert await home.metadata.write(replicas.empty_dead_device, 3, limit=100, now=now) == 7
        (first,) = await worker(home).take(1)
        assert first.claim.fid == endangered


async def test_a_rate_is_kept(tmp_path: Path) -> None:
    """With a limit of bytes a second, copies take as long as that."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        await home.metadata.write(rows.set_setting, "tawara_rate_replicate", "1m")
        await home.view.refresh()
        large = bytes(4 * 1024 * 1024)
        fid = await home.store(b"key", large, 1)
        began = time.monotonic()
        await do_all(home)
        assert time.monotonic() - began > 2.0
        assert home.on_disk() == {fid: {1, 2}}


async def test_the_only_worker_takes_over_at_once(tmp_path: Path) -> None:
    """After a crash, a worker that is alone neither waits for leases nor leaves half a copy in its way."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        now = int(time.time())
        await home.metadata.write(queues.claim_replications, limit=1, now=now, lease=60)
        await home.metadata.write(replicas.announce_copy, fid, 2, now=now)
        await home.nodes.put(home.url(2, fid), b"half of it", length=10)
        workers = Workers(home.metadata, home.view, home.nodes, home.bells, alone=True)
        await workers.start()
        await eventually(lambda: home.on_disk() == {fid: {1, 2}} and home.place(2, fid).read_bytes() == SMALL_FILE)
        while await home.devids(fid) != {1, 2}:
            await asyncio.sleep(0.01)
        await workers.stop()


async def test_everything_together_settles(tmp_path: Path) -> None:
    """Started as a service, the workers bring a hundred files to their copies by themselves, and stop at once."""
    async with house(tmp_path, {"h1": [1, 2], "h2": [3, 4]}) as home:
        workers = Workers(home.metadata, home.view, home.nodes, home.bells)
        await workers.start()
        fids = [await home.store(b"%d" % number, SMALL_FILE, 1 + number % 4) for number in range(100)]
        await eventually(lambda: all(len(home.on_disk().get(fid, ())) == 2 for fid in fids))
        for number in range(100):
            await home.metadata.write(files.delete, home.dmid, b"%d" % number, now=int(time.time()))
        home.bells.delete.ring()
        await eventually(lambda: not home.on_disk())
        began = time.monotonic()
        await workers.stop()
        assert time.monotonic() - began < 3
        assert await home.metadata.read(queues.backlog) == {"replicate": 0, "delete": 0, "uploads": 0}


async def test_two_at_one_file_leave_no_copy_too_many(tmp_path: Path) -> None:
    """A file that two workers copy at the same time, because it was queued anew, ends with what its class wants."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3], "h4": [4]}) as home:
        fids = [await home.store(b"key %d" % number, SMALL_FILE, 1) for number in range(12)]
        first, second = worker(home), worker(home)
        taken = list(await first.take(100))
        for fid in fids:
            await home.metadata.write(queues.enqueue_replication, fid)
        again = list(await second.take(100))
        assert len(taken) == len(again) == len(fids)
        await asyncio.gather(*map(first.work, taken), *map(second.work, again))
        for fid in fids:
            await home.metadata.write(queues.hasten_all, now=int(time.time()))
            await do_all(home)
            assert len(await home.devids(fid)) == 2
            assert sum(home.place(devid, fid).exists() for devid in (1, 2, 3, 4)) == 2
        assert await home.metadata.read(queues.next_replication) is None


async def test_a_copy_too_many_is_never_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another worker ended the work meanwhile, a copy too many is queued from the moment it is recorded."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        fid = await home.store(b"key", SMALL_FILE, 1)
        slow = worker(home)
        put = home.nodes.put
        (item,) = await slow.take(1)

        async def be_overtaken(*args: object, **kwargs: object) -> None:
            monkeypatch.setattr(home.nodes, "put", put)
            await home.metadata.write(queues.enqueue_replication, fid)
            await do_all(home)
            assert len(await home.devids(fid)) == 2
            assert await home.metadata.read(queues.next_replication) is None
            await put(*args, **kwargs)  # type: ignore[arg-type] # passed through

        async def die(*_: object, **__: object) -> bool:
            raise asyncio.CancelledError

        monkeypatch.setattr(home.nodes, "put", be_overtaken)
        with monkeypatch.context() as patch:
            patch.setattr("tawara.workers.copier.Copier.retire", die)
            with pytest.raises(asyncio.CancelledError):
                await slow.work(item)
        assert len(await home.devids(fid)) == 3
        assert await home.metadata.read(queues.next_replication) == item.claim.nexttry
        await home.metadata.write(queues.enqueue_replication, fid)
        await do_all(home)
        assert len(await home.devids(fid)) == 2
