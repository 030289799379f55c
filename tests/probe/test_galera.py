"""A Galera cluster with a tracker on each server: no stale answer, no lost write, whichever server is killed."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from tawara.metadata import cluster, files, replicas, schema_version
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.model.errors import DatabaseUnavailable, Db
from tawara.model.files import NewFile
from tests.contract.galera import GaleraServer, galera
from tests.contract.servers import PASSWORD
from tests.contract.test_races import Clients, check

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[GaleraServer]]:
    """The cluster, started once for all tests."""
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    with galera() as started:
        yield started


@pytest.fixture
def database(servers: list[GaleraServer]) -> Iterator[str]:
    """The name of an empty database that all servers have."""
    name = f"d{uuid.uuid4().hex[:8]}"
    servers[0].create(name)
    yield name
    servers[0].drop(name)


@pytest.fixture
async def trackers(servers: list[GaleraServer], database: str) -> AsyncIterator[list[Metadata]]:
    """The database as three trackers have it open, one by each server."""
    async with AsyncExitStack() as stack:
        opened = []
        for server in servers:
            opened.append(await open_metadata(server.url(database)))
            stack.push_async_callback(opened[-1].close)
        yield opened


async def test_three_trackers_first_started_at_once(servers: list[GaleraServer]) -> None:
    """On an empty database all of them start and find one complete schema."""
    for _ in range(5):
        name = f"d{uuid.uuid4().hex[:8]}"
        servers[0].create(name)
        async with asyncio.timeout(60):
            opened = await asyncio.gather(
                *(open_metadata(server.url(name)) for server in servers for _ in range(2)), return_exceptions=True
            )
        try:
            for metadata in opened:
                assert not isinstance(metadata, BaseException), opened
                assert (await metadata.read(cluster.load)).settings["schema_version"] == "17"
            first, *_, last = opened
            assert not isinstance(first, BaseException)
            assert not isinstance(last, BaseException)
            await first.write(cluster.create_domain, "d")
            assert "d" in (await last.read(cluster.load)).domains
        finally:
            for metadata in opened:
                if not isinstance(metadata, BaseException):
                    await metadata.close()
            servers[0].drop(name)


async def test_concurrent_creation_drops_nothing(
    servers: list[GaleraServer], database: str, trackers: list[Metadata]
) -> None:
    """A tracker that finds a database that another seems to be creating leaves its content unchanged."""
    await trackers[0].write(cluster.create_domain, "d")
    await store(trackers[0], b"k")
    await trackers[0].write(cluster.set_setting, "tawara_founding", str(schema_version.TAWARA))
    late = await open_metadata(servers[1].url(database))
    try:
        assert await late.read(files.find, 1, b"k") is not None
        assert await late.read(cluster.get_setting, "tawara_founding") is None
    finally:
        await late.close()


async def store(metadata: Metadata, key: bytes) -> int:
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1,), now=1)
    await metadata.write(files.close_upload, NewFile(fid=fid, dmid=1, key=key, classid=0, length=1, devids=(1,)), now=1)
    return fid


async def add_replica_uncounted(tx: Transaction, fid: int, devid: int) -> None:
    """Add a replica and leave `file.devcount` wrong, as a MogileFS may have."""
    await tx.run("INSERT INTO file_on (fid, devid) VALUES (?, ?)", fid, devid)


async def fid_in_snapshot(tx: Transaction, key: bytes) -> int | None:
    """The fid of a key by a transaction of several statements."""
    await tx.row("SELECT field FROM server_settings LIMIT 1")
    found = await files.find(tx, 1, key)
    return None if found is None else found.fid


async def test_acknowledged_changes_are_seen_by_every_tracker(trackers: list[Metadata]) -> None:
    """Under load, a write that one server has acknowledged is read from another at once."""
    busy = asyncio.Event()

    async def load(number: int) -> None:
        while not busy.is_set():
            await store(trackers[number % 3], b"load/%d" % random.randrange(1000))

    loads = [asyncio.create_task(load(number)) for number in range(12)]
    try:
        stale = 0
        for number in range(300):
            key = b"k%d" % number
            writer, reader = random.sample(trackers, 2)
            fid = await store(writer, key)
            found = await reader.read(files.find, 1, key)
            stale += found is None or found.fid != fid
            stale += await random.choice(trackers).read(fid_in_snapshot, key) != fid
            assert await reader.write(files.delete, 1, key, now=1) == fid
        assert stale == 0
    finally:
        busy.set()
        await asyncio.gather(*loads)


@pytest.mark.parametrize("seed", range(8))
async def test_changes_of_a_key_are_linearizable(trackers: list[Metadata], seed: int) -> None:
    """Concurrent changes of a few keys at three primaries have an order that explains every result."""
    keys = [b"a", b"b", b"c"]
    clients = Clients(trackers, seed)
    await asyncio.gather(*(clients.client(keys, 12) for _ in range(6)))
    await check(clients, keys)
    assert not [call for call in clients.told if call.answer == "lost"]


async def test_two_workers_never_drop_the_last_two_replicas(trackers: list[Metadata]) -> None:
    """Of two workers at different servers that each drop a replica of one file, one is refused."""
    for number in range(40):
        fid = await store(trackers[0], b"k%d" % number)
        await trackers[0].write(add_replica_uncounted, fid, 2)
        first, second = random.sample(trackers, 2)
        both = frozenset({1, 2})
        dropped = await asyncio.gather(
            first.write(replicas.remove_surplus_replica, fid, 1, among=both, now=1),
            second.write(replicas.remove_surplus_replica, fid, 2, among=both, now=1),
        )
        assert sorted(dropped) == [False, True]
        assert len(await trackers[0].read(replicas.devices_of, fid)) == 1


async def test_a_tracker_whose_server_is_killed(servers: list[GaleraServer], trackers: list[Metadata]) -> None:
    """It reports its database as unavailable at once; the others continue; it recovers with its server."""
    fid = await store(trackers[2], b"k")
    await asyncio.to_thread(servers[2].kill)
    try:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                async with asyncio.timeout(3):
                    await trackers[2].write(files.delete, 1, b"k", now=1)
        await store(trackers[0], b"k2")
    finally:
        await asyncio.to_thread(servers[2].start)
    async with asyncio.timeout(30):
        while True:
            try:
                found = await trackers[2].read(files.find, 1, b"k")
                break
            except Db:
                await asyncio.sleep(0.1)
    assert found is not None
    assert found.fid == fid
    assert await trackers[2].read(files.find, 1, b"k2") is not None


async def test_a_url_of_three_servers(servers: list[GaleraServer], database: str) -> None:
    """A store with one URL of all servers uses the first, the next while that is unavailable, and loses nothing."""
    addresses = ",".join(server.url("").partition("@")[2].strip("/") for server in servers)
    metadata = await open_metadata(f"mysql://tawara@{addresses}/{database}")
    try:
        await store(metadata, b"before")
        await asyncio.to_thread(servers[0].kill)
        try:
            await store(metadata, b"meanwhile")
            assert await metadata.read(files.find, 1, b"before") is not None
        finally:
            await asyncio.to_thread(servers[0].start)
        await store(metadata, b"after")
    finally:
        await metadata.close()


async def test_a_server_disconnected_from_its_cluster(servers: list[GaleraServer], trackers: list[Metadata]) -> None:
    """Without a majority nothing is acknowledged and the tracker reports the reason; later it recovers."""
    await store(trackers[0], b"before")
    told: list[int] = []

    async def until(done: Callable[[Db | None], bool]) -> None:
        async with asyncio.timeout(90):
            failure: Db | None = None
            while True:
                try:
                    told.append(await store(trackers[0], b"k%d" % len(told)))
                    failure = None
                except Db as error:
                    failure = error
                if done(failure):
                    return
                await asyncio.sleep(0.1)

    for server in servers[1:]:
        server.pause()
    try:
        await until(lambda failure: "Galera" in str(failure))
    finally:
        for server in servers[1:]:
            server.resume()
    await until(lambda failure: failure is None)
    for number, fid in enumerate(told):
        found = await trackers[0].read(files.find, 1, b"k%d" % number)
        assert found is not None
        assert found.fid == fid
