"""The TCP listener and its connection limit."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from tawara.listening import TcpListener


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


async def test_all_that_wait_come_in_within_few_turns() -> None:
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
