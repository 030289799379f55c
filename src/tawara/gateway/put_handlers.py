"""Handles PUT: admits the body before nginx receives it, stores a body that nginx received, or streams a body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import hdrs, web

from tawara.gateway import responses
from tawara.gateway.nginx import NginxFront
from tawara.gateway.nginx_protocol import HeaderField
from tawara.gateway.requests import HttpRequest, PlainHttpRequest, RequestParser
from tawara.gateway.spool import SpoolFull
from tawara.http1.connections import send_continue
from tawara.http1.reply import Reply
from tawara.model.limits import Limits
from tawara.model.node_errors import MalformedRequest, Stalled, TooLarge
from tawara.store.writer import FileWriter


class AdmitHandler:
    """Answers nginx's subrequest before it receives the body of a PUT: 204, or the refusal."""

    def __init__(self, parser: RequestParser, writer: FileWriter, front: NginxFront) -> None:
        self._parser, self._writer, self._front = parser, writer, front

    async def handle(self, request: HttpRequest) -> Reply:
        """Check everything that can be checked without the body, and that the spool has space for it."""
        wanted, headers = await self._parser.put(request), request.headers
        # A refused request may come again, and then with its body.
        text = headers.get(HeaderField.LENGTH) or headers.get(hdrs.CONTENT_LENGTH) or ""
        coding = headers.get(HeaderField.CODING) or headers.get(hdrs.TRANSFER_ENCODING)
        length = self._parser.body_length(int(text) if text.isdigit() else None, coding, wanted)
        await self._writer.check(wanted)
        await self._front.check_spool(length or 0)
        return Reply(204)


class StoreHandler:
    """Stores a body that nginx has received into a file."""

    def __init__(self, parser: RequestParser, writer: FileWriter, front: NginxFront) -> None:
        self._parser, self._writer, self._front = parser, writer, front

    async def handle(self, request: HttpRequest) -> Reply:
        """Store the file. Raises ConnectionResetError if the client disconnected and nginx removed the body."""
        wanted = await self._parser.put(request)
        body = self._front.spool.body(request.headers.get(HeaderField.BODY) or "")
        if body is None:
            raise MalformedRequest
        try:
            return responses.stored(wanted, await self._writer.store_file(wanted, body))
        except Exception:
            if await self._front.has_body(body):
                raise
            raise ConnectionResetError from None


class SmallPutHandler:
    """Stores a small body that nginx sends with the request."""

    def __init__(self, parser: RequestParser, writer: FileWriter, limits: Limits) -> None:
        self._parser, self._writer, self._limits = parser, writer, limits

    async def handle(self, request: HttpRequest) -> Reply:
        """Store the file. Raises Stalled if nginx does not send the body."""
        wanted = await self._parser.put(request)
        if isinstance(request, PlainHttpRequest):
            body = request.body
        else:
            self._parser.body_length(request.content_length, None, wanted)
            try:
                async with asyncio.timeout(self._limits.stalled_body):
                    body = await request.read()
            except TimeoutError:
                raise Stalled from None
        self._parser.body_length(len(body), None, wanted)
        return responses.stored(wanted, await self._writer.store_small(wanted, body))


class UnreceivedHandler:
    """Answers for nginx when it did not, or could not, receive the body of a PUT."""

    def __init__(self, admit: AdmitHandler) -> None:
        self._admit = admit

    async def handle(self, request: HttpRequest) -> Reply:
        """Raise the error of the request or of the spool, otherwise SpoolFull, the likely cause."""
        await self._admit.handle(request)
        raise SpoolFull


class StreamedPutHandler:
    """Stores the body of a PUT as it arrives, without nginx."""

    def __init__(self, parser: RequestParser, writer: FileWriter, limits: Limits) -> None:
        self._parser, self._writer, self._limits = parser, writer, limits

    async def handle(self, request: HttpRequest) -> Reply:
        """Check the request, let the client send the body, and store it."""
        assert isinstance(request, web.BaseRequest)
        wanted = await self._parser.put(request)
        coding = request.headers.get(hdrs.TRANSFER_ENCODING)
        length = self._parser.body_length(request.content_length, coding, wanted)
        await self._writer.check(wanted)
        await send_continue(request)
        return responses.stored(wanted, await self._writer.store_stream(wanted, self._body(request), length))

    async def _body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises Stalled, TooLarge, RequestPayloadError."""
        received = 0
        while True:
            try:
                async with asyncio.timeout(self._limits.stalled_body):
                    piece = await request.content.readany()
            except TimeoutError:
                raise Stalled from None
            if not piece:
                return
            received += len(piece)
            if received > self._limits.upload:
                raise TooLarge
            yield piece
