"""The middleware of web applications without a balancer, with real servers: it sends the files that they name."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import uvicorn
from werkzeug.serving import make_server

from tawara.client import AsyncClient, Client
from tawara.client.asgi import AsgiFiles
from tawara.client.file_response import tawara_file
from tawara.client.wsgi import WsgiFiles
from tests.acceptance.cluster import DOMAIN, Cluster, run

DATA = os.urandom(300_000)
KEY = "a b/ü?.bin"
FIELDS = {"Content-Type": "text/x-own", "Cache-Control": "max-age=9", "Content-Disposition": "inline"}


def answer(path: str) -> dict[str, str]:
    """The header fields with which the application answers a path."""
    if path == "/plain":
        return {"Content-Type": "text/plain", "X-Own": "1"}
    return {
        **(FIELDS if path != "/untyped" else {"Content-Type": ""}),
        **tawara_file(DOMAIN, "missing" if path == "/missing" else KEY),
    }


class LazyBody:
    """A body that starts its response at its first piece, and notices that it is closed."""

    closed = 0

    def __init__(self, begin: Callable[[], object]) -> None:
        self.begin = begin

    def __iter__(self) -> Iterator[bytes]:
        self.begin()
        yield b"the body of "
        yield b"the application"

    def close(self) -> None:
        """Count."""
        LazyBody.closed += 1


def wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """An application."""
    fields = list(answer(environ["PATH_INFO"]).items())
    return LazyBody(lambda: start_response("200 OK", fields))


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """The same by ASGI."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(name.encode(), value.encode()) for name, value in answer(scope["path"]).items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"the body of ", "more_body": True})
    await send({"type": "http.response.body", "body": b"the application"})


@contextmanager
def wsgi_server(store: Cluster) -> Iterator[int]:
    """Werkzeug's server in a thread; its port."""
    with Client(store.trackers) as client:
        server = make_server("127.0.0.1", 0, WsgiFiles(wsgi, balancer=False, client=client), threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(20)
            server.server_close()


@contextmanager
def asgi_server(store: Cluster) -> Iterator[int]:
    """uvicorn in a thread; its port."""
    files = AsgiFiles(asgi, balancer=False, client=AsyncClient(store.trackers))
    server = uvicorn.Server(uvicorn.Config(files, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


SERVERS = {"wsgi": wsgi_server, "asgi": asgi_server}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_files_without_a_balancer(tmp_path: Path, server: Callable[[Cluster], Any]) -> None:
    """Ranges, conditions, HEAD and errors as behind a balancer; the application's fields stay, its body does not."""
    with run(tmp_path, hosts=2) as store, Client(store.trackers) as client, server(store) as port:
        client.put(DOMAIN, KEY, DATA, content_type="image/png")

        def ask(path: str, method: str = "GET", **fields: str) -> tuple[int, http.client.HTTPMessage, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            headers = {name.replace("_", "-"): value for name, value in fields.items()}
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            try:
                return response.status, response.headers, response.read()
            finally:
                connection.close()

        status, fields, body = ask("/file")
        assert (status, body) == (200, DATA)
        assert {name: fields[name] for name in FIELDS} == FIELDS
        assert fields["X-Tawara-File"] is None
        etag = fields["ETag"]
        status, fields, body = ask("/untyped", "HEAD")
        assert (status, body, fields["Content-Length"], fields["Content-Type"]) == (200, b"", "300000", "image/png")
        status, fields, body = ask("/file", Range="bytes=5-99999", If_Range=etag)
        assert (status, body, fields["Content-Range"]) == (206, DATA[5:100_000], "bytes 5-99999/300000")
        assert ask("/file", Range="bytes=5-", If_Range='"x"')[2] == DATA
        assert ask("/file", If_None_Match=etag)[0] == 304
        assert ask("/file", If_Match='"x"')[0] == 412
        status, fields, _ = ask("/file", Range="bytes=300000-")
        assert (status, fields["Content-Range"], fields["Cache-Control"]) == (416, "bytes */300000", None)
        status, fields, body = ask("/missing")
        assert (status, body, fields["Cache-Control"]) == (404, b"Not found\n", None)
        status, fields, body = ask("/plain")
        assert (status, body, fields["X-Own"]) == (200, b"the body of the application", "1")
        for number in range(5):
            client.put(DOMAIN, KEY, b"%d" % number * 100)
            assert ask("/file")[2] == b"%d" % number * 100
        store.replicas(client.info(DOMAIN, KEY).fid)[0].unlink()
        assert ask("/file")[0] == 503
        assert LazyBody.closed == 15 or server is asgi_server
