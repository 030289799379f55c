"""A store with the WebDAV listener."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tawara.gateway.dav.server import DavServer
from tawara.gateway.protocol_listener import FurtherProtocol
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.nodes.client import NodeClient
from tawara.store.access_keys import AccessKeys
from tawara.store.key_file import KeyFile
from tests.acceptance.gateway_fixture import KEYS, SECRET, StoreFixture, store_fixture


@dataclass(frozen=True)
class DavFixture:
    """A running store."""

    store: StoreFixture
    server: DavServer

    @property
    def url(self) -> str:
        """The URL of domain `d`."""
        return "http://{}:{}/d/".format(*self.server.address)


@asynccontextmanager
async def dav_fixture(directory: Path, *, nginx: bool = True, url: str = "", **more: Any) -> AsyncIterator[DavFixture]:
    """A store below `directory`; `url`: of an empty database; else it is SQLite's. `more`: see store_fixture."""
    made: list[DavServer] = []
    keys: list[AccessKeys] = []

    def protocols(
        metadata: Metadata, view: ClusterView, nodes: NodeClient, wakeups: Wakeups
    ) -> Sequence[FurtherProtocol]:
        keys.append(AccessKeys(metadata, KeyFile(directory / KEYS)))
        server = DavServer(metadata, view, nodes, wakeups, listen=("127.0.0.1", 0), secret=SECRET, access_keys=keys[0])
        made.append(server)
        return made

    async with store_fixture(directory, nginx=nginx, url=url, protocols=protocols, **more) as store:
        try:
            yield DavFixture(store, made[0])
        finally:
            await keys[0].close()
