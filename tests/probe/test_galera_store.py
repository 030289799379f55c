"""A store on a Galera cluster, a tracker at each of its servers, under load, while a server is killed and rejoins."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tawara.client import AsyncClient
from tawara.model.errors import UnavailableError, UnknownKey
from tests.acceptance.daemons import DOMAIN, Daemon, SeparateDaemons, separate_daemons
from tests.acceptance.store import free_ports
from tests.contract.galera import GaleraServer, galera
from tests.contract.servers import PASSWORD

WRITERS = 6


@pytest.fixture(scope="module")
def servers() -> Iterator[list[GaleraServer]]:
    """The cluster, started once for all tests."""
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    with galera() as started:
        yield started


@dataclass
class Trackers:
    """A tracker at each server of the database, and the workers, as daemons of one store; two storage nodes."""

    store: SeparateDaemons
    servers: list[GaleraServer]
    database: str
    addresses: list[str] = field(default_factory=list)
    daemons: list[Daemon] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, (server, port) in enumerate(zip(self.servers, free_ports(len(self.servers)), strict=True)):
            address, url = f"127.0.0.1:{port}", server.url(self.database)
            arguments = ["tracker", f"--set=tracker.listen={address}", f"--set=store.database={url}"]
            self.daemons.append(Daemon(f"at{number}", arguments, self.store.directory))
            self.addresses.append(address)
        self.store.tracker = self.addresses[0]
        self.store.daemons |= {daemon.name: daemon for daemon in self.daemons}

    async def start(self) -> None:
        """Start the nodes, then all trackers at once on the empty database, then the workers."""
        for number in (1, 2):
            await asyncio.to_thread(self.store.daemons[f"node{number}"].start)
        async with asyncio.TaskGroup() as group:
            for daemon in self.daemons:
                group.create_task(asyncio.to_thread(daemon.start))
        await asyncio.to_thread(self.store.describe)
        await asyncio.to_thread(self.store.daemons["workers"].start)


@dataclass
class Load:
    """Writers with separate keys, and their results; each write is read from another tracker."""

    addresses: list[str]
    stored: dict[str, bytes] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    writes: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, number: int) -> None:
        rng = random.Random(number)
        async with AsyncClient(self.addresses, connect_timeout=1, reply_timeout=15) as client:
            readers = [AsyncClient(address, connect_timeout=1, reply_timeout=15) for address in self.addresses]
            try:
                while not self.ended.is_set():
                    key, content = f"{number}/{rng.randrange(40)}", rng.randbytes(rng.choice((10, 1000, 20_000)))
                    self.stored.pop(key, None)  # until it is answered either content is right
                    try:
                        told = await client.put(DOMAIN, key, content)
                    except UnavailableError:
                        continue
                    self.stored[key] = content
                    self.writes += 1
                    try:
                        seen = (await rng.choice(readers).info(DOMAIN, key)).fid
                    except UnknownKey:
                        seen = 0
                    except UnavailableError:
                        continue  # the tracker whose server is down
                    if seen != told.fid:
                        self.stale.append(key)
            finally:
                for reader in readers:
                    await reader.close()

    async def some_more(self, writers: list[asyncio.Task[None]], count: int = 200) -> None:
        wanted = self.writes + count
        async with asyncio.timeout(120):
            while self.writes < wanted:
                for task in writers:
                    assert not task.done() or task.result() is None
                await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(330)
async def test_a_server_of_the_database_is_killed_under_load(tmp_path: Path, servers: list[GaleraServer]) -> None:
    """No acknowledged write is lost, no tracker's answer is stale, and clients skip the one without a database."""
    database = f"d{uuid.uuid4().hex[:8]}"
    servers[0].create(database)
    every = ",".join(server.url("").partition("@")[2].strip("/") for server in servers)
    with separate_daemons(tmp_path, f"mysql://tawara@{every}/{database}", processes=1) as store:
        trackers = Trackers(store, servers, database)
        await trackers.start()
        load = Load(trackers.addresses)
        writers = [asyncio.create_task(load.write(number)) for number in range(WRITERS)]
        try:
            await load.some_more(writers)
            await asyncio.to_thread(servers[1].kill)
            try:
                await load.some_more(writers)
                for number in range(10):
                    async with AsyncClient(trackers.addresses) as client:
                        client._trackers._trackers.sort(key=lambda each: str(each) != trackers.addresses[1])
                        await client.put(DOMAIN, f"passed over/{number}", b"x")
                        assert client._trackers.addresses[-1] == ("127.0.0.1", int(trackers.addresses[1][10:]))
            finally:
                await asyncio.to_thread(servers[1].start)
            await load.some_more(writers)
        finally:
            load.ended.set()
            await asyncio.gather(*writers)
        assert load.stale == []
        for address in trackers.addresses:
            async with AsyncClient(address) as client:
                for key, content in load.stored.items():
                    assert await client.get(DOMAIN, key) == content
