"""A store whose database will be lost: devices on two storage nodes, one of another program, and concurrent changes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tawara.metadata import access_keys, files, journals, replicas
from tawara.metadata import cluster as rows
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.metadata.server import ServerLimits
from tawara.metadata.view import ClusterView
from tawara.model import fid as fids
from tawara.model.access.creation import new_key
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import Db, TawaraError
from tawara.model.files import NewFile
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.workers.journal_writer import JournalWriter
from tawara.workers.monitor import Monitor
from tests.mogilefsd.plain_node import plain_node

KEYS = 600
TIMEOUT = 120.0
"""Seconds that a loaded server may take to answer; the test is about loss, not about time."""
DEVICES = (1, 2, 3, 4)
TABLES = {
    "domain": "dmid, namespace",
    "class": "dmid, classid, classname, mindevcount, hashtype, replpolicy",
    "host": "hostid, status, http_port, hostname, hostip",
    "device": "devid, hostid, status, weight",
    "file": "fid, dmid, KEY, length, classid, devcount",
    "file_on": "fid, devid",
    "tawara_file": "fid, stored_at, content_type",
    "checksum": "fid, hashtype, checksum",
    "tawara_account": "id, name, created_at",
    "tawara_access_key": "id, name, account, sealed, grants, created_at, expires_at, revoked_at",
}
OF_NAMED = ("file_on", "tawara_file", "checksum")


@dataclass
class Store:
    """Rows, devices and a journal writer, and tasks that make random changes as clients and workers do."""

    metadata: Metadata
    view: ClusterView
    nodes: NodeClient
    directories: dict[int, Path]
    rng: random.Random
    dmid: int = 0

    async def live(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows that a rebuild must restore."""
        return await self.metadata.read(all_rows)

    def place(self, devid: int, fid: int) -> Path:
        return self.directories[devid] / fids.relative_path(fid)

    def put(self, devid: int, fid: int, length: int) -> None:
        path = self.place(devid, fid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * length)

    async def do_something(self, number: int) -> None:
        """Make one change; one that conflicts with a concurrent change gets an error and changes nothing."""
        rng, now, write = self.rng, int(time.time()), self.metadata.write
        key = b"key/%d \xff\x00" % rng.randrange(KEYS) if number % 3 else b"key/%d" % rng.randrange(KEYS)
        what = rng.random()
        if what < 0.55:
            devids = rng.sample(DEVICES, rng.choice([1, 1, 2]))
            fid = await write(files.open_upload, dmid=self.dmid, key=key, classid=0, devids=devids, now=now)
            for devid in devids:
                self.put(devid, fid, number)
            checksum = Checksum(HashType.MD5, bytes([number % 256]) * 16) if number % 4 == 0 else None
            await write(
                files.close_upload,
                NewFile(
                    fid=fid,
                    dmid=self.dmid,
                    key=key,
                    classid=number % 2,
                    length=number,
                    devids=devids,
                    checksum=checksum,
                    content_type="image/png" if number % 5 == 0 else None,
                ),
                now=now,
                replicate=False,
            )
        elif what < 0.65:
            await write(files.delete, self.dmid, key, now=now)
        elif what < 0.75:
            await write(files.rename, self.dmid, key, b"renamed/%d" % rng.randrange(KEYS))
        elif what < 0.8:
            await write(files.set_class, self.dmid, key, rng.choice([0, 1]))
        else:
            file = await self.metadata.read(files.find, self.dmid, key)
            if file is None:
                return
            if what < 0.92:
                devid = rng.choice(DEVICES)
                if await write(replicas.reserve_copy, file.fid, devid, now=now):
                    self.put(devid, file.fid, file.length)
                    await write(replicas.record_copy, file.fid, devid, now=now)
            elif len(file.devids) > 1:
                devid = rng.choice(file.devids)
                if await write(replicas.remove_surplus_replica, file.fid, devid, among=frozenset(file.devids), now=now):
                    self.place(devid, file.fid).unlink()
                    await write(replicas.cancel_copy, file.fid, devid)

    async def hand(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            try:
                await self.do_something(number)
            except TawaraError as error:
                assert not isinstance(error, Db), error

    async def write_names(self, *scribes: JournalWriter) -> None:
        """Run journal writers until nothing is left to write."""
        while True:
            await self.metadata.write(due)
            taken = [(journal_writer, item) for journal_writer in scribes for item in await journal_writer.take(10)]
            if not taken and not (await self.metadata.read(journals.read_due)).noted:
                return
            await asyncio.gather(*(journal_writer.work(item) for journal_writer, item in taken))


async def due(tx: Transaction) -> None:
    await tx.run("UPDATE tawara_journal SET nexttry = 0 WHERE held = 0")


async def all_rows(tx: Transaction) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    for table, columns in TABLES.items():
        select = columns.replace("KEY", tx.dialect.key_column("dkey"))
        named = " WHERE fid IN (SELECT fid FROM file)" if table in OF_NAMED else ""
        found[table] = sorted((await tx.rows(f'SELECT {select} FROM "{table}"{named}')), key=repr)
    return {table: [tuple(map(_plain, row)) for row in rows_] for table, rows_ in found.items()}


def _plain(value: object) -> object:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else value


@asynccontextmanager
async def store(url: str, directory: Path, seed: int = 1) -> AsyncIterator[Store]:
    """Two hosts with two devices each; the second runs another storage node."""
    async with AsyncExitStack() as stack:
        metadata = await open_metadata(url, pace=ServerLimits(answer=TIMEOUT))
        stack.push_async_callback(metadata.close)
        for devid in (1, 2):
            (directory / "ours" / f"dev{devid}").mkdir(parents=True)
        ours = StorageNode(directory / "ours", http=("127.0.0.1", 0), side_channel=None)
        await ours.start()
        stack.push_async_callback(ours.stop)
        other = stack.enter_context(plain_node(directory / "theirs", "127.0.0.2", range(3, 5)))
        dmid = await metadata.write(rows.create_domain, "photos")
        await metadata.write(rows.create_class, "photos", "more", mindevcount=3, hashtype=HashType.MD5)
        await metadata.write(rows.create_class, "photos", "default", mindevcount=1)
        for name, ip, port, devids in (
            ("h1", *ours.http_address, (1, 2)), ("h2", other.ip, other.port, (3, 4))
        ):  # fmt: skip
            hostid = await metadata.write(rows.create_host, name, ip=ip, http_port=port, state="alive")
            for devid in devids:
                await metadata.write(rows.create_device, devid, hostid)
        for number, name in enumerate(("one", "two"), 1):
            key = new_key(
                name, key_id=f"TW{number:018}", account_id=f"{number:064x}", domains=["photos/é=rw"], expires="1d",
                sealed="K:secret", now=1000,
            )  # fmt: skip
            await metadata.write(access_keys.create, key, own_account=True)
        await metadata.write(access_keys.revoke, "two", now=2000)
        nodes = await stack.enter_async_context(NodeClient())
        view = ClusterView(metadata, min_free_mb=1)
        await view.refresh()
        monitor = Monitor(view, metadata, nodes, side_channel_port=None)
        await monitor.start()
        stack.push_async_callback(monitor.stop)
        await view.wait_observed()
        directories = {devid: directory / ("ours" if devid < 3 else "theirs") / f"dev{devid}" for devid in DEVICES}
        yield Store(metadata, view, nodes, directories, random.Random(seed), dmid)
