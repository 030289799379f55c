"""The scrub worker with real storage nodes and a real database: damage is found and repaired."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from tawara.metadata import cluster as rows
from tawara.metadata import files, queues, scrub
from tawara.metadata.contract import Transaction
from tawara.metadata.wakeups import Wakeups
from tawara.model.checksums import checksum_of
from tawara.model.cluster import Checksum, DeviceState, HashType
from tawara.model.files import TaskType
from tawara.model.scrub import ScrubRound
from tawara.workers.cleanup_orphans import CleanupOrphans
from tawara.workers.replicate_files import ReplicateFiles
from tawara.workers.scrub_files import ScrubFiles
from tests.unit.workers.workers_fixture import WorkersFixture, set_state, workers_fixture

CONTENT = b"a bale of rice"
ROTTEN = b"a bale of rise"
SUM = Checksum(HashType.MD5, hashlib.md5(CONTENT).digest())
LAYOUT = {"h1": [1], "h2": [2], "h3": [3]}


async def read_all(fixture: WorkersFixture) -> dict[str, int]:
    """Read every file once; return the log as counts by code."""
    found = await fixture.metadata.read(files.list_fids, 0, 500)
    await fixture.metadata.write(
        queues.enqueue_tasks, TaskType.SCRUB, [(file.fid, None, "") for file in found], now=int(time.time())
    )
    worker = ScrubFiles(fixture.metadata, fixture.view, fixture.nodes, wakeups=fixture.wakeups)
    for item in await worker.take(100):
        await worker.work(item)
    return (await fixture.metadata.read(scrub.progress, now=0)).counts


async def repair(fixture: WorkersFixture) -> None:
    """Run the sweeper and the replicate worker on the findings."""
    for _ in range(2):
        sweeper = CleanupOrphans(fixture.metadata, fixture.view, fixture.nodes, wakeups=Wakeups(), upload_open=3600)
        for place in await sweeper.take(100):
            await sweeper.work(place)
        copier = ReplicateFiles(fixture.metadata, fixture.view, fixture.nodes, delete_wakeup=fixture.wakeups.delete)
        for item in await copier.take(100):
            await copier.work(item)


async def checksum(fixture: WorkersFixture, fid: int) -> Checksum | None:
    stored = await fixture.metadata.read(files.find_fid, fid)
    assert stored
    return stored.checksum


async def test_a_flipped_bit_is_repaired(tmp_path: Path) -> None:
    """The majority's checksum is stored; a replica that differs later is not served any more, and is replaced."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1, 2)
        assert await read_all(fixture) == {}
        assert await checksum(fixture, fid) == SUM
        fixture.place(2, fid).write_bytes(ROTTEN)
        assert await read_all(fixture) == {"BSUM": 1, "REPL": 1}
        assert await fixture.devids(fid) == {1}
        await repair(fixture)
        assert await fixture.devids(fid) == {1, 2}
        assert {fixture.place(devid, fid).read_bytes() for devid in (1, 2)} == {CONTENT}
        assert await read_all(fixture) == {"BSUM": 1, "REPL": 1}


@pytest.mark.parametrize("hashtype", [HashType.CRC32C, HashType.CRC64NVME])
async def test_a_crc_of_the_class_is_enough(tmp_path: Path, hashtype: HashType) -> None:
    """In a class with a CRC that is what is stored, and what tells which of two replicas is damaged."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        crc = await fixture.new_class("crc", 2, "MultipleHosts()", hashtype)
        fid = await fixture.store(b"key", CONTENT, 1, 2, classid=crc)
        assert await read_all(fixture) == {}
        assert await checksum(fixture, fid) == checksum_of(CONTENT, hashtype)
        fixture.place(1, fid).write_bytes(ROTTEN)
        assert await read_all(fixture) == {"BSUM": 1, "REPL": 1}
        assert await fixture.devids(fid) == {2}


async def test_the_majority_of_three_decides(tmp_path: Path) -> None:
    """Without a stored checksum, the content of most replicas is right, and its checksum is stored."""
    async with workers_fixture(tmp_path, LAYOUT) as fixture:
        three = await fixture.new_class("three", 3, "MultipleHosts()")
        fid = await fixture.store(b"key", CONTENT, 1, 2, 3, classid=three)
        fixture.place(1, fid).write_bytes(ROTTEN)
        assert await read_all(fixture) == {"BSUM": 1, "REPL": 1}
        assert await checksum(fixture, fid) == SUM
        await repair(fixture)
        assert await fixture.devids(fid) == {1, 2, 3}
        assert fixture.place(1, fid).read_bytes() == CONTENT


async def test_two_different_replicas_are_logged_and_kept(tmp_path: Path) -> None:
    """If nothing shows which of two is right, both stay, no checksum is stored, and the log has a line."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1, 2)
        fixture.place(2, fid).write_bytes(ROTTEN)
        assert await read_all(fixture) == {"MSUM": 1}
        assert await checksum(fixture, fid) is None
        await repair(fixture)
        assert fixture.place(1, fid).read_bytes() == CONTENT
        assert fixture.place(2, fid).read_bytes() == ROTTEN


async def test_one_reachable_replica_is_no_majority(tmp_path: Path) -> None:
    """While a device is out of service, its copy may be the right one: no checksum is stored."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", CONTENT, 1, 2)
        await set_state(fixture, 2, DeviceState.DOWN)
        await read_all(fixture)
        assert await checksum(fixture, fid) is None
        assert await fixture.devids(fid) == {1, 2}


async def test_the_last_copy_is_kept_though_it_is_corrupt(tmp_path: Path) -> None:
    """When no replica has the stored checksum, none is deleted."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fid = await fixture.store(b"key", ROTTEN, 1, 2, checksum=SUM)
        assert await read_all(fixture) == {"BSUM": 2, "SRCH": 1}
        await repair(fixture)
        assert fixture.on_disk() == {fid: {1, 2}}
        assert await fixture.devids(fid) == {1, 2}
        assert await checksum(fixture, fid) == SUM


async def test_files_are_queued_when_they_are_due(tmp_path: Path) -> None:
    """With a short period every file is read soon; the pass is stored in the database; 0 disables the scrub."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        fids = [await fixture.store(b"%d" % number, CONTENT, 1, 2) for number in range(5)]
        start = int(time.time())
        await fixture.metadata.write(rows.set_setting, scrub.PERIOD, "1000")
        await fixture.metadata.write(scrub.inject, now=start)
        queued: list[int] = []
        for now in range(start, start + 1000, 10):
            await fixture.metadata.write(scrub.inject, now=now)
            for claim in await fixture.metadata.write(queues.claim_tasks, TaskType.SCRUB, limit=9, now=now):
                queued.append(claim.fid)
                await fixture.metadata.write(queues.finish_tasks, [claim])
        assert queued == fids
        stands = await fixture.metadata.read(scrub.progress, now=0)
        assert (stands.at.began, stands.at.position, stands.at.done) == (start, fids[-1], 5)
        await fixture.metadata.write(rows.set_setting, scrub.PERIOD, "0")
        assert await fixture.metadata.write(scrub.inject, now=start + 5000) is None
        assert (await fixture.metadata.read(scrub.progress, now=0)).period == 0


async def test_an_idle_scrub_sleeps(tmp_path: Path) -> None:
    """When nothing is due the worker sleeps until something is."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await fixture.store(b"key", CONTENT, 1, 2)
        worker = ScrubFiles(fixture.metadata, fixture.view, fixture.nodes, wakeups=fixture.wakeups)
        assert await worker.take(10) == []
        due = await worker.next_due()
        assert due is not None
        assert due > time.time() + 50
        assert ScrubRound.parse(await fixture.metadata.read(_round)).began


async def _round(tx: Transaction) -> str:
    return await rows.get_setting(tx, "tawara_scrub_round") or ""
