"""A small store for the workers' tests: real storage nodes on loopback, a real database, no other process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tawara.metadata import cluster as rows
from tawara.metadata import files
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model import fid as fids
from tawara.model.cluster import Checksum, DeviceState, HashType
from tawara.model.files import NewFile
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.workers.monitor import Monitor
from tests.contract.empty_database import sqlite_with_tables

DOMAIN = "files"
Proxy = Callable[[str, tuple[str, int]], Awaitable[int]]
"""Gets a host's name and the address of its storage node; returns the port of a proxy to it on the same IP."""


@dataclass
class WorkersFixture:
    """Hosts h1, h2… with their devices, each a real storage node, and the arguments of a worker."""

    directory: Path
    metadata: SqliteMetadata
    nodes: NodeClient
    view: ClusterView
    wakeups: Wakeups
    storage: dict[str, StorageNode]
    dmid: int
    monitor: Monitor
    devices: Mapping[int, str]
    """Devid -> host name."""
    stack: AsyncExitStack = field(repr=False)

    def place(self, devid: int, fid: int) -> Path:
        """The path of a fid on a device."""
        return self.directory / self.devices[devid] / f"dev{devid}" / fids.relative_path(fid)

    def url(self, devid: int, fid: int) -> str:
        """A fid's URL on a device."""
        url = self.view.current.url(devid, fid)
        assert url
        return url

    async def store(
        self, key: bytes, content: bytes, *devids: int, classid: int = 0, checksum: Checksum | None = None
    ) -> int:
        """Put a file on these devices and close it, as a client does. Returns its fid."""
        now = int(time.time())
        fid = await self.metadata.write(
            files.open_upload, dmid=self.dmid, key=key, classid=classid, devids=devids, now=now
        )
        for devid in devids:
            await self.nodes.put(self.url(devid, fid), content, length=len(content))
        await self.metadata.write(
            files.close_upload,
            NewFile(
                fid=fid, dmid=self.dmid, key=key, classid=classid, length=len(content), devids=devids, checksum=checksum
            ),
            now=now,
        )
        self.wakeups.replicate.notify()
        return fid

    async def devids(self, fid: int) -> set[int]:
        """The devices of a fid according to the database."""
        stored = await self.metadata.read(files.find_fid, fid)
        assert stored, "no such fid"
        return set(stored.devids)

    async def new_class(self, name: str, mindevcount: int, policy: str, hashtype: HashType | None = None) -> int:
        """Create a class. Returns its classid."""
        classid = await self.metadata.write(
            rows.create_class, DOMAIN, name, mindevcount=mindevcount, replpolicy=policy, hashtype=hashtype
        )
        await self.view.refresh()
        return classid

    def on_disk(self) -> dict[int, set[int]]:
        """The files on the devices: fid -> devids, without unfinished uploads."""
        found: dict[int, set[int]] = {}
        for devid, host in self.devices.items():
            for path in (self.directory / host / f"dev{devid}").glob("[0-9]/*/*/*.fid"):
                found.setdefault(int(path.stem), set()).add(devid)
        return found


@asynccontextmanager
async def workers_fixture(
    directory: Path, layout: Mapping[str, list[int]], *, look: bool = True, proxy: Proxy | None = None
) -> AsyncIterator[WorkersFixture]:
    """Start a storage node for each host of `layout` (host -> devids), a database and, with `look`, a monitor.

    With a `proxy`, all connections from other hosts go through it.

    All hosts have their own port of 127.0.0.1 and, since they must differ in the database, their own address of 127/8.
    """
    async with AsyncExitStack() as stack:
        (directory / "tawara.db").write_bytes(await asyncio.to_thread(sqlite_with_tables))
        metadata = SqliteMetadata.open(directory / "tawara.db")
        stack.push_async_callback(metadata.close)
        nodes = await stack.enter_async_context(NodeClient())
        dmid = await metadata.write(rows.create_domain, DOMAIN)
        storage: dict[str, StorageNode] = {}
        for number, (host, devids) in enumerate(layout.items(), start=1):
            ip = f"127.0.0.{number}"
            for devid in devids:
                (directory / host / f"dev{devid}").mkdir(parents=True)
            storage[host] = StorageNode(directory / host, http=(ip, 0), side_channel=None, disk_health=False)
            await storage[host].start()
            stack.push_async_callback(storage[host].stop)
            port = await proxy(host, storage[host].http_address) if proxy else storage[host].http_address[1]
            hostid = await metadata.write(rows.create_host, host, ip=ip, http_port=port, state="alive")
            for devid in devids:
                await metadata.write(rows.create_device, devid, hostid)
        view = ClusterView(metadata, min_free_mb=1)
        await view.refresh()
        monitor = Monitor(view, metadata, nodes, side_channel_port=None)
        made = WorkersFixture(
            directory, metadata, nodes, view, Wakeups(), storage, dmid, monitor,
            {devid: host for host, devids in layout.items() for devid in devids}, stack,
        )  # fmt: skip
        if look:
            await monitor.start()
            stack.push_async_callback(monitor.stop)
            await view.wait_observed()
        yield made


async def eventually(true: Callable[[], object], *, within: float = 10.0) -> None:
    """Wait until `true()` is, and fail if that takes longer than `within` seconds."""
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.01)


async def set_state(fixture: WorkersFixture, devid: int, state: DeviceState) -> None:
    """Set a device's state as an operator does, and refresh the view."""
    await fixture.metadata.write(rows.set_device_state, fixture.devices[devid], devid, state)
    await fixture.view.renew()
