"""The engines under test behind one fixture: `metadata` is an empty database of each engine."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.metadata.server import ServerLimits
from tests.contract.empty_database import empty_database, sqlite_with_tables
from tests.contract.mogilefs_database import FURNITURE, LATIN1_OPTION
from tests.contract.servers import Server, running_servers
from tests.mogilefsd import databases

PACE = ServerLimits(unreachable=3.0)
"""The machine may be busy."""
ENGINES = ("sqlite", "postgresql", "mysql")


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Server]]:
    """One server of each kind for the whole session, started when first needed."""
    with running_servers() as get:
        yield get


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the engine under test."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def _reused(servers: Callable[[str], Server]) -> Callable[[str], str]:
    urls: dict[str, str] = {}

    def get(engine: str) -> str:
        if engine not in urls:
            urls[engine] = servers(engine).create("contract")
        return urls[engine]

    return get


@pytest.fixture
async def url(engine: str, _reused: Callable[[str], str], tmp_path: Path) -> str:
    """The URL of a database with the schema and no rows."""
    if engine == "sqlite":
        (tmp_path / "tawara.db").write_bytes(await asyncio.to_thread(sqlite_with_tables))
        return f"sqlite://{tmp_path}/tawara.db"
    url = _reused(engine)
    metadata = await open_metadata(url)
    try:
        await metadata.write(_empty)
    finally:
        await metadata.close()
    return url


async def _empty(tx: Transaction) -> None:
    from tawara.metadata.schema import tables

    for table in tables.tables:
        keep = " WHERE field NOT LIKE '%version'" if table == "server_settings" else ""
        await tx.run(f'DELETE FROM "{table}"{keep}')


@pytest.fixture
def blank_url(engine: str, servers: Callable[[str], Server], tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    with empty_database(engine, tmp_path, servers, "blank") as url:
        yield url


@pytest.fixture
async def opener(url: str) -> AsyncIterator[Callable[[], Awaitable[Metadata]]]:
    """Opens the same database once more, as another tracker does."""
    opened: list[Metadata] = []

    async def another() -> Metadata:
        opened.append(await open_metadata(url, pace=PACE))
        return opened[-1]

    yield another
    for metadata in opened:
        await metadata.close()


@pytest.fixture
async def metadata(opener: Callable[[], Awaitable[Metadata]]) -> Metadata:
    """An empty database, open."""
    return await opener()


@pytest.fixture
def collation(request: pytest.FixtureRequest) -> str:
    """The character set and collation of a MariaDB database; the server's default unless a test sets another."""
    return getattr(request, "param", "latin1 COLLATE latin1_swedish_ci")


@pytest.fixture
def old_url(blank_url: str, engine: str, servers: Callable[[str], Server], collation: str) -> str:
    """The URL of a database of MogileFS with a domain, a class, two hosts and three devices."""
    server = None if engine == "sqlite" else servers(engine)
    before = []
    if engine == "mysql":
        before = [f"ALTER DATABASE {databases.database_of(blank_url)} CHARACTER SET {collation}"]
    databases.make(engine, blank_url, server, before)
    if server is None:
        connection = sqlite3.connect(databases.path_of(blank_url))
        connection.executescript(";\n".join(FURNITURE))
        connection.close()
    else:
        server.execute(databases.database_of(blank_url), FURNITURE)
    return blank_url + LATIN1_OPTION if engine == "mysql" else blank_url
