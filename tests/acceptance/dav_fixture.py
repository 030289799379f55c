"""A store with the WebDAV listener."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tawara.gateway.dav.server import DavServer
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
async def dav_fixture(directory: Path, *, url: str = "") -> AsyncIterator[DavFixture]:
    """A store below `directory`; `url`: of an empty database; else it is SQLite's."""
    async with store_fixture(directory, nginx=False, url=url) as store, NodeClient() as nodes:
        keys = AccessKeys(store.metadata, KeyFile(directory / KEYS))
        server = DavServer(
            store.metadata,
            store.view,
            nodes,
            store.wakeups,
            listen=("127.0.0.1", 0),
            secret=SECRET,
            access_keys=keys,
        )
        await server.start()
        try:
            yield DavFixture(store, server)
        finally:
            await server.stop()
            await keys.close()
