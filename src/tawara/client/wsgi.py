"""WSGI middleware: sends the files that an application names, or lets the balancer send them.

>>> from tawara.client.wsgi import WsgiFiles, tawara_file
>>> def application(environ, start_response):
...     start_response("200 OK", [("Content-Type", "image/jpeg"), *tawara_file("photos", "cat.jpg").items()])
...     return []
>>> application = WsgiFiles(application, balancer=True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from tawara.client.file_response import (
    FileReply,
    failed_reply,
    find_named,
    parse_path,
    redirect,
    reply_with,
    tawara_file,
)
from tawara.client.synchronous import Client
from tawara.model.errors import NoSource, TawaraError
from tawara.wire.http import entity_tag

__all__ = ["WsgiFiles", "tawara_file"]

_LOOK_UPS = 20
"""Most look-ups of a key that is overwritten repeatedly."""


class WsgiFiles:
    """An application whose responses may name a file by `tawara_file`."""

    def __init__(self, application: WSGIApplication, *, balancer: bool, client: Client | None = None) -> None:
        """`balancer`: whether every request comes through a balancer that sends files; else the middleware does, by
        `client`, or a client of the trackers in TAWARA_TRACKERS.
        """
        self._application, self._balancer = application, balancer
        self._client = client or (None if balancer else Client())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        begun: list[tuple[str, list[tuple[str, str]], Any]] = []
        written: list[bytes] = []

        def start(status: str, fields: list[tuple[str, str]], exc_info: Any = None, /) -> Callable[[bytes], object]:
            begun[:] = [(status, fields, exc_info)]
            return written.append

        body = self._application(environ, start)
        pieces = iter(body)
        try:
            first = next(pieces, b"")  # an application may start its response as late as here
            status, fields, exc_info = begun[0]
            path = find_named(fields)
            if path is None:
                start_response(status, fields, exc_info)
                return _Body([*written, first], pieces, body)
        except BaseException:
            _close(body)
            raise
        _close(body)
        if self._balancer:
            start_response(status, redirect(fields, path))
            return []
        assert self._client is not None
        return self._send(self._client, environ, path, fields, start_response)

    def _send(
        self,
        client: Client,
        environ: WSGIEnvironment,
        path: str,
        own: list[tuple[str, str]],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        asked = {name[5:].replace("_", "-").lower(): text for name, text in environ.items() if name.startswith("HTTP_")}
        try:
            domain, key = parse_path(path)
            for _ in range(_LOOK_UPS):
                reply = reply_with(client.info(domain, key), environ["REQUEST_METHOD"], asked, own)
                if reply.start == reply.end:
                    start_response(reply.status_line, list(reply.fields))
                    return [reply.body]
                opened = client.open(domain, key, start=reply.start, end=reply.end)
                reading = opened.__enter__()
                if ("ETag", entity_tag(reading.info.fid, reading.info.length)) in reply.fields:
                    start_response(reply.status_line, list(reply.fields))
                    return _Body([], iter(reading), _Opened(opened))
                opened.__exit__(None, None, None)  # overwritten since the look-up
            raise NoSource
        except TawaraError as error:
            failed: FileReply = failed_reply(error, own)
            start_response(failed.status_line, list(failed.fields))
            return [failed.body]


class _Opened:
    """Closes a file that is being read, as WSGI closes a body."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def close(self) -> None:
        """Stop reading."""
        self._opened.__exit__(None, None, None)


class _Body:
    """A response's body, of which some pieces are known already."""

    def __init__(self, first: list[bytes], rest: Iterator[bytes], closing: object) -> None:
        self._first, self._rest, self._closing = first, rest, closing

    def __iter__(self) -> Iterator[bytes]:
        yield from (each for each in self._first if each)
        yield from self._rest

    def close(self) -> None:
        """Close the application's body."""
        _close(self._closing)


def _close(body: object) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()
