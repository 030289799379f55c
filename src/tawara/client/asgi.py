"""ASGI middleware: sends the files that an application names, or lets the balancer send them.

>>> from tawara.client.asgi import AsgiFiles, tawara_file
>>> async def application(scope, receive, send):
...     fields = {"Content-Type": "image/jpeg", **tawara_file("photos", "cat.jpg")}
...     headers = [(name.encode(), value.encode()) for name, value in fields.items()]
...     await send({"type": "http.response.start", "status": 200, "headers": headers})
...     await send({"type": "http.response.body", "body": b""})
>>> application = AsgiFiles(application, balancer=True)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from tawara.client.asynchronous import AsyncClient
from tawara.client.file_response import (
    FileReply,
    failed_reply,
    find_named,
    parse_path,
    redirect,
    reply_with,
    tawara_file,
)
from tawara.model.errors import NoSource, TawaraError
from tawara.wire.http import entity_tag

__all__ = ["AsgiFiles", "tawara_file"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_LOOK_UPS = 20
"""Most look-ups of a key that is overwritten repeatedly."""


class AsgiFiles:
    """An application whose responses may name a file by `tawara_file`."""

    def __init__(self, application: AsgiApplication, *, balancer: bool, client: AsyncClient | None = None) -> None:
        """`balancer`: whether every request comes through a balancer that sends files; else the middleware does, by
        `client`, or a client of the trackers in TAWARA_TRACKERS, which is closed when the server ends.
        """
        self._application, self._balancer, self._client = application, balancer, client

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            try:
                await self._application(scope, receive, send)
            finally:
                if scope["type"] == "lifespan" and self._client is not None:
                    await self._client.close()
            return
        replaced = False

        async def send_or_replace(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                fields = _decoded(message.get("headers", ()))
                path = find_named(fields)
                if path is not None:
                    replaced = True
                    await self._send(scope, message["status"], path, fields, send)
                    return
            if not replaced:
                await send(message)

        await self._application(scope, receive, send_or_replace)

    async def _send(
        self, scope: MutableMapping[str, Any], status: int, path: str, own: list[tuple[str, str]], send: Send
    ) -> None:
        if self._balancer:
            await _reply(send, FileReply(status, redirect(own, path)))
            return
        if self._client is None:
            self._client = AsyncClient()
        asked = dict(reversed(_decoded(scope["headers"])))
        begun = False
        try:
            domain, key = parse_path(path)
            for _ in range(_LOOK_UPS):
                info = await self._client.info(domain, key)
                reply = reply_with(info, scope["method"], asked, own)
                if reply.start == reply.end:
                    await _reply(send, reply)
                    return
                async with self._client.open(domain, key, start=reply.start, end=reply.end) as reading:
                    if ("ETag", entity_tag(reading.info.fid, reading.info.length)) not in reply.fields:
                        continue  # overwritten since the look-up
                    begun = True
                    await _start(send, reply)
                    async for piece in reading:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                    await send({"type": "http.response.body", "body": b""})
                    return
            raise NoSource
        except TawaraError as error:
            if begun:
                raise  # the server closes the connection
            await _reply(send, failed_reply(error, own))


async def _reply(send: Send, reply: FileReply) -> None:
    await _start(send, reply)
    await send({"type": "http.response.body", "body": reply.body})


async def _start(send: Send, reply: FileReply) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.fields]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
