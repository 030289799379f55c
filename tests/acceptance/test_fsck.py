"""Each kind of damage is found by a check, logged by its codes, and repaired; with real nodes and workers."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tawara.client import AsyncClient
from tawara.metadata import cluster as rows
from tawara.metadata import files, queues, replicas
from tawara.metadata.contract import Transaction
from tawara.model.cluster import Checksum, DeviceState, HashType
from tawara.model.files import StoredFile, TaskType
from tawara.model.limits import END_OF_TIME
from tests.acceptance.cluster import DOMAIN, Cluster, cluster

BODY = b"a small body"


@asynccontextmanager
async def store(directory: Path, *, hosts: int = 2) -> AsyncIterator[tuple[Cluster, AsyncClient]]:
    """A store with two devices per host, its workers and a client."""
    async with cluster(directory, hosts=hosts, devices=2, workers=True) as made, made.client() as client:
        yield made, client


async def put(made: Cluster, client: AsyncClient, key: str, body: bytes = BODY, *, storage_class: str = "") -> int:
    """Store a file and wait until it has its copies. Returns its fid."""
    fid = (await client.put(DOMAIN, key, body, storage_class=storage_class)).fid
    await settled(made)
    return fid


async def settled(made: Cluster) -> None:
    """Wait until nothing is left to replicate or clean up."""
    async with asyncio.timeout(30):
        while await made.metadata.read(_unfinished, now=int(time.time())):
            await asyncio.sleep(0.02)


async def _unfinished(tx: Transaction, *, now: int) -> bool:
    """Whether replication is due or claimed for the first time, or a copy is reserved."""
    if await tx.row("SELECT 1 FROM tawara_copy"):
        return True
    unfinished = "SELECT 1 FROM file_to_replicate WHERE nexttry < ? OR (failcount = 0 AND nexttry < ?)"
    return await tx.row(unfinished, now + 5, END_OF_TIME) is not None


async def check(made: Cluster, client: AsyncClient, **options: str) -> Counter[str]:
    """Run a whole check. Returns its entries in the log."""
    ask = client._trackers.ask
    await ask("fsck_reset", dict(options))
    await ask("fsck_clearlog")
    await ask("fsck_start")
    async with asyncio.timeout(30):
        while (status := await ask("fsck_status"))["running"] != b"0" or status["queued"] != b"0":
            await asyncio.sleep(0.02)
    log = await ask("fsck_getlog")
    assert status["max_fid_checked"] == status["end_fid"]
    return Counter(log[f"row_{number}_evcode"].decode() for number in range(1, int(log["row_count"]) + 1))


async def found(made: Cluster, fid: int) -> StoredFile:
    """The file as the database knows it."""
    stored = await made.metadata.read(files.find_fid, fid)
    assert stored is not None
    return stored


async def run(tx: Transaction, sql: str, *values: object) -> None:
    """Damage the database."""
    await tx.run(sql, *values)


async def assert_whole(made: Cluster, client: AsyncClient, key: str, fid: int, *, copies: int = 2) -> None:
    """The file has its copies, each complete and with a row, and the next check finds nothing."""
    await settled(made)
    async with asyncio.timeout(20):  # a claimed file is neither due nor announced for a moment
        while len((stored := await found(made, fid)).devids) != copies or len(made.replicas(fid)) != copies:
            await asyncio.sleep(0.02)
    assert len(stored.devids) == stored.devcount == copies
    assert sorted(map(str, made.replicas(fid))) == sorted(str(made.path(devid, fid)) for devid in stored.devids)
    assert {path.read_bytes() for path in made.replicas(fid)} == {BODY}
    assert await client.get(DOMAIN, key) == BODY
    assert await check(made, client) == {}


async def test_a_store_in_order_has_an_empty_log(tmp_path: Path) -> None:
    """Correct files leave no entries in the log."""
    async with store(tmp_path) as (made, client):
        for number in range(5):
            await put(made, client, f"k{number}")
        assert await check(made, client) == {}
        assert await check(made, client, policy_only="1") == {}


async def test_a_missing_replica_is_replaced(tmp_path: Path) -> None:
    """A replica that is not on its disk is MISS, its row goes, and the file is replicated (REPL)."""
    async with store(tmp_path) as (made, client):
        fid = await put(made, client, "k")
        made.replicas(fid)[0].unlink()
        assert await check(made, client) == {"MISS": 1, "REPL": 1}
        await assert_whole(made, client, "k", fid)


async def test_a_truncated_replica_is_replaced(tmp_path: Path) -> None:
    """A replica of the wrong length is BLEN; its data is deleted, and the file is replicated."""
    async with store(tmp_path) as (made, client):
        fid = await put(made, client, "k")
        made.replicas(fid)[1].write_bytes(BODY[:-1])
        assert await check(made, client) == {"BLEN": 1, "REPL": 1}
        await assert_whole(made, client, "k", fid)


async def test_a_flipped_bit_is_found_by_its_checksum(tmp_path: Path) -> None:
    """With fsck_checksum=MD5 a replica with other bytes than those of the stored checksum is replaced."""
    async with store(tmp_path) as (made, client):
        await client.set_setting("fsck_checksum", "MD5")
        fid = await put(made, client, "k")
        assert await check(made, client) == {}
        assert (await found(made, fid)).checksum == Checksum(HashType.MD5, hashlib.md5(BODY).digest())
        made.replicas(fid)[0].write_bytes(b"b" + BODY[1:])
        assert await check(made, client) == {"REPL": 1}
        assert [(line.fid, line.code) for line in await client.scrub_log()] == [(fid, "BSUM")]
        await assert_whole(made, client, "k", fid)


async def test_differing_replicas_without_a_checksum_are_all_kept(tmp_path: Path) -> None:
    """When it is unknown which of two contents is right, only MSUM is logged."""
    async with store(tmp_path) as (made, client):
        await client.set_setting("fsck_checksum", "MD5")
        fid = await put(made, client, "k")
        made.replicas(fid)[0].write_bytes(b"b" + BODY[1:])
        assert await check(made, client) == {"MSUM": 1}
        assert len(made.replicas(fid)) == len((await found(made, fid)).devids) == 2


async def test_a_class_with_checksums_gets_the_missing_ones(tmp_path: Path) -> None:
    """A file of a class with a hash type and no checksum row is NSUM, also when only policies are checked."""
    async with store(tmp_path) as (made, client):
        fid = await put(made, client, "k", storage_class="md5")
        await made.metadata.write(run, "DELETE FROM checksum")
        assert await check(made, client, policy_only="1") == {"NSUM": 1}
        assert (await found(made, fid)).checksum == Checksum(HashType.MD5, hashlib.md5(BODY).digest())


async def test_a_lost_row_is_restored(tmp_path: Path) -> None:
    """A file without rows is NOPA; its data is searched (SRCH) and found (FOND), and the file is replicated."""
    async with store(tmp_path) as (made, client):
        fid = await put(made, client, "k")
        await made.metadata.write(run, "DELETE FROM file_on")
        made.replicas(fid)[1].unlink()
        codes = await check(made, client)
        assert codes == {"NOPA": 1, "SRCH": 1, "FOND": 1, "REPL": 1, "BCNT": 1}
        await assert_whole(made, client, "k", fid)


async def test_a_copy_without_a_row_saves_the_file(tmp_path: Path) -> None:
    """When no replica is where its row says, one on another device is found and replaces them."""
    async with store(tmp_path, hosts=3) as (made, client):
        fid = await put(made, client, "k")
        known = set((await found(made, fid)).devids)
        orphan = made.path(next(devid for devid in range(1, 7) if devid not in known), fid)
        orphan.parent.mkdir(parents=True, exist_ok=True)
        for path in made.replicas(fid):
            path.rename(orphan)
        assert await check(made, client) == {"MISS": 2, "SRCH": 1, "FOND": 1, "REPL": 1}
        await assert_whole(made, client, "k", fid)


async def test_a_lost_file_is_reported(tmp_path: Path) -> None:
    """When no device has it, the file is GONE; its key stays, and the next check finds the same."""
    async with store(tmp_path) as (made, client):
        fid = await put(made, client, "k")
        for path in made.replicas(fid):
            path.unlink()
        assert await check(made, client) == {"MISS": 2, "SRCH": 1, "GONE": 1}
        stored = await found(made, fid)
        assert (stored.key, stored.devids, stored.devcount) == (b"k", (), 0)
        assert await check(made, client) == {"NOPA": 1, "SRCH": 1, "GONE": 1}


async def test_an_extra_copy_is_removed(tmp_path: Path) -> None:
    """A file with more copies than its class requires is POVI, and soon has the required number."""
    async with store(tmp_path, hosts=3) as (made, client):
        fid = await put(made, client, "k")
        known = set((await found(made, fid)).devids)
        extra = next(devid for devid in range(1, 7) if devid not in known)
        path = made.path(extra, fid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BODY)
        await made.metadata.write(replicas.reserve_copy, fid, extra, now=int(time.time()))
        await made.metadata.write(replicas.record_copy, fid, extra, now=int(time.time()))
        assert await check(made, client, policy_only="1") == {"POVI": 1, "REPL": 1}
        await assert_whole(made, client, "k", fid)


async def test_a_missing_copy_is_a_violation(tmp_path: Path) -> None:
    """A file with fewer copies than its class requires is POVI and REPL, and gets them."""
    async with store(tmp_path) as (made, client):
        fid = await put(made, client, "k")
        devid = (await found(made, fid)).devids[0]
        await made.metadata.write(replicas.drop_replica, fid, devid)
        made.path(devid, fid).unlink()
        assert await check(made, client) == {"POVI": 1, "REPL": 1}
        await assert_whole(made, client, "k", fid)


async def test_a_wrong_devcount_is_corrected(tmp_path: Path) -> None:
    """A devcount that is not the number of rows is BCNT and corrected, also when only policies are checked."""
    async with store(tmp_path) as (made, client):
        fid = await put(made, client, "k")
        for options in ({"policy_only": "1"}, {"policy_only": "0"}):
            await made.metadata.write(run, "UPDATE file SET devcount = 7")
            assert await check(made, client, **options) == {"BCNT": 1}
            assert (await found(made, fid)).devcount == 2


async def test_a_silent_device_loses_no_rows(tmp_path: Path) -> None:
    """No row of a file on a node that does not answer is dropped; it is deferred, and the check ends."""
    async with store(tmp_path) as (made, client):
        fid = await put(made, client, "k")
        before = (await found(made, fid)).devids
        await made.nodes[1].stop()
        ask = client._trackers.ask
        await ask("fsck_reset")
        await ask("fsck_start")
        async with asyncio.timeout(30):
            while not await made.metadata.read(_put_off):
                await asyncio.sleep(0.02)
        assert (await found(made, fid)).devids == before
        assert (await ask("fsck_status"))["running"] == b"0"
        assert (await ask("fsck_getlog"))["row_count"] == b"0"


async def _put_off(tx: Transaction) -> bool:
    return await tx.row("SELECT 1 FROM file_to_queue WHERE type = 1 AND failcount = 1") is not None


async def test_a_disk_that_is_not_mounted_loses_no_rows(tmp_path: Path) -> None:
    """When a whole device is missing, its "not found" answers are ignored."""
    async with store(tmp_path) as (made, client):
        fid = await put(made, client, "k")
        before = (await found(made, fid)).devids
        device = made.path(before[0], fid).parents[3]
        device.rename(device.with_name("unmounted"))
        ask = client._trackers.ask
        await ask("fsck_reset")
        await ask("fsck_start")
        async with asyncio.timeout(30):
            while not await made.metadata.read(_put_off):
                await asyncio.sleep(0.02)
        assert (await found(made, fid)).devids == before


async def test_rows_on_a_dead_device_are_dropped(tmp_path: Path) -> None:
    """A row on a device that was declared dead is dropped, and the file replicated elsewhere."""
    async with store(tmp_path, hosts=3) as (made, client):
        fid = await put(made, client, "k")
        devid = (await found(made, fid)).devids[0]
        await made.metadata.write(rows.set_device_state, f"h{(devid + 1) // 2}", devid, DeviceState.DEAD)
        await made.view.renew()
        assert await check(made, client) == {"REPL": 1}
        await settled(made)
        stored = await found(made, fid)
        assert devid not in stored.devids
        assert len(stored.devids) == 2


async def test_a_stopped_check_continues(tmp_path: Path) -> None:
    """fsck_stop cancels what was not started, and the next fsck_start checks every remaining file."""
    async with store(tmp_path) as (made, client):
        fids = [await put(made, client, f"k{number}") for number in range(10)]
        await client.set_setting("queue_rate_for_fsck", "2")
        ask = client._trackers.ask
        await made.metadata.write(run, "UPDATE file SET devcount = 7")
        await ask("fsck_reset")
        await ask("fsck_start")
        await asyncio.sleep(1.2)
        await ask("fsck_stop")
        status = await ask("fsck_status")
        assert status["running"] == b"0"
        assert int(status["max_fid_checked"]) < max(fids)
        await ask("set_server_setting", {"key": "queue_rate_for_fsck", "value": "100"})
        await ask("fsck_start")
        async with asyncio.timeout(30):
            while (status := await ask("fsck_status"))["running"] != b"0" or status["queued"] != b"0":
                await asyncio.sleep(0.02)
        assert {(await found(made, fid)).devcount for fid in fids} == {2}
        assert status["num_BCNT"] == b"10"
        assert await made.metadata.read(queues.count_tasks, TaskType.CHECK) == 0
