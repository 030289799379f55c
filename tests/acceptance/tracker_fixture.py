"""A tracker over the wire, with a real database file and a real storage node, all in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tawara.metadata import cluster
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import DeviceState, HashType, HostState, Observation, Observed
from tawara.model.limits import Limits
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.tracker.server import TrackerServer
from tests.contract.empty_database import sqlite_with_tables

SEEN = {1: Observation(Observed.WRITEABLE, 0.4, True), 2: Observation(Observed.READABLE)}


async def _set_up(tx: Transaction, http_port: int) -> None:
    """Domain `d` with class `md5`; host `one` with dev1, for new files, and dev2, which is read-only."""
    await cluster.create_domain(tx, "d")
    await cluster.create_class(tx, "d", "md5", mindevcount=1, hashtype=HashType.MD5)
    await cluster.create_host(tx, "one", ip="127.0.0.1", http_port=http_port, state=HostState.ALIVE)
    await cluster.create_device(tx, 1, 1)
    await cluster.create_device(tx, 2, 1, DeviceState.READONLY)
    await cluster.record_usage(tx, {1: (1000, 100), 2: (1000, 100)}, now=1)


@dataclass
class StoreFixture:
    """The parts of a small store without workers."""

    server: TrackerServer
    node: StorageNode
    metadata: Metadata
    view: ClusterView
    http: aiohttp.ClientSession

    @property
    def node_name(self) -> str:
        """HOST:PORT of the storage node."""
        return "{}:{}".format(*self.node.http_address)

    @property
    def tracker_name(self) -> str:
        """HOST:PORT of the tracker."""
        return "{}:{}".format(*self.server.address)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection to the tracker."""
        return await asyncio.open_connection(*self.server.address, limit=2**22)

    async def ask(self, *lines: bytes) -> bytes:
        """Send lines on a new connection; return all that is received until the tracker has answered them all."""
        reader, writer = await self.connect()
        try:
            writer.write(b"".join(line + b"\n" for line in lines))
            writer.write_eof()
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def on_node(self, method: str, path: str, body: bytes = b"") -> int:
        """Send an HTTP request to the storage node; return its status."""
        async with self.http.request(method, f"http://{self.node_name}{path}", data=body or None) as answer:
            return answer.status

    async def store(self, key: bytes, body: bytes = b"hello", *, fid: int) -> None:
        """Store a file through the tracker, with the next fid."""
        path = f"/dev1/0/000/000/{fid:010d}.fid"
        url = f"http://{self.node_name}{path}".encode()
        opened = await self.ask(b"create_open domain=d&key=" + key)
        assert opened == b"OK fid=%d&devid=1&path=%s\r\n" % (fid, url)
        assert await self.on_node("PUT", path, body) == 200
        closed = await self.ask(b"create_close domain=d&fid=%d&devid=1&key=%s&path=%s" % (fid, key, url))
        assert closed == b"OK \r\n"


@asynccontextmanager
async def store_fixture(
    directory: Path, *, limits: Limits | None = None, url: str | None = None
) -> AsyncIterator[StoreFixture]:
    """A store below `directory`, removed afterwards; on SQLite, or on the empty database at `url`."""
    if url is None:
        (directory / "tawara.db").write_bytes(await asyncio.to_thread(sqlite_with_tables))
    for device in ("dev1", "dev2"):
        (directory / "disks" / device).mkdir(parents=True)
    node = StorageNode(directory / "disks", http=("127.0.0.1", 0), side_channel=("127.0.0.1", 0), disk_health=False)
    await node.start()
    metadata = await open_metadata(url or f"sqlite://{directory}/tawara.db")
    view = ClusterView(metadata)
    await metadata.write(_set_up, node.http_address[1])
    await view.refresh()
    view.observe(SEEN)
    async with NodeClient() as nodes, aiohttp.ClientSession() as http:
        server = TrackerServer(
            metadata,
            view,
            nodes,
            Wakeups(),
            address=("127.0.0.1", 0),
            limits=limits,
            side_channel_port=node.side_address[1],
        )
        await server.start()
        try:
            yield StoreFixture(server, node, metadata, view, http)
        finally:
            await server.stop()
            await metadata.close()
            await node.stop()
