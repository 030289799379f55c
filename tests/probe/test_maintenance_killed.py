"""Workers are killed during a check, a rebalance and a drain: no file is missed or lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tawara.metadata import cluster as rows
from tawara.metadata import drain, files, fsck, rebalance
from tawara.metadata.contract import Transaction
from tawara.model.files import NewFile
from tawara.model.rebalance import RebalanceState
from tests.probe.test_worker_killed import Cluster, cluster

KILLS = 3
TIMEOUT = 90.0


async def _until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not await condition():
            await asyncio.sleep(0.02)


async def _count(tx: Transaction, where: str) -> int:
    row = await tx.row(f"SELECT COUNT(*) FROM {where}")
    return row[0] if row else 0


async def _run(tx: Transaction, sql: str) -> None:
    await tx.run(sql)


async def _kill_when(probed: Cluster, step: int, progress: Callable[[], Awaitable[int]], count: int) -> None:
    """Start a worker and SIGKILL it after this number of further files, or all of `count`; `KILLS` times."""
    for _ in range(KILLS):
        wanted = min(await progress() + step, count)

        async def far_enough(wanted: int = wanted) -> bool:
            return await progress() >= wanted

        async with probed.worker() as worker:
            await _until(far_enough)
            worker.kill()


async def test_a_check_misses_no_file(tmp_path: Path) -> None:
    """Every file is examined exactly once with a result, however often the worker is killed."""
    count = 2000
    async with cluster(tmp_path, {"h1": [1], "h2": [2]}) as probed:
        metadata, dmid = probed.fixture.metadata, probed.fixture.dmid

        async def store(number: int) -> None:
            key = b"k%d" % number
            fid = await metadata.write(files.open_upload, dmid=dmid, key=key, classid=0, devids=(1, 2), now=1)
            await metadata.write(
                files.close_upload,
                NewFile(fid=fid, dmid=dmid, key=key, classid=0, length=1, devids=(1, 2)),
                now=1,
                replicate=False,
            )

        await asyncio.gather(*map(store, range(count)))
        await metadata.write(_run, "UPDATE file SET devcount = 7")
        await metadata.write(rows.set_setting, "queue_rate_for_fsck", "150")
        await metadata.write(fsck.reset, policy_only=True, position=0)
        await metadata.write(fsck.start, host="here", now=int(time.time()))

        async def corrected() -> int:
            return await metadata.read(_count, "fsck_log WHERE evcode = 'BCNT'")

        await _kill_when(probed, 100, corrected, count)
        assert await corrected() < count
        await metadata.write(rows.set_setting, "queue_rate_for_fsck", "1000")
        async with probed.worker():
            await _until(lambda: _checked(probed))
        at = await metadata.read(fsck.progress)
        assert at.counts == {"BCNT": count}
        assert at.position == at.end
        assert await metadata.read(_count, "file WHERE devcount = 2") == count


async def _checked(probed: Cluster) -> bool:
    at = await probed.fixture.metadata.read(fsck.progress)
    return not at.host and not at.queued and not at.stalled


async def test_a_rebalance_loses_no_file(tmp_path: Path) -> None:
    """Every file keeps two good replicas and the device is emptied, however often the worker is killed."""
    count = 200
    async with cluster(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as probed:
        metadata = probed.fixture.metadata
        contents = {}
        for number in range(count):
            content = b"content %d" % number
            contents[await probed.fixture.store(b"k%d" % number, content, 1, 2)] = content
        await metadata.write(_run, "DELETE FROM file_to_replicate")
        await metadata.write(rebalance.set_policy, "from_devices=1")
        await metadata.write(rebalance.start, await metadata.read(rows.load), host="here", now=int(time.time()))

        async def moved() -> int:
            return await metadata.read(_count, "file_on WHERE devid = 3")

        await _kill_when(probed, 5, moved, count)
        async with probed.worker():
            await _until(lambda: _rebalanced(probed))
            placed = probed.fixture.on_disk()
        assert placed == {fid: {2, 3} for fid in contents}
        for fid, content in contents.items():
            assert await probed.fixture.devids(fid) == {2, 3}
            assert {probed.fixture.place(devid, fid).read_bytes() for devid in (2, 3)} == {content}
        assert (await metadata.read(rows.load)).devices[1].state == "alive"


async def test_a_drain_loses_no_file(tmp_path: Path) -> None:
    """Every file keeps two good replicas and the device is emptied, however often the worker is killed."""
    count = 200
    async with cluster(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as probed:
        metadata = probed.fixture.metadata
        fids = [await probed.fixture.store(b"k%d" % number, b"content %d" % number, 1, 2) for number in range(count)]
        await metadata.write(_run, "DELETE FROM file_to_replicate")
        await metadata.write(drain.start, 1, now=int(time.time()))

        async def moved() -> int:
            return await metadata.read(_count, "file_on WHERE devid = 3")

        await _kill_when(probed, 5, moved, count)
        async with probed.worker():
            await _until(lambda: _emptied(probed))
            assert probed.fixture.on_disk() == {fid: {2, 3} for fid in fids}
        for number, fid in enumerate(fids):
            assert await probed.fixture.devids(fid) == {2, 3}
            assert {probed.fixture.place(devid, fid).read_bytes() for devid in (2, 3)} == {b"content %d" % number}


async def _emptied(probed: Cluster) -> bool:
    (stands,) = await probed.fixture.metadata.read(drain.read_status)
    left = sum([await probed.fixture.metadata.read(_count, table) for table in ("file_to_queue", "tawara_copy")])
    return not (stands.left or stands.copies or left)


async def _rebalanced(probed: Cluster) -> bool:
    metadata = probed.fixture.metadata
    state = RebalanceState.parse(await metadata.read(rebalance.state))
    left = sum([await metadata.read(_count, table) for table in ("file_to_queue", "tawara_copy")])
    return bool(state.time_finished) and not left
