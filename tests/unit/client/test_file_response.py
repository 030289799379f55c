"""The middleware of web applications: what it sends to a balancer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from tawara.client import Client
from tawara.client.asgi import AsgiFiles
from tawara.client.file_response import FIELD, tawara_file
from tawara.client.wsgi import WsgiFiles

FIELDS = [("Content-Type", "image/png"), ("Content-Length", "9"), ("ETag", '"own"'), *tawara_file("d", "a b").items()]


def test_a_name_is_percent_encoded() -> None:
    """Any key can be named, as in the gateway's addresses."""
    assert tawara_file("d", "ü?#%/x") == {FIELD: "/d/%C3%BC%3F%23%25/x"}
    assert tawara_file("d", b"\xff") == {FIELD: "/d/%FF"}


def test_wsgi_behind_a_balancer() -> None:
    """The balancer gets the file's name and the application's fields, but no body."""
    begun: list[Any] = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", FIELDS if environ["PATH_INFO"] == "/file" else FIELDS[:1])
        write(b"some ")
        return [b"body"]

    def start(status: str, fields: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
        begun.append((status, fields))
        return bytes

    files = WsgiFiles(application, balancer=True, client=Client("127.0.0.1:1"))
    assert list(files({"PATH_INFO": "/file"}, start)) == []
    assert begun == [
        ("200 OK", [("Content-Type", "image/png"), ("X-Accel-Redirect", "/_tawara/d/a%20b"), ("Content-Length", "0")])
    ]
    assert b"".join(files({"PATH_INFO": "/other"}, start)) == b"some body"
    assert begun[1] == ("200 OK", FIELDS[:1])


def test_asgi_behind_a_balancer() -> None:
    """The same by ASGI; other responses, and other kinds of connections, pass as they are."""
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            fields = FIELDS if scope["path"] == "/file" else FIELDS[:1]
            headers = [(name.encode(), value.encode()) for name, value in fields]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"body"})
        else:
            await send({"type": "other"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    files = AsgiFiles(application, balancer=True)
    asyncio.run(files({"type": "http", "path": "/file"}, receive, send))
    fields = dict(sent[0]["headers"])
    assert fields[b"x-accel-redirect"] == b"/_tawara/d/a%20b"
    assert fields[b"content-type"] == b"image/png"
    assert b"etag" not in fields
    assert sent[1:] == [{"type": "http.response.body", "body": b""}]
    sent.clear()
    asyncio.run(files({"type": "http", "path": "/other"}, receive, send))
    asyncio.run(files({"type": "websocket"}, receive, send))
    assert [message.get("body") for message in sent] == [None, b"body", None]
