"""A worker is killed in each window between two steps, and another one repairs everything. A gate in front of a storage
node holds a request to widen the window; the workers are unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tawara.metadata import files
from tawara.metadata.contract import Transaction
from tests.probe.gate import Gate, Held
from tests.unit.workers.workers_fixture import WorkersFixture, workers_fixture

SMALL = b"a bale of rice"
LARGE = bytes(range(256)) * (3 * 4096)
TIMEOUT = 20.0


class Cluster:
    """A fixture whose storage nodes are behind gates and whose workers are other processes."""

    def __init__(self, fixture: WorkersFixture, gates: dict[str, Gate]) -> None:
        self.fixture, self.gates = fixture, gates
        self.presume_dead = 900
        """Seconds after which the workers presume that a device is dead."""

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process of workers; killed at the end if it still runs."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.probe.worker_process", str(self.fixture.directory / "tawara.db"),
            str(self.presume_dead),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert process.stdout
            assert await process.stdout.readline() == b"ready\n"
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def kill_while_held(self, host: str, request: bytes, held: Held) -> None:
        """Start a worker, and SIGKILL it when it has sent this request to this host."""
        gate = self.gates[host]
        gate.hold(request, held)
        async with self.worker() as worker:
            async with asyncio.timeout(TIMEOUT):
                await gate.caught.wait()
            worker.kill()
            async with asyncio.timeout(TIMEOUT):
                await gate.given_up.wait()
        gate.release()

    async def settle(self) -> dict[int, set[int]]:
        """Run another worker until nothing is left to do. Returns the state on which database and disks then agree."""
        async with self.worker() as worker:
            async with asyncio.timeout(TIMEOUT):
                while await self.fixture.metadata.read(_unfinished):
                    await asyncio.sleep(0.05)
            rows = await self.fixture.metadata.read(_replicas)
            assert self.fixture.on_disk() == rows
            asked = time.monotonic()
            worker.terminate()
            assert await worker.wait() == 0
            assert time.monotonic() - asked < 5
        return rows


async def _unfinished(tx: Transaction) -> int:
    count = 0
    for table in ("file_to_replicate", "file_to_delete2", "file_to_queue", "tawara_copy"):
        row = await tx.row(f"SELECT COUNT(*) FROM {table}")
        count += row[0] if row else 0
    return count


async def _replicas(tx: Transaction) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for fid, devid in await tx.rows("SELECT fid, devid FROM file_on"):
        found.setdefault(fid, set()).add(devid)
    return found


@asynccontextmanager
async def cluster(directory: Path, layout: dict[str, list[int]]) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        gates: dict[str, Gate] = {}

        async def proxy(host: str, node: tuple[str, int]) -> int:
            gates[host] = await stack.enter_async_context(Gate(node[0], node))
            return gates[host].port

        fixture = await stack.enter_async_context(workers_fixture(directory, layout, look=False, proxy=proxy))
        await fixture.monitor.refresh_devices()  # the devices are known before files are on them, as in any store
        yield Cluster(fixture, gates)


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("host", "request_line", "held"),
    [
        ("h1", rb"GET /dev1/\d/", Held.BEFORE),
        ("h1", rb"GET /dev1/\d/", Held.AFTER),
        ("h2", rb"PUT /dev2/\d/", Held.BEFORE),
        ("h2", rb"PUT /dev2/\d/", Held.HALF_WAY),
        ("h2", rb"PUT /dev2/\d/", Held.AFTER),
    ],
)
async def test_killed_while_copying(tmp_path: Path, host: str, request_line: bytes, held: Held, content: bytes) -> None:
    """Killed before, during or after a copy: the file gets its copies, and no data is left without a row."""
    async with cluster(tmp_path, {"h1": [1], "h2": [2]}) as probe:
        fid = await probe.fixture.store(b"key", content, 1)
        await probe.kill_while_held(host, request_line, held)
        assert await probe.settle() == {fid: {1, 2}}
        assert probe.fixture.place(1, fid).read_bytes() == probe.fixture.place(2, fid).read_bytes() == content


@pytest.mark.parametrize("held", [Held.BEFORE, Held.AFTER])
async def test_killed_while_trimming(tmp_path: Path, held: Held) -> None:
    """Killed before or after it deleted a surplus replica: the surplus is gone in the end, and only that."""
    async with cluster(tmp_path, {"h1": [1, 4], "h2": [2]}) as probe:
        fid = await probe.fixture.store(b"key", SMALL, 1, 4, 2)
        await probe.kill_while_held("h1", rb"DELETE /dev\d/\d/", held)
        left = (await probe.settle())[fid]
        assert len(left) == 2
        assert 2 in left


@pytest.mark.parametrize("held", [Held.BEFORE, Held.AFTER])
async def test_killed_while_deleting(tmp_path: Path, held: Held) -> None:
    """Killed before or after it deleted a replica of a deleted file: all its data is deleted, and other files stay."""
    async with cluster(tmp_path, {"h1": [1], "h2": [2]}) as probe:
        kept = await probe.fixture.store(b"kept", SMALL, 1, 2)
        await probe.fixture.store(b"key", SMALL, 1, 2)
        await probe.fixture.metadata.write(files.delete, probe.fixture.dmid, b"key", now=int(time.time()))
        await probe.kill_while_held("h2", rb"DELETE /dev2/\d/", held)
        assert await probe.settle() == {kept: {1, 2}}


@pytest.mark.parametrize("held", [Held.BEFORE, Held.AFTER])
async def test_file_deleted_while_it_is_copied_and_the_worker_killed(tmp_path: Path, held: Held) -> None:
    """A file that is deleted during a copy that is never finished leaves nothing behind."""
    async with cluster(tmp_path, {"h1": [1], "h2": [2]}) as probe:
        await probe.fixture.store(b"key", SMALL, 1)
        gate = probe.gates["h2"]
        gate.hold(rb"PUT /dev2/\d/", held)
        async with probe.worker() as worker:
            async with asyncio.timeout(TIMEOUT):
                await gate.caught.wait()
            await probe.fixture.metadata.write(files.delete, probe.fixture.dmid, b"key", now=int(time.time()))
            worker.kill()
            async with asyncio.timeout(TIMEOUT):
                await gate.given_up.wait()
        gate.release()
        assert await probe.settle() == {}


async def test_file_deleted_while_it_is_copied(tmp_path: Path) -> None:
    """The same when the worker survives and finishes its copy after the other replica was deleted."""
    async with cluster(tmp_path, {"h1": [1], "h2": [2]}) as probe:
        fid = await probe.fixture.store(b"key", SMALL, 1)
        gate = probe.gates["h2"]
        gate.hold(rb"PUT /dev2/\d/", Held.AFTER)
        async with probe.worker():
            async with asyncio.timeout(TIMEOUT):
                await gate.caught.wait()
                await probe.fixture.metadata.write(files.delete, probe.fixture.dmid, b"key", now=int(time.time()))
                while 1 in probe.fixture.on_disk().get(fid, ()):
                    await asyncio.sleep(0.02)
            assert probe.fixture.on_disk() == {fid: {2}}
            gate.release()
            async with asyncio.timeout(TIMEOUT):
                while probe.fixture.on_disk():
                    await asyncio.sleep(0.02)
        assert await probe.settle() == {}


async def test_killed_under_load(tmp_path: Path) -> None:
    """Killed repeatedly while it copies and deletes hundreds of files: none is lost, none is left over."""
    async with cluster(tmp_path, {"h1": [1, 2], "h2": [3, 4], "h3": [5]}) as probe:
        fixture = probe.fixture
        await fixture.view.refresh()
        fids = await asyncio.gather(
            *(fixture.store(b"%d" % number, b"%d" % number, 1 + number % 5) for number in range(300))
        )
        for pause in (1.0, 1.3, 1.6):
            async with probe.worker():
                await asyncio.sleep(pause)
            for number in range(int(pause * 100), int(pause * 100) + 30):
                await fixture.metadata.write(files.delete, fixture.dmid, b"%d" % number, now=int(time.time()))
        rows = await probe.settle()
        deleted = {*range(100, 190)}
        assert rows.keys() == {fid for number, fid in enumerate(fids) if number not in deleted}
        for number, fid in enumerate(fids):
            if number not in deleted:
                assert len({fixture.devices[devid] for devid in rows[fid]}) == 2
                for devid in rows[fid]:
                    assert fixture.place(devid, fid).read_bytes() == b"%d" % number
