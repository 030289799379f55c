"""The tracker's connections while it stops."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from tawara.model.limits import Limits
from tawara.tracker.server import TrackerServer


def _server(limits: Limits | None = None) -> TrackerServer:
    nothing = cast("Any", SimpleNamespace(reads_at_once=False))
    return TrackerServer(nothing, nothing, nothing, nothing, address=("127.0.0.1", 0), limits=limits)


class _Slow:
    """A connection whose peer has not read its last reply yet."""

    busy = False
    has_begun = True
    aborted = False
    closing = False

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True


async def test_a_stopping_tracker_lets_connections_flush() -> None:
    """A tracker that stops waits for connections that still flush, and aborts none that ends in time."""
    server = _server()
    server._idle_timer = asyncio.get_running_loop().call_later(1000, lambda: None)
    connection = _Slow()
    server.opened(cast("Any", connection))
    stopping = asyncio.create_task(server.stop())
    while not connection.closing:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stopping.done()
    server.closed(cast("Any", connection))
    await stopping
    assert not connection.aborted
    assert not server._connections


async def test_a_connection_that_never_flushes_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that stops aborts a connection whose peer does not read its reply in time."""
    monkeypatch.setattr("tawara.tracker.server._FLUSH_SECONDS", 0)
    server = _server()
    server.opened(cast("Any", connection := _Slow()))
    await server.stop()
    assert connection.closing
    assert connection.aborted


async def test_running_requests_get_time_to_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that stops lets running requests finish, and cancels those that do not in time."""
    server, ended = _server(), []

    async def request(*, hangs: bool) -> None:
        try:
            await (asyncio.Event().wait() if hangs else asyncio.sleep(0))
            ended.append("finished")
        except asyncio.CancelledError:
            ended.append("cancelled")

    server.run(request(hangs=False))
    assert server.journal.running == 1
    await server.stop()
    assert server.journal.running == 0
    monkeypatch.setattr("tawara.tracker.server._GRACE_SECONDS", 0)
    server.run(request(hangs=True))
    await asyncio.sleep(0)
    await server.stop()
    assert ended == ["finished", "cancelled"]


@pytest.mark.parametrize(("limit", "delay"), [(600, 60), (0, None)])
async def test_idle_connections_are_checked(monkeypatch: pytest.MonkeyPatch, limit: float, delay: float | None) -> None:
    """One timer serves all connections, ten times within the limit, while there are any; 0 disables the limit."""
    timers: list[Any] = []
    loop = asyncio.get_running_loop()

    def call_later(*call: Any) -> Mock:
        timers.append(call)
        return Mock()

    monkeypatch.setattr(loop, "call_later", call_later)
    server = _server(Limits(tracker_idle=limit))
    idle = [Mock(busy=False) for _ in range(2)]
    for each in idle:
        server.opened(each)
    assert [each[0] for each in timers] == ([] if delay is None else [delay])
    if delay is None:
        return
    now = loop.time()
    timers.pop()[1]()
    for each in idle:
        assert now - limit <= each.close_if_idle.call_args.args[0] <= loop.time() - limit
    assert len(timers) == 1
    for each in idle:
        server.closed(each)
    timers.pop()[1]()
    assert timers == []


async def test_a_tracker_without_connections_continues() -> None:
    """A tracker continues after its last connection closes."""
    server = _server()
    server._idle_timer = asyncio.get_running_loop().call_later(1000, lambda: None)
    server.opened(cast("Any", connection := _Slow()))
    server.closed(cast("Any", connection))
    await server.stop()
