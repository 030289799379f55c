"""A gateway over real storage nodes and a real database file, in the test's own event loop; with or without nginx."""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tawara.gateway.certificates import TlsFiles
from tawara.gateway.nginx import NginxFront
from tawara.gateway.protocol_listener import FurtherProtocol
from tawara.gateway.server import Gateway
from tawara.metadata import access_keys, cluster, files
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model import fid as fids
from tawara.model.access.creation import new_key
from tawara.model.access.keys import ID_ALPHABET, ID_LENGTH, SECRET_ALPHABET, SECRET_LENGTH
from tawara.model.applications import Application
from tawara.model.cache_settings import CacheSettings
from tawara.model.cluster import HashType, HostState, Observation, Observed
from tawara.model.files import StoredFile
from tawara.model.limits import Limits
from tawara.node.server import StorageNode
from tawara.node.signatures import SignatureCheck
from tawara.nodes.client import NodeClient
from tawara.nodes.signing import RequestSigner
from tawara.store import key_file
from tawara.store.access_keys import AccessKeys
from tawara.store.key_file import KeyFile
from tawara.wire.installation_key import NONCE, seal
from tests.acceptance.node_process import housekeeping
from tests.contract.empty_database import sqlite_with_tables

SECRET = "the secret of the test"
AUTHORISED = {"Authorization": f"Bearer {SECRET}"}
HOSTS = 3
"""Storage nodes, with a device each; the first is the gateway's own machine."""


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        return self.headers[name]


async def _set_up(tx: Transaction, ports: list[int], own_devices: int) -> None:
    """Domain `d`: class `default` wants two copies, `one` one, `three` one on each host, `md5` one and a checksum."""
    await cluster.create_domain(tx, "d")
    await cluster.create_class(tx, "d", "one", mindevcount=1)
    await cluster.create_class(tx, "d", "three", mindevcount=3)
    await cluster.create_class(tx, "d", "md5", mindevcount=1, hashtype=HashType.MD5)
    for number, port in enumerate(ports, start=1):
        await cluster.create_host(tx, f"host{number}", ip=f"127.0.0.{number}", http_port=port, state=HostState.ALIVE)
        await cluster.create_device(tx, number, number)
    devids = range(1, len(ports) + own_devices)
    for devid in devids[len(ports) :]:
        await cluster.create_device(tx, devid, 1)
    await cluster.record_usage(tx, dict.fromkeys(devids, (1_000_000, 100)), now=1)


@dataclass
class StoreFixture:
    """The parts of a small store without tracker and workers."""

    directory: Path
    gateway: Gateway
    front: NginxFront | None
    nodes: list[StorageNode]
    metadata: Metadata
    view: ClusterView
    wakeups: Wakeups
    stopped: set[int] = field(default_factory=set)
    tls: TlsFiles | None = None
    signer: RequestSigner | None = None

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request on its own connection; blocking."""
        connection = http.client.HTTPConnection(*self.gateway.address, timeout=30)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))  # type: ignore[arg-type]
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The same without blocking the event loop, which serves it."""
        return await asyncio.to_thread(self.request, method, path, body, headers)

    async def put(self, path: str, body: object = b"hello", **headers: str) -> Answer:
        """Store a file; header names are given with underscores for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("PUT", path, body, AUTHORISED | named)

    async def raw(self, data: bytes, *, timeout: float = 10.0) -> bytes:
        """Send bytes as they are; return all that is received until the gateway closes the connection."""
        reader, writer = await asyncio.open_connection(*self.gateway.address)
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), timeout)
        finally:
            writer.close()

    async def find(self, key: bytes) -> StoredFile | None:
        """The database's row of a key of domain `d`."""
        return await self.metadata.read(files.find, 1, key)

    async def stored(self, key: bytes) -> StoredFile:
        """The same for a key that must exist."""
        found = await self.find(key)
        assert found is not None
        return found

    def disk(self, devid: int) -> Path:
        """The directory of a device."""
        return self.directory / f"disks {devid}" / f"dev{devid}"

    def replica(self, devid: int, fid: int) -> Path:
        """The path of a replica."""
        return self.disk(devid) / fids.relative_path(fid)

    def on_disk(self) -> list[tuple[int, str]]:
        """Every file on any device."""
        return [
            (devid, path.name)
            for devid in range(1, HOSTS + 1)
            for path in self.disk(devid).rglob("*")
            if path.is_file() and not housekeeping(path)
        ]

    async def create_key(self, name: str, *grants: str, expires: str = "") -> str:
        """Create an access key; return `ID:SECRET`."""
        key_id = "TW" + "".join(random.choices(ID_ALPHABET, k=ID_LENGTH - 2))
        secret = "".join(random.choices(SECRET_ALPHABET, k=SECRET_LENGTH))
        sealed = seal(KeyFile(self.directory / KEYS).load()[0], secret, owner=key_id, nonce=os.urandom(NONCE))
        now = await self.metadata.clock.seconds()
        key = new_key(
            name,
            key_id=key_id,
            account_id=os.urandom(32).hex(),
            domains=grants,
            expires=expires,
            sealed=sealed,
            now=now,
        )
        await self.metadata.write(access_keys.create, key, own_account=True)
        return f"{key_id}:{secret}"

    async def stop_node(self, devid: int) -> None:
        """Stop the storage node of a device."""
        self.stopped.add(devid)
        await self.nodes[devid - 1].stop()


KEYS = "keys.key"
"""Name of the installation's key file."""
DIRECTORY = 'run "$of" nginx; {'
"""The directory of nginx, below the store's."""


MakeProtocols = Callable[[Metadata, ClusterView, NodeClient, Wakeups], Sequence[FurtherProtocol]]


def _open_sqlite(directory: Path) -> Metadata:
    (directory / "tawara.db").write_bytes(sqlite_with_tables())
    return SqliteMetadata.open(directory / "tawara.db")


@asynccontextmanager
async def store_fixture(
    directory: Path,
    *,
    nginx: bool,
    limits: Limits | None = None,
    public_reads: bool = True,
    reproxy: bool = False,
    hosts: int = HOSTS,
    own_devices: int = 1,
    local: bool = True,
    spool: Path | None = None,
    fast_path: bool = True,
    tls: TlsFiles | None = None,
    signed: bool = False,
    url: str = "",
    applications: Sequence[Application] = (),
    cache: CacheSettings | None = None,
    balancers: tuple[str, int] | None = None,
    protocols: MakeProtocols = lambda *_: (),
) -> AsyncIterator[StoreFixture]:
    """A store below `directory`, torn down afterwards; `local`: the gateway knows the disks of its own machine.

    With more `own_devices` the first host, the gateway's, has devices beyond dev1, numbered after those of all hosts.
    `signed`: the storage nodes require signatures of all requests. `url`: of an empty database; else it is SQLite's.
    `protocols` makes further protocols for the gateway.
    """
    metadata = await open_metadata(url) if url else await asyncio.to_thread(_open_sqlite, directory)
    key_file.write(directory / KEYS, [key_file.new_key()])
    keys = KeyFile(directory / KEYS).keys
    check = SignatureCheck(keys, reads=True, wall=time.time) if signed else None
    signer = RequestSigner(keys, wall=time.time, client_seconds=60) if signed else None
    nodes = []
    for number in range(1, hosts + 1):
        (directory / f"disks {number}" / f"dev{number}").mkdir(parents=True)
        for devid in range(hosts + 1, hosts + own_devices) if number == 1 else ():
            (directory / "disks 1" / f"dev{devid}").mkdir()
        node = StorageNode(
            directory / f"disks {number}",
            http=(f"127.0.0.{number}", 0),
            side_channel=None,
            signatures=check,
            disk_health=False,
        )
        await node.start()
        nodes.append(node)
    view, wakeups = ClusterView(metadata), Wakeups()
    await metadata.write(_set_up, [node.http_address[1] for node in nodes], own_devices)
    await view.refresh()
    view.observe({number: Observation(Observed.WRITEABLE) for number in range(1, hosts + own_devices)})
    async with NodeClient(signer=signer) as client:
        front = NginxFront(directory / DIRECTORY, spool=spool, workers=1) if nginx else None
        gateway = Gateway(
            metadata,
            view,
            client,
            wakeups,
            listen=("127.0.0.1", 0),
            secret=SECRET,
            access_keys=AccessKeys(metadata, KeyFile(directory / KEYS)),
            local_devices=nodes[0].devices if local else None,
            nginx=front,
            limits=limits or Limits(),
            public_reads=public_reads,
            reproxy=reproxy,
            fast_path=fast_path,
            tls=tls,
            applications=applications,
            cache=cache,
            balancers=balancers,
            protocols=protocols(metadata, view, client, wakeups),
        )
        await gateway.start()
        one = StoreFixture(directory, gateway, front, nodes, metadata, view, wakeups, tls=tls, signer=signer)
        try:
            yield one
        finally:
            await gateway.stop()
            await metadata.close()
            for number, node in enumerate(nodes, start=1):
                if number not in one.stopped:
                    await node.stop()
