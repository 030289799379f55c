"""The tracker's set of connections while it stops."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from tawara.tracker.server import TrackerServer


def _server() -> TrackerServer:
    nothing = cast("Any", SimpleNamespace(reads_at_once=False))
    return TrackerServer(nothing, nothing, nothing, nothing, address=("127.0.0.1", 0))


class _Slow:
    """A connection whose peer takes a moment to read its last reply."""

    busy = False
    aborted = False

    def __init__(self, server: TrackerServer) -> None:
        self._server = server
        self._closing = False

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_later(0.05, self._server.closed, cast("Any", self))

    def abort(self) -> None:
        self.aborted = True


async def test_a_stopping_tracker_lets_connections_flush() -> None:
    """A tracker that stops waits for connections that still flush, and aborts none that ends in time."""
    server = _server()
    server._idle_timer = asyncio.get_running_loop().call_later(1000, lambda: None)
    connection = _Slow(server)
    server.opened(cast("Any", connection))
    await server.stop()
    assert not connection.aborted
    assert not server._connections


async def test_the_last_connection_may_close_before_the_tracker_stops() -> None:
    """A tracker goes on serving when its last connection closes."""
    server = _server()
    server._idle_timer = asyncio.get_running_loop().call_later(1000, lambda: None)
    server.opened(cast("Any", connection := _Slow(server)))
    server.closed(cast("Any", connection))
    await server.stop()
