"""HTTP connections as nodes and gateways want them: aiohttp's, with bounded headers and answers without internals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from tawara.listening import OnClosed
from tawara.model.limits import Limits
from tawara.model.node_errors import LengthRequired, TooLarge

log = structlog.get_logger(__name__)

_READ_AHEAD: Final = 128 * 1024
"""Bytes of a body that may wait to be stored or passed on, per connection (aiohttp keeps up to twice as many)."""
_HEADER_FIELDS: Final = 100
_LINGER: Final = 5.0
"""Seconds for which the rest of a refused body is read and dropped, so that the peer gets to see the refusal."""

SERVER = "tawara"
"""What the Server header says: no versions."""


def plain(status: int, text: str = "", **headers: str) -> web.Response:
    """A short answer for people; header names are given with underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = f"{text}\n".encode() if text else b""
    return web.Response(
        status=status, body=body, headers={hdrs.SERVER: SERVER, hdrs.CONTENT_TYPE: "text/plain", **named}
    )


def announced(length: int | None, coding: str | None, *, most: int) -> int | None:
    """The bytes of a body by its header fields; None if it comes in chunks. Raises LengthRequired, TooLarge."""
    if length is None and (coding or "").lower() != "chunked":
        raise LengthRequired
    if length is not None and length > most:
        raise TooLarge
    return length


async def invite(request: web.BaseRequest) -> None:
    """Have a client that waits for that (RFC 9110, section 10.1.1) send its body."""
    if request.version >= HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is no part of the answer


async def see_off(request: web.BaseRequest, response: web.StreamResponse, *, timeout: float) -> web.StreamResponse:
    """See to it that an answer leaves: a peer that does not take it within `patience` seconds is cut off."""
    if not request.content.is_eof():
        response.force_close()
    try:
        async with asyncio.timeout(timeout):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        raise cut(request) from None
    return response


def cut(request: web.BaseRequest) -> ConnectionResetError:
    """End the connection at once, without another byte; the error that says so."""
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError()


class BoundedConnection(RequestHandler):
    """One connection. aiohttp ends it when a whole header has not come in time; this also counts the header's bytes."""

    __slots__ = ("_active", "_body", "_broken", "_ended", "_header_bytes", "_most_header_bytes", "_on_closed")

    def __init__(self, server: HttpServer, on_closed: OnClosed, most_header_bytes: int, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._on_closed, self._most_header_bytes = on_closed, most_header_bytes
        self._header_bytes = 0
        self._broken = self._ended = False
        self._body: StreamReader | None = None
        """Of the request that came last."""
        self._active = asyncio.get_running_loop().time()

    def idle_since(self) -> float | None:
        """See listening.Sheddable. aiohttp has a waiter only while it waits for a request."""
        waiting = self._waiter is not None and not self._waiter.done() and not self._header_bytes
        return self._active if waiting else None

    def data_received(self, data: bytes) -> None:
        """Count what comes while no request is complete; a peer that sends more than any header has is cut off.

        After bytes that are not HTTP nothing more is read: aiohttp would note an error, with its bytes, for each piece.
        """
        if self._broken:
            return
        self._active = asyncio.get_running_loop().time()
        super().data_received(data)
        if self._messages:
            self._body = self._messages[-1][1]
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._broken = True
            if self.transport is not None:
                self.transport.pause_reading()
        waiter = self._waiter  # there while aiohttp waits for a header, done as soon as one is whole
        if waiter is None or waiter.done():
            self._header_bytes = 0
            return
        self._header_bytes += len(data)
        if self._header_bytes > self._most_header_bytes:
            self.force_close()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio heeds the answer
        """See asyncio.Protocol. A peer that sends no more gets the answers to all that it has asked."""
        self._ended = True
        if not self._messages and self._waiter is not None:
            return False
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(RequestPayloadError("the body breaks off"))
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """See RequestHandler. After the last answer to a peer that sends no more the connection ends."""
        if self._ended and not self._messages:
            self.close()
        return await super().finish_response(request, resp, start_time)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another connection."""
        super().connection_lost(exc)
        self._on_closed()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, and what failed outside of the handler, without a word about the inside."""
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionResetError
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("connection failed", peer=request.remote, exc_info=exc)
        response = plain(status, HTTPStatus(status).phrase)
        response.force_close()
        return response


class HttpServer(web.Server):
    """The connections of one door."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], limits: Limits, *, idle: float
    ) -> None:
        """A connection may be without a request for `idle` seconds. Needs a running event loop."""
        super().__init__(handler)
        self._most_header_bytes = limits.headers
        self._settings: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": idle,
            "lingering_time": _LINGER,
            "max_field_size": limits.header,
            "max_headers": _HEADER_FIELDS,
            "max_line_size": limits.header,
            "read_bufsize": _READ_AHEAD,
        }

    def connection(self, on_closed: OnClosed) -> BoundedConnection:
        """A protocol for one new connection, which calls `leave` when the connection is over."""
        loop = asyncio.get_running_loop()
        return BoundedConnection(self, on_closed, self._most_header_bytes, loop=loop, **self._settings)

    async def close(self, grace: float) -> None:
        """End idle connections now, the others when their request is done, or cut them after `grace` seconds."""
        self.pre_shutdown()
        await self.shutdown(grace)
