"""The servers of a database URL, and which of them is used."""

from __future__ import annotations

import asyncio

import pytest

from tawara.metadata.hosts import DatabaseServer, Servers, hosts_of, split_url
from tawara.metadata.server import ConnectionLost
from tawara.model.errors import ConfigurationError


@pytest.mark.parametrize(
    ("netloc", "hosts"),
    [
        ("", [DatabaseServer("")]),
        ("u@", [DatabaseServer("")]),
        ("u@db", [DatabaseServer("db")]),
        ("u@db:3307", [DatabaseServer("db", 3307)]),
        ("db1,db2:1,db3", [DatabaseServer("db1"), DatabaseServer("db2", 1), DatabaseServer("db3")]),
        ("u@[::1]", [DatabaseServer("::1")]),
        ("u@[::1]:1,[2001:db8::2]:2", [DatabaseServer("::1", 1), DatabaseServer("2001:db8::2", 2)]),
    ],
)
def test_hosts_of_a_url(netloc: str, hosts: list[DatabaseServer]) -> None:
    """Several hosts are separated by commas, each with its own port or the engine's; IPv6 is in brackets."""
    assert hosts_of(split_url(f"mysql://{netloc}/d")) == hosts


@pytest.mark.parametrize(
    "netloc", ["db:x", "db:0", "db:65536", "db1,,db2", "a,", "::1", "a:1:2", "[::1", "a,[::1]x", "[x]"]
)
def test_invalid_hosts(netloc: str) -> None:
    """Anything but HOST:PORT is a configuration error that shows the syntax."""
    with pytest.raises(ConfigurationError) as caught:
        hosts_of(split_url(f"mysql://u@{netloc}/d"))
    assert "HOST:PORT" in (caught.value.hint or "")


A, B, C = DatabaseServer("a"), DatabaseServer("b", 2), DatabaseServer("c")


class Fake:
    """Servers that are usable, unusable, or hang."""

    def __init__(self, **state: str) -> None:
        self.state = state
        self.asked: list[str] = []

    async def connect(self, host: DatabaseServer) -> str:
        self.asked.append(host.name)
        match self.state.get(host.name):
            case "refused":
                raise ConnectionLost("refused")
            case "hangs":
                await asyncio.Event().wait()
            case "denied":
                raise ConfigurationError("denied")
        return host.name


async def test_the_first_usable_server() -> None:
    """Servers are tried in the order of the URL; one that failed comes last for some time."""
    fake = Fake(a="refused")
    servers = Servers([A, B, C], fake.connect, 5.0)
    assert [await servers.connect(), await servers.connect()] == ["b", "b"]
    assert fake.asked == ["a", "b", "b"]
    fake.state = {"b": "refused", "c": "refused"}
    assert await servers.connect() == "a"


async def test_no_usable_server() -> None:
    """The error names each server with its failure."""
    with pytest.raises(ConnectionLost, match=r"^a: refused; b:2: refused$"):
        await Servers([A, B], Fake(a="refused", b="refused").connect, 5.0).connect()


async def test_a_hanging_server_leaves_time_for_the_next() -> None:
    """A server that does not respond takes only its share of the time."""
    servers = Servers([A, B], Fake(a="hangs").connect, 0.1)
    servers._seconds = 0.01
    assert await servers.connect() == "b"


async def test_a_refused_password_ends_the_search() -> None:
    """A configuration error is not hidden by trying the next server."""
    with pytest.raises(ConfigurationError):
        await Servers([A, B], Fake(a="denied").connect, 5.0).connect()
