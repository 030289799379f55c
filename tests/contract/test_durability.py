"""Crashes of the process that makes a change, of the database server, and of connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tawara.metadata import cluster, files
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.metadata.server import NoReply, ServerLimits
from tawara.model.errors import DatabaseUnavailable, Db
from tawara.model.files import NewFile
from tests.contract.servers import Server

Opener = Callable[[], Awaitable[Metadata]]
Servers = Callable[[str], Server]

CREATOR = """
import asyncio, itertools, sys
from tawara.metadata import files
from tawara.metadata.open import open_metadata
from tawara.model.files import NewFile

async def client(metadata, numbers):
    for number in numbers:
        key = b"k%d" % number
        fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1,), now=1)
        await metadata.write(files.close_upload, NewFile(fid, 1, key, 1, 0, (1,)), now=1)
        print(number, fid, flush=True)

async def main():
    metadata = await open_metadata(sys.argv[1])
    numbers = itertools.count()
    await asyncio.gather(*(client(metadata, numbers) for _ in range(16)))

asyncio.run(main())
"""


async def create(metadata: Metadata, key: bytes) -> int:
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1,), now=1)
    await metadata.write(files.close_upload, NewFile(fid=fid, dmid=1, key=key, classid=0, length=1, devids=(1,)), now=1)
    return fid


async def test_acknowledged_files_survive_a_killed_process(url: str, opener: Opener) -> None:
    """Every acknowledged file exists after the process that closed it was killed during further closes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CREATOR, url), stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stdout is not None
    told = [await process.stdout.readline() for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    told += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    metadata = await opener()
    for line in told:
        if not line.endswith(b"\n"):
            continue
        number, fid = line.split()
        found = await metadata.read(files.find, 1, b"k" + number)
        assert found is not None
        assert found.fid == int(fid)
        assert found.devids == (1,)


@pytest.fixture
def server(engine: str, servers: Servers) -> Server:
    """The server of the engine under test."""
    return servers(engine)


of_servers = pytest.mark.parametrize("engine", ["postgresql", "mysql"], indirect=True)


@of_servers
async def test_acknowledged_files_survive_a_killed_server(metadata: Metadata, server: Server) -> None:
    """A server that is killed under load and restarted has every acknowledged file, and no partial one."""
    told: dict[bytes, int] = {}

    async def client(name: int) -> None:
        for number in range(10_000):
            key = b"%d/%d" % (name, number)
            try:
                told[key] = await create(metadata, key)
            except Db:
                return

    clients = asyncio.gather(*(client(name) for name in range(16)))
    while len(told) < 300:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(server.kill)
    await asyncio.wait_for(clients, 15)
    await asyncio.to_thread(server.start)
    for key, fid in told.items():
        found = await metadata.read(files.find, 1, key)
        assert found is not None
        assert (found.fid, found.devids) == (fid, (1,))

    async def halves(tx: Transaction) -> int:
        row = await tx.row("SELECT COUNT(*) FROM file f LEFT JOIN file_on o ON o.fid = f.fid WHERE o.fid IS NULL")
        assert row is not None
        return int(row[0])

    assert await metadata.read(halves) == 0


@of_servers
async def test_a_database_that_is_down(metadata: Metadata, server: Server) -> None:
    """While the server is down every call fails with Db, soon; when it is back, calls succeed."""
    await create(metadata, b"k")
    await asyncio.to_thread(server.kill)
    try:
        began = time.monotonic()
        answers = await asyncio.gather(
            metadata.read(files.find, 1, b"k"),
            metadata.read(cluster.load),
            metadata.write(files.open_upload, dmid=1, key=b"x", classid=0, devids=(1,), now=1),
            metadata.write(files.delete, 1, b"k", now=1),
            return_exceptions=True,
        )
        assert all(isinstance(each, Db) for each in answers)
        assert time.monotonic() - began < 9
    finally:
        await asyncio.to_thread(server.start)
    assert await metadata.read(files.find, 1, b"k") is not None
    assert await metadata.write(files.delete, 1, b"k", now=1) > 0


@of_servers
async def test_a_database_that_hangs(url: str, server: Server) -> None:
    """While the server hangs, every call fails with Db within the time limit; afterwards calls succeed."""
    metadata = await open_metadata(url, pace=ServerLimits(answer=1.0, connect=0.8))
    try:
        fid = await create(metadata, b"k")
        server.pause()
        try:
            began = time.monotonic()
            answers = await asyncio.gather(
                *(metadata.read(files.find, 1, b"k") for _ in range(20)),
                *(create(metadata, b"k%d" % n) for n in range(20)),
                *(metadata.write(cluster.set_setting, "x", "1") for _ in range(20)),
                return_exceptions=True,
            )
            assert {type(each) for each in answers} <= {DatabaseUnavailable, NoReply}
            assert time.monotonic() - began < 9
        finally:
            server.resume()
        for _ in range(50):
            try:
                found = await metadata.read(files.find, 1, b"k")
                break
            except Db:
                await asyncio.sleep(0.05)
        assert found is not None
        assert found.fid == fid
        await metadata.write(cluster.set_setting, "x", "2")
    finally:
        await metadata.close()


@of_servers
async def test_a_restart_between_two_calls_is_not_noticed(metadata: Metadata, server: Server) -> None:
    """Idle connections that were lost are opened again, and the call is repeated."""
    for _ in range(2):
        await asyncio.gather(*(create(metadata, b"k%d" % n) for n in range(20)))
        await asyncio.gather(*(metadata.read(cluster.get_setting, "x") for _ in range(20)))
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        assert await metadata.read(cluster.get_setting, "schema_version") == "17"
        assert await metadata.read(files.find, 1, b"k1") is not None
        await metadata.write(cluster.set_setting, "x", "1")


@of_servers
async def test_a_lock_that_is_never_released(metadata: Metadata, url: str) -> None:
    """A change that waits for another's lock fails with Db within the time limit, and leaves nothing behind."""
    await metadata.write(cluster.set_setting, "held", "0")
    holding, release = asyncio.Event(), asyncio.Event()

    async def hold(tx: Transaction) -> None:
        await tx.row(f"SELECT value FROM server_settings WHERE field = 'held'{tx.dialect.for_update}")
        holding.set()
        await release.wait()

    impatient = await open_metadata(url, pace=ServerLimits(answer=1.0))
    holder = asyncio.create_task(metadata.write(hold))
    try:
        await holding.wait()
        began = time.monotonic()
        with pytest.raises(Db):
            await impatient.write(cluster.set_setting, "held", "1")
        assert time.monotonic() - began < 9
        release.set()
        await holder
        assert await impatient.read(cluster.get_setting, "held") == "0"
        await impatient.write(cluster.set_setting, "held", "2")
    finally:
        release.set()
        await impatient.close()


@pytest.mark.slow
def test_concurrent_openers_share_a_new_file(tmp_path: Path) -> None:
    """Several processes that open a SQLite database that does not exist yet all succeed, and share one."""
    path = tmp_path / "new.db"
    script = (
        "import asyncio, sys\n"
        "from tawara.metadata import cluster\n"
        "from tawara.metadata.open import open_metadata\n"
        "async def main():\n"
        "    metadata = await open_metadata('sqlite://' + sys.argv[1])\n"
        "    await metadata.write(cluster.create_domain, sys.argv[2])\n"
        "    await metadata.close()\n"
        "asyncio.run(main())\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), f"d{number}"]) for number in range(6)]
    try:
        assert [each.wait() for each in running] == [0] * 6
    finally:
        for each in running:
            each.kill()
            each.wait()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT COUNT(*) FROM domain").fetchone() == (6,)
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]
