"""Sends the bytes of a file as the body of a response, through Python."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

from aiohttp import hdrs, web

from tawara.http1.connections import SERVER, abort
from tawara.model.errors import NoSource


async def send_body(
    request: web.BaseRequest,
    status: int,
    fields: Mapping[str, str],
    pieces: AsyncGenerator[bytes],
    *,
    timeout: float,
    count: Callable[[int], None] = lambda _: None,
) -> web.StreamResponse:
    """Send a response with the body `pieces`, which are closed; `count` is called with the bytes of each.

    `timeout`: seconds that the client may take to read a piece. Raises NoSource while nothing is sent. An error after
    the first byte can only be signalled by closing the connection: ConnectionResetError.
    """
    try:
        piece = await anext(pieces, b"")
        response = web.StreamResponse(status=status, headers={**fields, hdrs.SERVER: SERVER})
        try:
            async with asyncio.timeout(timeout):
                await response.prepare(request)
            while piece:
                count(len(piece))
                async with asyncio.timeout(timeout):
                    await response.write(piece)
                piece = await anext(pieces, b"")
            async with asyncio.timeout(timeout):
                await response.write_eof()
        except (TimeoutError, NoSource):
            raise abort(request) from None
        return response
    finally:
        await pieces.aclose()
