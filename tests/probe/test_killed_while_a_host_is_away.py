"""Workers are killed while a host is suspect, presumed dead, and returned: the next ones continue their work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tawara.metadata.contract import Transaction
from tawara.node.server import StorageNode
from tests.probe.test_worker_killed import Cluster, cluster

FILES = 60
KILLS = 3
TIMEOUT = 150.0


async def _run(tx: Transaction, sql: str) -> None:
    await tx.run(sql)


async def _count(tx: Transaction, where: str) -> int:
    row = await tx.row(f"SELECT COUNT(*) FROM {where}")
    return row[0] if row else 0


async def _announced(tx: Transaction) -> list[tuple[int, int]]:
    """The expired copy reservations of a killed worker, as (fid, devid)."""
    return [(row[0], row[1]) for row in await tx.rows("SELECT fid, devid FROM tawara_copy")]


async def _kill_at(probed: Cluster, where: str, least: int = 1) -> None:
    """Start a worker, and SIGKILL it when this number of such rows exists."""
    async with probed.worker() as worker:
        async with asyncio.timeout(TIMEOUT):
            while await probed.fixture.metadata.read(_count, where) < least:
                await asyncio.sleep(0.01)
        worker.kill()


async def _settled(probed: Cluster, devids: set[int]) -> None:
    """Run a worker until every file has two replicas on these devices and nothing is left to do."""
    marks = ", ".join(map(str, devids))
    replicas = f"file_on WHERE devid IN ({marks})"
    async with probed.worker(), asyncio.timeout(TIMEOUT):
        while True:
            waiting = await probed.fixture.metadata.read(_count, "file_to_replicate")
            copies = await probed.fixture.metadata.read(_count, replicas)
            if copies == 2 * FILES and not waiting:
                return
            await asyncio.sleep(0.05)


@pytest.mark.timeout(600)
async def test_killed_while_a_host_is_away(tmp_path: Path) -> None:
    """Each file has two copies elsewhere while the host is absent, and two in total when it has returned."""
    async with cluster(tmp_path, {"h1": [1], "h2": [2], "h3": [3], "h4": [4]}) as probed:
        fixture = probed.fixture
        probed.presume_dead = 3
        contents = {
            await fixture.store(b"k%d" % number, b"content %d" % number, 1, 2 + number % 3): b"content %d" % number
            for number in range(FILES)
        }
        await fixture.metadata.write(_run, "DELETE FROM file_to_replicate")
        async with probed.worker(), asyncio.timeout(TIMEOUT):
            while await fixture.metadata.read(_count, "device WHERE mb_asof IS NOT NULL") < 4:
                await asyncio.sleep(0.05)
        address = fixture.storage["h1"].http_address
        await fixture.storage.pop("h1").stop()

        await _kill_at(probed, "tawara_absent WHERE seconds > 0")
        await _kill_at(probed, "tawara_absent WHERE standing = 'presumed dead'")
        for more in range(KILLS):
            await _kill_at(probed, "file_on WHERE devid > 1", FILES + 5 * (more + 1))
        await _settled(probed, {2, 3, 4})
        assert await fixture.metadata.read(_count, "file_on WHERE devid = 1") == FILES
        assert await fixture.metadata.read(_count, "device WHERE status <> 'alive'") == 0

        node = StorageNode(tmp_path / "h1", http=address, side_channel=None)
        await node.start()
        try:
            await _kill_at(probed, "tawara_absent WHERE standing = 'returned'")
            await _kill_at(probed, "(SELECT fid FROM file_on GROUP BY fid HAVING COUNT(*) = 2) trimmed", 5)
            await _settled(probed, {1, 2, 3, 4})
            assert await fixture.metadata.read(_count, "tawara_absent") == 0
            placed, announced = fixture.on_disk(), await fixture.metadata.read(_announced)
            for fid, content in contents.items():
                on = await fixture.devids(fid)
                assert on <= placed[fid] <= on | {devid for each, devid in announced if each == fid}
                assert {fixture.place(devid, fid).read_bytes() for devid in on} == {content}
        finally:
            await node.stop()
