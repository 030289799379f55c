"""What the monitor of an idle process costs: percent of a core by the number of devices.

    python -m benchmarks.monitor [--devices 300] [--hosts 25] [--seconds 40] [--profile]

A second process plays all storage nodes, at addresses of 127.0.0.0/8, with as little effort as it can; the database is
a SQLite file. The first rounds, in which every device is new, are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import multiprocessing
import pstats
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias, cast

import uvloop

from tawara.metadata import cluster as rows
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.model.cluster import HostState
from tawara.nodes.client import NodeClient
from tawara.workers.monitor import Monitor

SETTLE = 12.0
"""Seconds until the first rounds are over."""
Pipe: TypeAlias = "Connection[int, None]"


class Node(asyncio.Protocol):
    """A storage node of any number of devices that keeps the last body of each path."""

    bodies: dict[bytes, bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """See Protocol."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            lower = head.lower()
            length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in lower else 0
            if len(rest) < length:
                if b"100-continue" in lower and not rest:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body, self._received = rest[:length], rest[length:]
            method, path, _ = head.split(b" ", 2)
            self._answer(method, path, body, b"content-md5" in lower)

    def _answer(self, method: bytes, path: bytes, body: bytes, digest: bool) -> None:
        if method == b"PUT":
            if digest:
                self._transport.write(b"HTTP/1.1 400 Bad digest\r\nContent-Length: 0\r\n\r\n")
                return
            type(self).bodies[path] = body
            self._transport.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            return
        found = type(self).bodies.get(path, b"total: 1000000\nused: 1000\nholds: files\ntime: %d\n" % time.time())
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(found), found))


def _nodes(pipe: Pipe) -> None:
    async def serve() -> None:
        Node.bodies = {}
        server = await asyncio.get_running_loop().create_server(Node, "0.0.0.0", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)

    uvloop.run(serve())


async def measure(port: int, options: argparse.Namespace) -> None:
    """Watch the devices for some time."""
    with tempfile.TemporaryDirectory() as name:
        metadata = SqliteMetadata.open(Path(name, "tawara.db"))
        for number in range(1, options.hosts + 1):
            address = f"127.0.{number // 200}.{number % 200 + 1}"
            await metadata.write(rows.create_host, f"h{number}", state=HostState.ALIVE, ip=address, http_port=port)
        for devid in range(1, options.devices + 1):
            await metadata.write(rows.create_device, devid, 1 + devid % options.hosts)
        view = ClusterView(metadata)
        async with NodeClient() as nodes:
            monitor = Monitor(view, metadata, nodes, side_channel_port=None)
            await monitor.start()
            await asyncio.sleep(SETTLE)
            assert all(map(view.current.is_writeable, range(1, options.devices + 1)))
            profile = cProfile.Profile() if options.profile else None
            if profile:
                profile.enable()
            began, used = time.monotonic(), time.process_time()
            await asyncio.sleep(options.seconds)
            taken, used = time.monotonic() - began, time.process_time() - used
            if profile:
                profile.disable()
                pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(35)
            await monitor.stop()
        await metadata.close()
    print(f"{options.devices} devices on {options.hosts} hosts: {100 * used / taken:.2f} % of a core")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--hosts", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_nodes, args=(theirs,))
    process.start()
    try:
        uvloop.run(measure(ours.recv(), options))
    finally:
        ours.send(None)
        process.join()


if __name__ == "__main__":
    main()
