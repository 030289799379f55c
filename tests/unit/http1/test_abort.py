"""Closing an HTTP connection at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from aiohttp import web

from tawara.http1 import connections


def test_abort_closes_the_connection() -> None:
    """`abort` aborts the transport of a request, and returns the error to raise, also without a transport."""
    transport = Mock()
    for each in (transport, None):
        assert isinstance(connections.abort(cast("Any", SimpleNamespace(transport=each))), ConnectionResetError)
    transport.abort.assert_called_once_with()


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\n\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_reading_stops_after_invalid_http(sent: bytes) -> None:
    """After bytes that are not HTTP the connection reads nothing more."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    server = web.Server(handler)
    connection = connections.BoundedConnection(
        cast("Any", server), cast("Any", lambda *_: None), 10_000, loop=asyncio.get_running_loop()
    )
    transport = Mock(spec=asyncio.Transport)
    transport.is_closing.return_value = False
    transport.get_extra_info.return_value = None
    connection.connection_made(transport)
    connection.data_received(sent)
    assert transport.pause_reading.called
    connection.data_received(b"x" * 20_000)
    connection.connection_lost(None)
    await asyncio.sleep(0)
