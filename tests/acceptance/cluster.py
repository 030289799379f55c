"""A small store in the test's event loop: database, storage nodes, monitor, trackers, optionally workers.

    async with cluster(tmp_path, hosts=2, devices=2) as store, store.client() as client:
        await client.put(DOMAIN, "key", b"value")

Host `hI` is a storage node on 127.0.0.I with the devices (I-1)*devices+1 and on, below `directory/hI`; all ports are
free ones. The domain `d` has the classes `default` (two copies on two hosts), `one` (one copy) and `md5` (one copy,
with checksums). Devices are writeable when the block begins. `run` gives the same to a test without a loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tawara.client import AsyncClient
from tawara.metadata import cluster as rows
from tawara.metadata.contract import Transaction
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model import fid as fids
from tawara.model.cluster import HashType, HostState
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.tracker.server import TrackerServer
from tawara.workers.monitor import Monitor
from tawara.workers.service import Workers, WorkersOptions
from tests.contract.empty_database import sqlite_with_tables

DOMAIN = "d"


@dataclass
class Cluster:
    """The parts of a running store; tests may stop and start each."""

    directory: Path
    devices_per_host: int
    metadata: SqliteMetadata
    view: ClusterView
    wakeups: Wakeups
    node_client: NodeClient
    nodes: list[StorageNode] = field(default_factory=list)
    """The storage node of host `hI` is at I-1."""
    servers: list[TrackerServer] = field(default_factory=list)
    monitor: Monitor | None = None
    workers: Workers | None = None

    @property
    def trackers(self) -> str:
        """The trackers' addresses in the form that clients accept."""
        return ",".join("{}:{}".format(*server.address) for server in self.servers)

    @asynccontextmanager
    async def client(self, trackers: str | None = None) -> AsyncIterator[AsyncClient]:
        """A client with short timeouts; of all trackers, unless others are named."""
        async with AsyncClient(
            trackers or self.trackers, connect_timeout=1, reply_timeout=5, stall_timeout=5
        ) as client:
            yield client

    async def add_tracker(self, port: int = 0) -> TrackerServer:
        """Start another tracker."""
        server = TrackerServer(
            self.metadata,
            self.view,
            self.node_client,
            self.wakeups,
            address=("127.0.0.1", port),
            side_channel_port=self.nodes[0].side_address[1],
        )
        await server.start()
        self.servers.append(server)
        return server

    def path(self, devid: int, fid: int) -> Path:
        """The path of a replica on its device."""
        host = (devid - 1) // self.devices_per_host + 1
        return self.directory / f"h{host}" / fids.path(devid, fid)[1:]

    def replicas(self, fid: int) -> list[Path]:
        """The replicas on the disks, independent of the database."""
        count = len(self.nodes) * self.devices_per_host
        return [path for devid in range(1, count + 1) if (path := self.path(devid, fid)).exists()]

    async def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until a condition holds; fail on a timeout."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def cluster(
    directory: Path,
    *,
    hosts: int = 2,
    devices: int = 2,
    trackers: int = 1,
    workers: bool = False,
    disk_health: bool = False,
) -> AsyncIterator[Cluster]:
    """Start a store below `directory`; everything is stopped at the end. With `disk_health` the nodes run smartctl."""
    async with AsyncExitStack() as stack:
        (directory / "tawara.db").write_bytes(await asyncio.to_thread(sqlite_with_tables))
        metadata = SqliteMetadata.open(directory / "tawara.db")
        stack.push_async_callback(metadata.close)
        view = ClusterView(metadata)
        node_client = await stack.enter_async_context(NodeClient(connect_timeout=1, stall_timeout=5))
        store = Cluster(directory, devices, metadata, view, Wakeups(), node_client)
        side_port = 0
        for number in range(1, hosts + 1):
            docroot = directory / f"h{number}"
            for devid in _devids(number, devices):
                (docroot / f"dev{devid}").mkdir(parents=True)
            ip = f"127.0.0.{number}"
            node = StorageNode(docroot, http=(ip, 0), side_channel=(ip, side_port), disk_health=disk_health)
            await node.start()
            stack.push_async_callback(node.stop)
            side_port = node.side_address[1]
            store.nodes.append(node)
        await metadata.write(_set_up, [node.http_address for node in store.nodes], devices)
        await view.refresh()
        store.monitor = Monitor(view, metadata, node_client, side_channel_port=side_port)
        await store.monitor.start()
        stack.push_async_callback(store.monitor.stop)
        await view.wait_observed()
        stack.push_async_callback(_stop_all, store.servers)
        for _ in range(trackers):
            await store.add_tracker()
        if workers:
            options = WorkersOptions(side_channel_port=side_port, sweep_period=1.0)
            store.workers = Workers(metadata, view, node_client, store.wakeups, options)
            await store.workers.start()
            stack.push_async_callback(store.workers.stop)
        yield store


@contextmanager
def run(
    directory: Path, *, hosts: int = 2, devices: int = 2, workers: bool = False, disk_health: bool = False
) -> Iterator[Cluster]:
    """The same in a thread with its own event loop, for blocking tests. Only addresses and paths may be used."""
    ready = threading.Event()
    outcome: list[Cluster | BaseException] = []
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def live() -> None:
        try:
            async with cluster(
                directory, hosts=hosts, devices=devices, workers=workers, disk_health=disk_health
            ) as store:
                outcome.append(store)
                ready.set()
                await ended.wait()
        except BaseException as error:
            outcome.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),), name="cluster")
    thread.start()
    ready.wait()
    try:
        assert isinstance(outcome[0], Cluster), outcome[0]
        yield outcome[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _devids(host: int, devices: int) -> range:
    return range((host - 1) * devices + 1, host * devices + 1)


async def _set_up(tx: Transaction, addresses: list[tuple[str, int]], devices: int) -> None:
    await rows.create_domain(tx, DOMAIN)
    await rows.create_class(tx, DOMAIN, "one", mindevcount=1)
    await rows.create_class(tx, DOMAIN, "md5", mindevcount=1, hashtype=HashType.MD5)
    for number, (ip, port) in enumerate(addresses, 1):
        hostid = await rows.create_host(tx, f"h{number}", ip=ip, http_port=port, state=HostState.ALIVE)
        for devid in _devids(number, devices):
            await rows.create_device(tx, devid, hostid)


async def _stop_all(servers: list[TrackerServer]) -> None:
    for server in servers:
        await server.stop()
