"""The complete HTTP server: aiohttp's, with bounded headers and without internal details in error replies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from tawara.instruments import ABORTED, RequestMeter, method_label
from tawara.listening import OnClosed, wait_for_first_requests
from tawara.model.limits import Limits
from tawara.model.node_errors import LengthRequired, TooLarge

log = structlog.get_logger(__name__)

_READ_AHEAD: Final = 128 * 1024
"""Bytes of a body that a connection buffers (aiohttp buffers up to twice as many)."""
_HEADER_FIELDS: Final = 100
_LINGER: Final = 5.0
"""Seconds for which the rest of a refused body is read and discarded, so that the peer receives the refusal."""

SERVER = "tawara"
"""Value of the Server field, without a version."""


def plain(status: int, text: str = "", **headers: str) -> web.Response:
    """Make a reply whose body is one line of text, or empty; header names have underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = f"{text}\n".encode() if text else b""
    return web.Response(
        status=status, body=body, headers={hdrs.SERVER: SERVER, hdrs.CONTENT_TYPE: "text/plain", **named}
    )


def body_length(length: int | None, coding: str | None, *, most: int) -> int | None:
    """Return the bytes of a body by its header fields; None if it is chunked. Raises LengthRequired, TooLarge."""
    if length is None and (coding or "").lower() != "chunked":
        raise LengthRequired
    if length is not None and length > most:
        raise TooLarge
    return length


async def send_continue(request: web.BaseRequest) -> None:
    """Send 100 Continue to a client that waits for it before it sends the body (RFC 9110, section 10.1.1)."""
    if request.version >= HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it is not part of the reply


async def send_response(
    request: web.BaseRequest, response: web.StreamResponse, *, timeout: float
) -> web.StreamResponse:
    """Send a reply; abort the connection if the peer does not read it within `timeout` seconds."""
    if not request.content.is_eof() or is_draining(request):
        response.force_close()
    try:
        async with asyncio.timeout(timeout):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        raise abort(request) from None
    return response


def is_draining(request: web.BaseRequest) -> bool:
    """Return whether the connection of `request` is to be closed after the reply, since the server will stop."""
    connection = request.protocol
    return isinstance(connection, BoundedConnection) and connection.is_draining


def abort(request: web.BaseRequest) -> ConnectionResetError:
    """Close the connection at once; return the error to raise."""
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError()


class BoundedConnection(RequestHandler):
    """One connection. aiohttp limits the time for a header; this class also limits its bytes."""

    __slots__ = (
        "_active",
        "_answered",
        "_body",
        "_broken",
        "_ended",
        "_header_bytes",
        "_http_server",
        "_most_header_bytes",
        "_on_closed",
    )

    def __init__(self, server: HttpServer, on_closed: OnClosed, most_header_bytes: int, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._on_closed, self._most_header_bytes, self._http_server = on_closed, most_header_bytes, server
        self._header_bytes = 0
        self._broken = self._ended = False
        self._body: StreamReader | None = None
        """The body of the latest request."""
        self._answered: StreamReader | None = None
        """The body of the request that was answered last."""
        self._active = asyncio.get_running_loop().time()

    def idle_since(self) -> float | None:
        """See listening.Sheddable. aiohttp has a waiter only while it waits for a request."""
        waiting = self._waiter is not None and not self._waiter.done() and not self._header_bytes
        return self._active if waiting else None

    @property
    def is_new(self) -> bool:
        """Whether no request has arrived yet."""
        return self._body is None and self.transport is not None and not self._ended

    @property
    def is_draining(self) -> bool:
        """Whether the connection is to be closed after its next reply."""
        return self._http_server.draining

    @property
    def has_ended(self) -> bool:
        """Whether the peer has closed its sending half, or the whole connection."""
        return self._ended or self.transport is None

    def data_received(self, data: bytes) -> None:
        """Count the bytes received while no request is complete; close the connection beyond the header limit.

        After bytes that are not HTTP the connection stops reading: aiohttp would log an error for each piece.
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
        waiter = self._waiter  # exists while aiohttp waits for a header, done as soon as one is complete
        if waiter is None or waiter.done():
            self._header_bytes = 0
            return
        self._header_bytes += len(data)
        if self._header_bytes > self._most_header_bytes:
            self.force_close()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio uses the result
        """See asyncio.Protocol. A peer that has closed its sending half still receives all replies."""
        self._ended = True
        if not self._messages and self._waiter is not None:
            return False
        if self._body is not None and not self._body.is_eof():
            if self._body is self._answered:
                self._drop_rest(self._body)
            else:
                self._body.set_exception(RequestPayloadError("the body breaks off"))
        return True

    def _drop_rest(self, body: StreamReader) -> None:
        """Have aiohttp not wait for the rest of a body that will never come; close after the response."""
        body.feed_eof()
        self.close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """See RequestHandler. Closes the connection after the last reply if the peer has closed its sending half."""
        if self._ended and not self._messages:
            self.close()
        finished = await super().finish_response(request, resp, start_time)
        self._answered = request.content
        if self._ended and not request.content.is_eof():
            self._drop_rest(request.content)
        return finished

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._on_closed()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Reply to malformed HTTP and to errors outside of the handler, without internal details."""
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionResetError
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("connection_failed", peer=request.remote, exc_info=exc)
        response = plain(status, HTTPStatus(status).phrase)
        response.force_close()
        return response


class HttpServer(web.Server):
    """The connections of one listener."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        limits: Limits,
        *,
        idle: float,
        meter: RequestMeter | None = None,
    ) -> None:
        """`idle`: seconds without a request after which a connection is closed. `meter` counts the requests.

        Needs a running event loop.
        """
        super().__init__(handler if meter is None else _measured(handler, meter))
        self.draining = False
        """Whether each connection is closed after its next reply."""
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
        """Make the protocol of a new connection. It calls `on_closed` when the connection is closed."""
        loop = asyncio.get_running_loop()
        return BoundedConnection(self, on_closed, self._most_header_bytes, loop=loop, **self._settings)

    async def close(self, grace: float) -> None:
        """Close idle connections now and the others after their reply; abort those left after `grace` seconds.

        Connections that were accepted just now get some of that time for their first request.
        """
        self.draining = True
        mine = [each for each in self.connections if isinstance(each, BoundedConnection)]
        await wait_for_first_requests(lambda: any(each.is_new for each in mine), grace)
        self.pre_shutdown()
        await self.shutdown(grace)


def _measured(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], meter: RequestMeter
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Return `handler`, with its requests counted by `meter`."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        begun, result = time.perf_counter(), ABORTED
        try:
            response = await handler(request)
            result = str(response.status)
            return response
        finally:
            meter.record(method_label(request.method), result, time.perf_counter() - begun)

    return answer
