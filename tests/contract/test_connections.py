"""Connections to a database server: too few of them, or unusable ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import structlog

from tawara.metadata import cluster
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.metadata.server import ServerLimits
from tawara.model.errors import DatabaseUnavailable, TawaraError
from tests.contract.servers import PASSWORD, Server
from tests.mogilefsd import databases

of_servers = pytest.mark.parametrize("engine", ["postgresql", "mysql"], indirect=True)
FEW = 4


async def _become_read_only(tx: Transaction) -> None:
    if tx.dialect.name == "mysql":
        await tx.run("SET SESSION TRANSACTION READ ONLY")
    else:
        await tx.run("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")


@of_servers
async def test_read_only_sessions_are_replaced(metadata: Metadata) -> None:
    """Connections opened while the database was read-only fail no change once it is not."""
    for _ in range(20):
        await asyncio.gather(*(metadata.write(_become_read_only) for _ in range(16)))
        for number in range(4):
            await metadata.write(cluster.set_setting, "n", str(number))
        changes = [metadata.write(cluster.set_setting, f"n{number}", "1") for number in range(16)]
        assert await asyncio.gather(*changes) == [None] * 16


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_read_only_file_is_opened_again(metadata: Metadata) -> None:
    """A connection to a SQLite file that cannot write is replaced; the change that met it is made."""

    async def become_read_only(tx: Transaction) -> None:
        await tx.row("PRAGMA query_only = ON")

    for number in range(3):
        await metadata.write(become_read_only)
        changes = [metadata.write(cluster.set_setting, f"n{each}", str(number)) for each in range(5)]
        assert await asyncio.gather(*changes) == [None] * 5
        assert await metadata.read(cluster.get_setting, "n4") == str(number)


def _limited(engine: str, url: str, server: Server) -> str:
    """The URL for a user with at most FEW connections."""
    database = databases.database_of(url)
    if engine == "postgresql":
        user = f"few_{os.getpid()}"
        server.execute(
            database,
            [
                f"DROP ROLE IF EXISTS {user}",
                f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT {FEW}",
                f"ALTER DATABASE {database} OWNER TO {user}",
            ],
        )
    else:
        user = "few"
        server.execute(
            database,
            [
                f"CREATE OR REPLACE USER {user}@localhost IDENTIFIED BY '{PASSWORD}' WITH MAX_USER_CONNECTIONS {FEW}",
                f"GRANT ALL ON {database}.* TO {user}@localhost",
            ],
        )
    return url.replace("//tawara@", f"//{user}@")


def _set_read_only(engine: str, url: str, server: Server, *, on: bool) -> None:
    database = databases.database_of(url)
    if engine == "postgresql":
        change = f"ALTER DATABASE {database} SET default_transaction_read_only = {'on' if on else 'off'}"
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        server.execute("postgres", [change, *([ended] if on else [])])
    else:
        server.execute(database, [f"SET GLOBAL read_only = {int(on)}"])


@of_servers
async def test_a_temporarily_read_only_database(blank_url: str, engine: str, servers: Callable[[str], Server]) -> None:
    """While a database is read-only changes fail; afterwards none does."""
    url = _limited(engine, blank_url, servers(engine))
    metadata = await open_metadata(url, pace=ServerLimits(answer=5.0))
    await metadata.write(cluster.set_setting, "n", "0")
    _set_read_only(engine, blank_url, servers(engine), on=True)
    try:
        for _ in range(5):
            with pytest.raises(DatabaseUnavailable):
                await metadata.write(cluster.set_setting, "n", "1")
    finally:
        _set_read_only(engine, blank_url, servers(engine), on=False)
    for number in range(30):
        await metadata.write(cluster.set_setting, "n", str(number))
    assert await metadata.read(cluster.get_setting, "n") == "29"
    await metadata.close()


async def _look(tx: Transaction) -> int:
    row = await tx.row("SELECT COUNT(*) FROM server_settings")
    assert row is not None
    return int(row[0])


@of_servers
async def test_a_user_with_few_connections(blank_url: str, engine: str, servers: Callable[[str], Server]) -> None:
    """If the server allows fewer connections than the pools have, nothing fails, also in two processes at once."""
    url = _limited(engine, blank_url, servers(engine))
    async with AsyncExitStack() as stack:
        logs = stack.enter_context(structlog.testing.capture_logs())
        processes = [await open_metadata(url), await open_metadata(url)]
        for each in processes:
            stack.push_async_callback(each.close)
        for _ in range(3):
            work = [
                each
                for number in range(20)
                for metadata in processes
                for each in (metadata.read(_look), metadata.write(cluster.set_setting, f"n{number}", "1"))
            ]
            answers = await asyncio.gather(*work, return_exceptions=True)
            assert [str(each) for each in answers if isinstance(each, TawaraError)] == []
    said = [each for each in logs if each["event"] == "database_connection_limit_met"]
    assert said
    assert all(each["reason"] for each in said)
