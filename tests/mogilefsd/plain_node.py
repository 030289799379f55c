"""A storage node of another make: a plain HTTP server with only GET, HEAD, PUT and DELETE."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tawara.model import fid as fids


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def do_GET(self) -> None:
        path = self.root / self.path.lstrip("/")
        body = path.read_bytes() if path.is_file() else None
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        path = self.root / self.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(201)

    def do_DELETE(self) -> None:
        path = self.root / self.path.lstrip("/")
        if not path.is_file():
            self._answer(404)
            return
        path.unlink()
        self._answer(204)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class PlainNode:
    """The server, on the devices below `root`; it can be stopped and started again."""

    def __init__(self, root: Path, ip: str, devids: range) -> None:
        self.root = root
        self.ip = ip
        self.port = 0
        self.devids = devids
        for devid in devids:
            (root / f"dev{devid}").mkdir(parents=True)
            usage = f"available: 9000000\ntime: {int(time.time())}\ntotal: 10000000\nused: 1000000\n"
            (root / f"dev{devid}" / "usage").write_text(usage)
        self._server: ThreadingHTTPServer | None = None
        self.start()

    def start(self) -> None:
        """Serve, on the same port as before."""
        handler = type("Handler", (_Handler,), {"root": self.root})
        self._server = ThreadingHTTPServer((self.ip, self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="plain node").start()

    def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def path(self, devid: int, fid: int) -> Path:
        """The path of a replica, existing or not."""
        return self.root / fids.path(devid, fid)[1:]


@contextmanager
def plain_node(root: Path, ip: str, devids: range) -> Iterator[PlainNode]:
    """A node, stopped at the end."""
    node = PlainNode(root, ip, devids)
    try:
        yield node
    finally:
        node.stop()
