"""The HTTP door of a storage node: what trackers, applications, proxies and other nodes speak to.

Reference: section 18.1. HTTP/1.0 and 1.1; GET, HEAD, PUT, DELETE and MKCOL; anything else is 400. Nothing here waits
for a disk on the event loop, and of a body no more than a few hundred KiB are in memory per connection.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from tawara.listening import Leave
from tawara.model.errors import TawaraError
from tawara.model.limits import Limits
from tawara.node.connections import SERVER, Connection, HttpServer, plain
from tawara.node.devices import Devices, OpenFile
from tawara.node.errors import (
    DirectoryInstead,
    LengthRequired,
    MalformedRequest,
    Stalled,
    TooLarge,
)
from tawara.node.lanes import Lanes
from tawara.node.sending import send_file
from tawara.wire import ranges

log = structlog.get_logger(__name__)

_SMALL: Final = 64 * 1024
"""Files up to this size are read at once and leave together with their header."""
_READ_AHEAD: Final = 128 * 1024
"""Bytes of a body that may wait for the disk, per connection (aiohttp keeps up to twice as many)."""
_HEADER_FIELDS: Final = 100
_LINGER: Final = 5.0
"""Seconds for which the rest of a refused body is read and dropped, so that the peer gets to see the refusal."""
_ORIGIN: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_LISTING: Final = "Directory listing disabled"


class HttpDoor:
    """Answers HTTP requests for the files of `devices`."""

    def __init__(self, devices: Devices, lanes: Lanes, limits: Limits) -> None:
        """Needs a running event loop."""
        self._devices, self._lanes, self._limits = devices, lanes, limits
        self._methods: dict[str, Callable[[web.BaseRequest, str, str], Awaitable[web.StreamResponse]]] = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._put,
            "DELETE": self._delete,
            "MKCOL": self._mkcol,
        }
        self._server = HttpServer(
            self._answer,
            most_header_bytes=limits.headers,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.header_time,
            lingering_time=_LINGER,
            max_field_size=limits.header,
            max_headers=_HEADER_FIELDS,
            max_line_size=limits.header,
            read_bufsize=_READ_AHEAD,
        )

    def connection(self, leave: Leave) -> Connection:
        """A protocol for one new connection, which calls `leave` when the connection is over."""
        return self._server.connection(leave)

    async def close(self, grace: float) -> None:
        """End idle connections now, the others when their request is done, or cut them after `grace` seconds."""
        self._server.pre_shutdown()
        await self._server.shutdown(grace)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and see to it that the answer leaves: a peer that does not read it is cut off."""
        try:
            response = await self._respond(request)
        except TawaraError as error:
            response = plain(error.http, HTTPStatus(error.http).phrase if error.http >= 500 else error.message)
            if error.http == 500:
                log.exception("request failed", method=request.method, path=request.raw_path)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("request failed", method=request.method, path=request.raw_path)
            response = plain(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase)
        if not request.content.is_eof():
            response.force_close()
        try:
            async with asyncio.timeout(self._limits.stalled_body):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            raise _cut(request) from None
        return response

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = self._methods.get(request.method)
        if handler is None:
            raise MalformedRequest
        target = _ORIGIN.sub("", request.raw_path, count=1).partition("?")[0]
        if target == "/" and handler == self._get:
            return plain(200, _NO_LISTING)
        return await handler(request, target, await self._lanes.of(target))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _get(self, request: web.BaseRequest, target: str, lane: str) -> web.StreamResponse:
        try:
            file, body = await self._lanes.run(lane, self._open, target, request.method == "GET")
        except DirectoryInstead:
            return plain(200, _NO_LISTING)
        with file:
            modified = _http_date(file.modified)
            head = {hdrs.SERVER: SERVER, hdrs.LAST_MODIFIED: modified, hdrs.ACCEPT_RANGES: "bytes"}
            asked = request.headers
            if asked.get(hdrs.IF_MODIFIED_SINCE) == modified:
                return web.Response(status=304, headers=head)
            whole = ranges.Span(0, file.size)
            wanted = asked.get(hdrs.RANGE) if asked.get(hdrs.IF_RANGE, modified) == modified else None
            span = ranges.resolve(wanted, file.size)
            if span is ranges.Unpartial.UNSATISFIABLE:
                return plain(416, "No such range", Content_Range=f"bytes */{file.size}")
            if isinstance(span, ranges.Span):
                head[hdrs.CONTENT_RANGE] = span.content_range(file.size)
            part = span if isinstance(span, ranges.Span) else whole
            status = 200 if part is whole else 206
            head[hdrs.CONTENT_TYPE] = "text/plain"
            if body is not None:
                return web.Response(status=status, headers=head, body=body[part.start : part.start + part.length])
            head[hdrs.CONTENT_LENGTH] = str(part.length)
            if request.method == "HEAD":
                return web.Response(status=status, headers=head)
            return await self._send(request, web.StreamResponse(status=status, headers=head), file, part, lane)

    def _open(self, target: str, to_read: bool) -> tuple[OpenFile, bytes | None]:
        """Open a file and, if it is small, read it, all in one turn of the disk's thread."""
        file = self._devices.open(target)
        if not to_read or file.size > _SMALL:
            return file, None
        with file:
            return file, file.read(0, file.size)

    async def _send(
        self, request: web.BaseRequest, response: web.StreamResponse, file: OpenFile, part: ranges.Span, lane: str
    ) -> web.StreamResponse:
        """Send the header and then `part` of `file`; what goes wrong from here on can only be told by cutting off."""
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        patience = self._limits.stalled_body
        try:
            await send_file(
                transport, file.descriptor, part.start, part.length, lanes=self._lanes, lane=lane, patience=patience
            )
        except ConnectionError:
            raise _cut(request) from None
        except OSError as error:  # TimeoutError is one: the peer takes nothing
            log.warning("transfer given up", path=request.raw_path, reason=error.strerror or "the peer does not read")
            raise _cut(request) from error
        return response

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _put(self, request: web.BaseRequest, target: str, lane: str) -> web.StreamResponse:
        size, md5 = request.content_length, _content_md5(request)
        if size is None and request.headers.get(hdrs.TRANSFER_ENCODING, "").lower() != "chunked":
            raise LengthRequired
        if size is not None and size > self._limits.upload:
            raise TooLarge
        if hdrs.CONTENT_RANGE in request.headers:  # a part must not replace the file (RFC 9110, section 14.5)
            raise MalformedRequest("A file is put whole; Content-Range is not understood")
        if size is not None and size <= _SMALL:
            body = b"".join([chunk async for chunk in self._body(request)])
            await self._lanes.run(lane, self._store, target, body, size, md5)
            return plain(200 if md5 is None else 201)
        incoming = await self._lanes.run(lane, self._devices.receive, target, size=size, md5=md5)
        try:
            async for chunk in self._body(request):
                await self._lanes.run(lane, incoming.write, chunk)
            await self._lanes.run(lane, incoming.commit)
        except BaseException:
            await self._lanes.run(lane, incoming.abort)
            raise
        return plain(200 if md5 is None else 201)

    def _store(self, target: str, body: bytes, size: int, md5: bytes | None) -> None:
        """Store a small file, all in one turn of the disk's thread."""
        with self._devices.receive(target, size=size, md5=md5) as incoming:
            incoming.write(body)
            incoming.commit()

    async def _body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Stalled, TooLarge, MalformedRequest, ConnectionError."""
        if request.version >= HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(_CONTINUE)
            request.writer.output_size = 0  # it is no part of the answer
        size = 0
        while True:
            try:
                async with asyncio.timeout(self._limits.stalled_body):
                    chunk = await request.content.readany()
            except TimeoutError:
                raise Stalled from None
            except RequestPayloadError as error:
                raise MalformedRequest("The body is not chunked as it says") from error
            if not chunk:
                return
            size += len(chunk)
            if size > self._limits.upload:
                raise TooLarge
            yield chunk

    async def _delete(self, request: web.BaseRequest, target: str, lane: str) -> web.StreamResponse:
        await self._lanes.run(lane, self._devices.delete, target)
        return plain(204)

    async def _mkcol(self, request: web.BaseRequest, target: str, lane: str) -> web.StreamResponse:
        await self._lanes.run(lane, self._devices.make_directory, target)
        return plain(201)


def _cut(request: web.BaseRequest) -> ConnectionResetError:
    """End the connection at once, without another byte; the error that says so."""
    if request.transport is not None:
        request.transport.abort()
    return ConnectionResetError()


def _content_md5(request: web.BaseRequest) -> bytes | None:
    """The raw digest that Content-MD5 names (RFC 1864), None without one. Raises MalformedRequest."""
    text = request.headers.get(hdrs.CONTENT_MD5)
    if text is None:
        return None
    try:
        digest = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise MalformedRequest("Content-MD5 is not the base64 of 16 bytes")
    return digest


@lru_cache(1024)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
