"""The replicate worker against real storage nodes and a real database."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tawara.metadata import cluster as rows
from tawara.metadata import files, queues, replicas
from tawara.metadata.view import ClusterView
from tawara.model.checksums import checksum_of
from tawara.model.cluster import Checksum, DeviceState, HashType
from tawara.model.limits import END_OF_TIME
from tawara.node.server import StorageNode
from tawara.workers import throttle
from tawara.workers.copying import SMALL, SourceFailed, copy
from tawara.workers.retry_deferred import RetryDeferred
from tawara.workers.service import Workers
from tests.unit.workers.replicate_fixture import SMALL_FILE, do_all, worker
from tests.unit.workers.workers_fixture import eventually, set_state, workers_fixture

LARGE_FILE = bytes(range(256)) * (3 * SMALL // 256) + b"and a bit"


@pytest.mark.parametrize("content", [b"", SMALL_FILE, LARGE_FILE])
async def test_copies_reach_the_class_count(tmp_path: Path, content: bytes) -> None:
    """A closed file is copied, byte for byte, to another host, and its row leaves the queue."""
    async with workers_fixture(tmp_path, {"h1": [1, 2], "h2": [3]}) as fixture:
        fid = await fixture.store(b"key", content, 1)
        replicate = worker(fixture)
        for item in await replicate.take(1):
            await replicate.work(item)
        assert replicate.copied_bytes == len(content)
        assert await fixture.devids(fid) == {1, 3}
        assert fixture.place(3, fid).read_bytes() == content
        stored = await fixture.metadata.read(files.find_fid, fid)
        assert stored
        assert stored.devcount == 2
        assert await fixture.metadata.read(queues.next_replication) is None


@pytest.mark.parametrize("content", [SMALL_FILE, LARGE_FILE])
@pytest.mark.parametrize("hashtype", list(HashType))
async def test_a_missing_checksum_is_filled_in(tmp_path: Path, content: bytes, hashtype: HashType) -> None:
    """The copy of a file in a class with a hash type computes the checksum (docs/mogilefs.md 14)."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        classid = await fixture.new_class("hashed", 2, "MultipleHosts()", hashtype)
        fid = await fixture.store(b"key", content, 1, classid=classid)
        await do_all(fixture)
        stored = await fixture.metadata.read(files.find_fid, fid)
        assert stored
        assert stored.checksum == checksum_of(content, hashtype)


@pytest.mark.parametrize("content", [SMALL_FILE, LARGE_FILE])
async def test_a_corrupt_source_is_not_copied(tmp_path: Path, content: bytes) -> None:
    """A replica with a wrong checksum is not copied; a good one is."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        classid = await fixture.new_class("three", 3, "MultipleHosts()")
        checksum = Checksum(HashType.MD5, hashlib.md5(content).digest())
        fid = await fixture.store(b"key", content, 1, 2, classid=classid, checksum=checksum)
        fixture.place(1, fid).write_bytes(b"X" + content[1:])
        await do_all(fixture)
        assert await fixture.devids(fid) == {1, 2, 3}
        assert fixture.place(3, fid).read_bytes() == content


@pytest.mark.parametrize("content", [SMALL_FILE, LARGE_FILE])
async def test_with_only_a_corrupt_source_nothing_is_written(tmp_path: Path, content: bytes) -> None:
    """If the only replica is damaged no copy is visible at any time, and the work is deferred."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        checksum = Checksum(HashType.SHA1, hashlib.sha1(content).digest())
        fid = await fixture.store(b"key", content, 1, checksum=checksum)
        fixture.place(1, fid).write_bytes(b"X" + content[1:])
        with pytest.raises(SourceFailed):
            await copy(
                fixture.nodes, fixture.url(1, fid), fixture.url(2, fid),
                length=len(content), checksum=checksum, hashtype=None, verifies_md5=True,
            )  # fmt: skip
        assert not fixture.place(2, fid).exists()
        until = await do_all(fixture)
        assert until is not None
        assert until > time.time()
        assert await fixture.devids(fid) == {1}
        assert fixture.on_disk() == {fid: {1}}


async def test_a_truncated_source_is_not_copied(tmp_path: Path) -> None:
    """A replica of the wrong length is no source, with or without a checksum."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        for number, content in enumerate((SMALL_FILE, LARGE_FILE)):
            fid = await fixture.store(b"%d" % number, content, 1)
            fixture.place(1, fid).write_bytes(content[:-1])
            await do_all(fixture)
            assert await fixture.devids(fid) == {1}
            assert not fixture.place(2, fid).exists()


async def test_a_destination_that_fails_is_replaced(tmp_path: Path) -> None:
    """When the chosen device does not accept the copy another one gets it, and no reservation is left."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        (tmp_path / "h2" / "dev2").rename(tmp_path / "pulled out")
        for _ in range(3):  # the policy chooses by chance
            await do_all(fixture)
            await fixture.metadata.write(queues.enqueue_replication, fid)
        assert await fixture.devids(fid) == {1, 3}


async def test_a_full_device_gets_nothing(tmp_path: Path) -> None:
    """A device with less space than the file needs, or than the store keeps free, is never chosen."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await fixture.monitor.stop()
        free = fixture.view.current.devices[2].mb_free
        assert free is not None
        observed = fixture.view.current.observed
        fixture.view = ClusterView(fixture.metadata, min_free_mb=free + 1)
        await fixture.view.refresh()
        fixture.view.observe(observed)
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        assert await do_all(fixture) is not None
        assert fixture.on_disk() == {fid: {1}}


async def test_a_file_without_replicas_needs_an_operator(tmp_path: Path) -> None:
    """The work on a file without any replica is deferred for ever (docs/mogilefs.md 10.6)."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        await fixture.metadata.write(replicas.drop_replica, fid, 1)
        assert await do_all(fixture) == END_OF_TIME
        assert await fixture.metadata.read(queues.next_replication) == END_OF_TIME


async def test_unavailable_sources_are_waited_for(tmp_path: Path) -> None:
    """While no replica can be read the work is deferred, with growing delays (docs/mogilefs.md 10.6)."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        await set_state(fixture, 1, DeviceState.DOWN)
        first = await do_all(fixture)
        assert first is not None
        assert 10 <= first - time.time() <= 20
        await fixture.metadata.write(queues.replicate_now, now=1)
        second = await do_all(fixture)
        assert second is not None
        assert 45 <= second - time.time() <= 75
        await set_state(fixture, 1, DeviceState.ALIVE)
        await fixture.metadata.write(queues.replicate_now, now=1)
        await do_all(fixture)
        assert await fixture.devids(fid) == {1, 2}


async def test_work_for_a_returned_device_is_done_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a device is usable again, work that was deferred because of it is done at once."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await set_state(fixture, 2, DeviceState.DOWN)
        retry = RetryDeferred(fixture.metadata, fixture.view, fixture.wakeups)
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        for _ in range(4):
            until = await do_all(fixture)
            await fixture.metadata.write(queues.replicate_now, now=1)
        assert until is not None
        await do_all(fixture)
        await set_state(fixture, 2, DeviceState.ALIVE)
        assert await worker(fixture).take(1) == []
        assert await retry.take(1) == []  # it was missed a moment ago
        monkeypatch.setattr("tawara.workers.retry_deferred.SETTLED", 0)
        for item in await retry.take(1):
            await retry.work(item)
        await do_all(fixture)
        assert await fixture.devids(fid) == {1, 2}
        assert await retry.take(1) == []


async def test_work_deferred_by_a_dead_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that a process deferred before it died is done at once by another one that sees the device well, though it
    never saw it absent. Without a connection nothing was sent that might arrive late, so the reservation has ended."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        port = fixture.storage["h2"].http_address[1]
        await fixture.monitor.stop()  # so that it does not notice
        await fixture.storage["h2"].stop()
        assert fixture.view.current.is_writeable(2)
        await do_all(fixture)
        assert await worker(fixture).take(1) == []
        fixture.storage["h2"] = StorageNode(tmp_path / "h2", http=("127.0.0.2", port), side_channel=None)
        await fixture.storage["h2"].start()
        try:
            await fixture.view.renew()
            other = RetryDeferred(fixture.metadata, fixture.view, fixture.wakeups)
            monkeypatch.setattr("tawara.workers.retry_deferred.SETTLED", 0)
            for item in await other.take(1):
                await other.work(item)
            await do_all(fixture)
            assert await fixture.devids(fid) == {1, 2}
        finally:
            await fixture.storage["h2"].stop()


async def test_surplus_is_removed(tmp_path: Path) -> None:
    """Of too many replicas those that the policy does not need are deleted, also from disk."""
    async with workers_fixture(tmp_path, {"h1": [1, 2], "h2": [3, 4]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1, 2, 3, 4)
        await do_all(fixture)
        left = await fixture.devids(fid)
        assert len(left) == 2
        assert {fixture.devices[devid] for devid in left} == {"h1", "h2"}
        assert fixture.on_disk() == {fid: left}
        assert await fixture.metadata.read(queues.next_replication) is None


async def test_surplus_is_kept_for_a_damaged_one(tmp_path: Path) -> None:
    """A replica of the wrong size does not count as a remaining one."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1, 2, 3)
        fixture.place(2, fid).write_bytes(b"short")
        await do_all(fixture)
        assert {1, 3} <= await fixture.devids(fid)


async def test_two_workers_never_remove_each_others_remaining_copy(tmp_path: Path) -> None:
    """A replica is removed only while the others are still those that were verified."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1, 2, 3)
        all_of_them = frozenset({1, 2, 3})
        assert await fixture.metadata.write(replicas.remove_surplus_replica, fid, 1, among=all_of_them, now=1)
        assert not await fixture.metadata.write(replicas.remove_surplus_replica, fid, 3, among=all_of_them, now=1)
        assert await fixture.devids(fid) == {2, 3}


async def test_deleted_before_its_replication(tmp_path: Path) -> None:
    """Replicating a file that was deleted meanwhile does nothing."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        await fixture.metadata.write(files.delete, fixture.dmid, b"key", now=1)
        assert await do_all(fixture) is None
        assert await fixture.metadata.read(queues.next_replication) is None
        assert fixture.on_disk() == {fid: {1}}


async def test_deleted_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of a file deleted meanwhile is deleted at once, and the deletion that waited for it becomes due."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        replicate = worker(fixture)
        put = fixture.nodes.put

        async def delete_then_put(*args: object, **kwargs: object) -> None:
            await fixture.metadata.write(files.delete, fixture.dmid, b"key", now=1)
            (claim,) = await fixture.metadata.write(queues.claim_deletions, limit=1, now=1)
            await fixture.metadata.write(replicas.drop_replica, fid, 1)
            assert not await fixture.metadata.write(queues.finish_deletion, claim)
            await put(*args, **kwargs)  # type: ignore[arg-type] # passed through

        monkeypatch.setattr(fixture.nodes, "put", delete_then_put)
        (item,) = await replicate.take(1)
        await replicate.work(item)
        assert await fixture.metadata.read(replicas.devices_of, fid) == ()
        assert fixture.on_disk() == {fid: {1}}  # as the deletion was only feigned
        (claim,) = await fixture.metadata.write(queues.claim_deletions, limit=1, now=int(time.time()))
        assert await fixture.metadata.write(queues.finish_deletion, claim)
        assert await replicate.next_due() is None


async def test_leases_are_renewed_and_released(tmp_path: Path) -> None:
    """A claim is renewed during the work; a released one is due at once."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await fixture.store(b"key", SMALL_FILE, 1)
        replicate = worker(fixture)
        (item,) = await replicate.take(1)
        before = item.claim.nexttry
        await replicate.renew([item])
        assert item.claim.nexttry >= before
        assert await replicate.take(1) == []
        await replicate.release([item])
        assert len(await replicate.take(1)) == 1


async def test_the_most_endangered_come_first(tmp_path: Path) -> None:
    """Of the claimed files, one with one replica is replicated before one with two."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        classid = await fixture.new_class("three", 3, "MultipleHosts()")
        await fixture.store(b"two", SMALL_FILE, 1, 2, classid=classid)
        endangered = await fixture.store(b"one", SMALL_FILE, 1, classid=classid)
        first, _ = await worker(fixture).take(10)
        assert first.claim.fid == endangered


async def test_the_most_endangered_come_first_across_the_queue(tmp_path: Path) -> None:
    """Of a dead device's files those without a second replica are claimed first, in any batch."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        classid = await fixture.new_class("three", 3, "MultipleHosts()")
        for number in range(6):
            await fixture.store(b"safe %d" % number, SMALL_FILE, 1, 2, 3, classid=classid)
        endangered = await fixture.store(b"endangered", SMALL_FILE, 1, 3, classid=classid)
        for claim in await fixture.metadata.write(queues.claim_replications, limit=99, now=1):
            await fixture.metadata.write(queues.finish_replication, claim)
        await set_state(fixture, 3, DeviceState.DEAD)
        now = int(time.time())
        assert await fixture.metadata.write(replicas.empty_dead_device, 3, limit=100, now=now) == 7
        (first,) = await worker(fixture).take(1)
        assert first.claim.fid == endangered


async def test_a_rate_limit_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit in bytes a second, copies take the corresponding time."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(throttle, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(throttle, "time", SimpleNamespace(monotonic=lambda: 1000.0 + sum(slept)))
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await fixture.metadata.write(rows.set_setting, "tawara_rate_replicate", "1m")
        await fixture.view.refresh()
        large = bytes(4 * 1024 * 1024)
        fid = await fixture.store(b"key", large, 1)
        await do_all(fixture)
        assert 3.0 < sum(slept) < 4.0
        assert fixture.on_disk() == {fid: {1, 2}}


async def test_the_only_worker_resumes_at_once(tmp_path: Path) -> None:
    """After a crash, a worker that is alone neither waits for leases nor is blocked by a partial copy."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        now = int(time.time())
        await fixture.metadata.write(queues.claim_replications, limit=1, now=now, lease=60)
        await fixture.metadata.write(replicas.reserve_copy, fid, 2, now=now)
        await fixture.nodes.put(fixture.url(2, fid), b"half of it", length=10)
        workers = Workers(fixture.metadata, fixture.view, fixture.nodes, fixture.wakeups, alone=True)
        await workers.start()
        await eventually(
            lambda: fixture.on_disk() == {fid: {1, 2}} and fixture.place(2, fid).read_bytes() == SMALL_FILE
        )
        while await fixture.devids(fid) != {1, 2}:
            await asyncio.sleep(0.01)
        await workers.stop()


async def test_the_workers_converge(tmp_path: Path) -> None:
    """Started as a service, the workers bring 30 files to their number of copies, and stop at once."""
    async with workers_fixture(tmp_path, {"h1": [1, 2], "h2": [3, 4]}) as fixture:
        workers = Workers(fixture.metadata, fixture.view, fixture.nodes, fixture.wakeups)
        await workers.start()
        fids = [await fixture.store(b"%d" % number, SMALL_FILE, 1 + number % 4) for number in range(30)]
        await eventually(lambda: all(len(fixture.on_disk().get(fid, ())) == 2 for fid in fids))
        for number in range(30):
            await fixture.metadata.write(files.delete, fixture.dmid, b"%d" % number, now=int(time.time()))
        fixture.wakeups.delete.notify()
        await eventually(lambda: not fixture.on_disk())
        began = time.monotonic()
        await workers.stop()
        assert time.monotonic() - began < 20
        assert await fixture.metadata.read(queues.backlog) == {"replicate": 0, "delete": 0, "uploads": 0}


async def test_two_workers_on_one_file_leave_no_surplus(tmp_path: Path) -> None:
    """A file that was queued again, so that two workers copy it, ends with the copies that its class requires."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3], "h4": [4]}) as fixture:
        fids = [await fixture.store(b"key %d" % number, SMALL_FILE, 1) for number in range(12)]
        first, second = worker(fixture), worker(fixture)
        taken = list(await first.take(100))
        for fid in fids:
            await fixture.metadata.write(queues.enqueue_replication, fid)
        again = list(await second.take(100))
        assert len(taken) == len(again) == len(fids)
        await asyncio.gather(*map(first.work, taken), *map(second.work, again))
        for fid in fids:
            await fixture.metadata.write(queues.retry_all_deferred, now=int(time.time()))
            await do_all(fixture)
            assert len(await fixture.devids(fid)) == 2
            assert sum(fixture.place(devid, fid).exists() for devid in (1, 2, 3, 4)) == 2
        assert await fixture.metadata.read(queues.next_replication) is None


async def test_a_surplus_copy_is_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another worker ended the work meanwhile, a surplus copy is queued from the moment it is recorded."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        fid = await fixture.store(b"key", SMALL_FILE, 1)
        slow = worker(fixture)
        put = fixture.nodes.put
        (item,) = await slow.take(1)

        async def be_overtaken(*args: object, **kwargs: object) -> None:
            monkeypatch.setattr(fixture.nodes, "put", put)
            await fixture.metadata.write(queues.enqueue_replication, fid)
            await do_all(fixture)
            assert len(await fixture.devids(fid)) == 2
            assert await fixture.metadata.read(queues.next_replication) is None
            await put(*args, **kwargs)  # type: ignore[arg-type] # passed through

        async def die(*_: object, **__: object) -> bool:
            raise asyncio.CancelledError

        monkeypatch.setattr(fixture.nodes, "put", be_overtaken)
        with monkeypatch.context() as patch:
            patch.setattr("tawara.workers.copier.Copier.remove_surplus", die)
            with pytest.raises(asyncio.CancelledError):
                await slow.work(item)
        assert len(await fixture.devids(fid)) == 3
        assert await fixture.metadata.read(queues.next_replication) == item.claim.nexttry
        await fixture.metadata.write(queues.enqueue_replication, fid)
        await do_all(fixture)
        assert len(await fixture.devids(fid)) == 2
