"""URLs with several real servers: the writable one is used, and failover is followed."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tawara.metadata import cluster
from tawara.metadata.open import open_metadata
from tawara.model.errors import DatabaseUnavailable
from tests.contract.conftest import PACE
from tests.contract.servers import PASSWORD, Listen, MariaServer, PostgresServer


def listen() -> Listen:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Listen("127.0.0.1", free.getsockname()[1], "127.0.0.0/8")


def address(server: PostgresServer | MariaServer) -> str:
    return server.url("").partition("@")[2].strip("/")


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAWARA_DB_PASSWORD", PASSWORD)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Removes the servers of a test."""
    with ExitStack() as stack:
        yield stack


async def test_postgresql_standby_is_promoted(stack: ExitStack) -> None:
    """The primary is used though the standby comes first; when the standby is promoted all acknowledged changes
    exist."""
    primary = PostgresServer(listen=listen())
    stack.callback(primary.remove)
    primary.create("store")
    standby = primary.standby(listen())
    stack.callback(standby.remove)
    primary.execute("postgres", ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"])
    metadata = await open_metadata(f"postgresql://tawara@{address(standby)},{address(primary)}/store", pace=PACE)
    try:
        for number in range(20):
            await metadata.write(cluster.set_setting, f"n{number}", "1")
        await asyncio.to_thread(primary.kill)
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await metadata.write(cluster.set_setting, "meanwhile", "1")
        await asyncio.to_thread(standby.promote)
        await metadata.write(cluster.set_setting, "after", "1")
        assert len([name for name in (await metadata.read(cluster.load)).settings if name.startswith("n")]) == 20
    finally:
        await metadata.close()


async def test_postgresql_primary_becomes_read_only(stack: ExitStack) -> None:
    """A server that refuses a change because it is read-only is left for the next one, and no change is partly made."""
    servers = [PostgresServer(listen=listen()) for _ in range(2)]
    for server in servers:
        stack.callback(server.remove)
        server.create("store")
    metadata = await open_metadata(f"postgresql://tawara@{address(servers[0])},{address(servers[1])}/store", pace=PACE)
    try:
        await metadata.write(cluster.set_setting, "x", "first")
        await (await open_metadata(servers[1].url("store"))).close()  # has tables, as a replica has
        servers[0].execute("store", ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"])
        while await is_writable(servers[0]):
            await asyncio.sleep(0.05)
        await metadata.write(cluster.set_setting, "x", "second")
        other = await open_metadata(servers[1].url("store"))
        assert await other.read(cluster.get_setting, "x") == "second"
        await other.close()
    finally:
        await metadata.close()


async def is_writable(server: PostgresServer) -> bool:
    try:
        await (await open_metadata(server.url("store"))).close()
    except DatabaseUnavailable:
        return False
    return True


@pytest.mark.skipif("TAWARA_TEST_MYSQL" in os.environ, reason="uses two MariaDB servers")
async def test_mysql_replica_is_skipped(stack: ExitStack) -> None:
    """Of two servers the one that is not read-only is used, whichever comes first, also after they swap."""
    servers = [MariaServer(listen=listen()) for _ in range(2)]
    for server in servers:
        stack.callback(server.remove)
        server.create("store")
    replica, primary = servers
    replica.execute("store", ["SET GLOBAL read_only = 1"])
    url = f"mysql://tawara@{address(replica)},{address(primary)}/store"
    metadata = await open_metadata(url, pace=PACE)
    try:
        await metadata.write(cluster.set_setting, "x", "1")
        alone = await open_metadata(primary.url("store"))
        assert await alone.read(cluster.get_setting, "x") == "1"
        await alone.close()
        await asyncio.to_thread(primary.kill)
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await metadata.write(cluster.set_setting, "x", "2")
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await open_metadata(url, pace=PACE)
        replica.execute("store", ["SET GLOBAL read_only = 0"])
        promoted = await open_metadata(url, pace=PACE)
        await promoted.write(cluster.set_setting, "x", "3")
        assert await metadata.read(cluster.get_setting, "x") == "3"
        await promoted.close()
    finally:
        await metadata.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_no_server_is_available(scheme: str) -> None:
    """The error names every host with its failure."""
    ports = [listen().port, listen().port]
    with pytest.raises(DatabaseUnavailable) as caught:
        await open_metadata(f"{scheme}://u@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/d")
    assert all(f"127.0.0.1:{port}: " in caught.value.message for port in ports)
