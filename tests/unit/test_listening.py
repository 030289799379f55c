"""The TCP listener and its connection limit."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
import structlog.testing

from tawara.listening import TcpListener, take
from tawara.model.errors import PortTaken


class _Guest(asyncio.Protocol):
    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._on_closed = on_closed
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_closed()

    def send_home(self) -> None:
        assert self._transport is not None
        self._transport.close()


async def test_a_full_backlog_is_accepted_in_few_iterations() -> None:
    """A full backlog is accepted in few loop iterations, and the connection limit is kept."""
    guests: list[_Guest] = []

    def make(on_closed: Callable[[], None]) -> _Guest:
        guests.append(_Guest(on_closed))
        return guests[-1]

    listener = TcpListener(("127.0.0.1", 0), "a test", make, connections=50)
    crowd = [socket.create_connection(listener.address) for _ in range(60)]
    listener.open()
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(guests) == 50
    for guest in guests[:5]:
        guest.send_home()
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(guests) == 55
    await listener.close()
    for guest in guests[5:]:
        guest.send_home()
    for each in crowd:
        each.close()
    await asyncio.sleep(0)


class _Idle(_Guest):
    """A connection that is idle since a loop time, or busy."""

    since: float | None = None

    def idle_since(self) -> float | None:
        return self.since


class _Full:
    """A listener with as many connections as its limit allows; the test holds the clients."""

    def __init__(self, most: int) -> None:
        self.guests: list[_Idle] = []
        self.listener = TcpListener(("127.0.0.1", 0), "a test", self._make, connections=most)
        self.clients = [socket.create_connection(self.listener.address) for _ in range(most)]
        self.listener.open()

    def _make(self, on_closed: Callable[[], None]) -> _Idle:
        self.guests.append(_Idle(on_closed))
        return self.guests[-1]

    def closed(self) -> list[int]:
        return [
            number
            for number, guest in enumerate(self.guests)
            if guest._transport is not None and guest._transport.is_closing()
        ]

    async def end(self) -> None:
        await self.listener.close()
        for guest in self.guests:
            guest.send_home()
        for client in self.clients:
            client.close()
        await asyncio.sleep(0)


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_full_listener_closes_the_connection_that_is_idle_longest() -> None:
    """A new connection replaces the longest idle one; busy ones and those idle for less than a second stay."""
    full = _Full(4)
    await _settle()
    now = asyncio.get_running_loop().time()
    for guest, since in zip(full.guests, [now - 5, None, now - 9, now - 0.5], strict=True):
        guest.since = since
    full.clients.append(socket.create_connection(full.listener.address))
    await _settle()
    assert (len(full.guests), full.closed()) == (5, [2])
    full.guests[0].since = now  # only busy or recently idle connections are left
    full.clients.append(socket.create_connection(full.listener.address))
    await _settle()
    assert (len(full.guests), full.closed()) == (5, [2])
    await full.end()


async def test_a_full_listener_is_logged_once_a_minute() -> None:
    """listener_full is logged at the first refusal, and again only after a minute."""
    full = _Full(1)
    await _settle()
    with structlog.testing.capture_logs() as logs:
        full.listener._close_idle("a")
        full.listener._close_idle("b")
        full.listener._logged_at -= 60
        full.listener._close_idle("c")
    assert [(each["reason"], each["connections"], each["closed"]) for each in logs] == [("a", 1, 0), ("c", 1, 0)]
    await full.end()


@pytest.mark.parametrize(
    ("number", "pauses"), [(errno.EMFILE, 1), (errno.ENFILE, 1), (errno.ENOMEM, 1), (errno.ECONNABORTED, 0)]
)
async def test_accepting_continues_after_an_error(monkeypatch: pytest.MonkeyPatch, number: int, pauses: int) -> None:
    """Without file descriptors the listener closes idle connections and pauses; other errors concern only one
    connection."""
    full, closed = _Full(1), list[str]()
    failures, real = [OSError(number, "no")], full.listener._next

    async def accept() -> socket.socket:
        if failures:
            raise failures.pop()
        return await real()

    monkeypatch.setattr("tawara.listening._PAUSE", 0)
    monkeypatch.setattr(full.listener, "_next", accept)
    monkeypatch.setattr(full.listener, "_close_idle", closed.append)
    await _settle()
    assert (len(full.guests), len(closed)) == (1, pauses)
    await full.end()


async def test_a_protocol_that_cannot_start_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that fails before it has a protocol does not count towards the limit."""
    full = _Full(1)
    loop, connect = asyncio.get_running_loop(), asyncio.get_running_loop().connect_accepted_socket
    failures = [ConnectionResetError()]

    async def start(*arguments: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return await connect(*arguments, **named)

    monkeypatch.setattr(loop, "connect_accepted_socket", start)
    full.clients.append(socket.create_connection(full.listener.address))
    await _settle()
    assert len(full.guests) == 1
    await full.end()


def test_an_unavailable_port_is_reported() -> None:
    """PortTaken has the reason, "taken" or the system's message, and the name of the listener."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = ("127.0.0.1", other.getsockname()[1])
        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{address[1]} is taken; a test wants it"):
            take(address, "a test")
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1:0 cannot be had \(Cannot assign"):
        take(("192.0.2.1", 0), "a test")


def test_options_of_the_socket() -> None:
    """Connections inherit no delay and keepalive; the port is shared only on request."""
    with take(("127.0.0.1", 0), "a test") as taken:
        options = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT), (socket.SOL_SOCKET, socket.SO_REUSEPORT),
        ]  # fmt: skip
        assert [taken.getsockopt(*option) for option in options] == [1, 1, 60, 10, 6, 0]
    with (
        take(("127.0.0.1", 0), "a test", reuse_port=True) as taken,
        take(taken.getsockname(), "a test", reuse_port=True) as second,
    ):
        assert second.getsockname() == taken.getsockname()


@pytest.mark.parametrize(("share", "descriptors", "most"), [(1.0, 4, 250), (0.5, 4, 125), (1.0, 1, 300), (0.001, 4, 8)])
def test_connections_are_limited_by_open_files(
    monkeypatch: pytest.MonkeyPatch, share: float, descriptors: int, most: int
) -> None:
    """The limit is what the share of open files allows, at least 8 and at most the configured one."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (1000, 9999))
    with take(("127.0.0.1", 0), "a test") as taken:
        listener = TcpListener(
            taken, "a test", lambda _: asyncio.Protocol(), connections=300, descriptors=descriptors, share=share
        )
        assert listener.most == most
