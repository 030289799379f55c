"""How fast a client reads, and a worker copies, a large file from one and from two nodes of limited speed.

    python -m benchmarks.parallel_reads [--megabytes 256] [--rate 50]

Each node is a process that sends the file from memory, its connections together at most at that rate, as a disk or a
network interface does. `curl` reads from one of them as the peer. A copy of a worker, which has a checksum, goes to a
third process that does nothing with the bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tawara.client.reading import Located, Reading
from tawara.client.replies import FileInfo
from tawara.model.cluster import Checksum, HashType
from tawara.nodes.client import NodeClient
from tawara.workers.copying import copy

FILE = "dev1/0/000/000/0000000001.fid"
PIECE = bytes(256 * 1024)
BURST = 0.02
"""Seconds that a node may be ahead of its rate."""


class LimitedNode:
    """A server of one file of `length` bytes, all zero, that sends at most `rate` bytes a second."""

    def __init__(self, length: int, rate: float) -> None:
        self._length = length
        self._rate = rate
        self._free_at = 0.0
        """When the node has sent all that it has taken on, in seconds of the monotonic clock."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the GETs of one connection, with or without a range, and PUTs, whose bodies are thrown away."""
        while not reader.at_eof():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"PUT "):
                    for _ in range(0, self._length, len(PIECE)):
                        await reader.readexactly(len(PIECE))
                    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
                    continue
            except asyncio.IncompleteReadError:
                break
            match = re.search(rb"(?i)\r\nRange: bytes=(\d+)-(\d+)", head)
            first, last = (int(match[1]), int(match[2])) if match else (0, self._length - 1)
            status = f"206 Partial Content\r\nContent-Range: bytes {first}-{last}/{self._length}" if match else "200 OK"
            left = last + 1 - first
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {left}\r\n\r\n".encode())
            while left:
                piece = PIECE[: min(left, len(PIECE))]
                self._free_at = max(self._free_at, time.monotonic() - BURST) + len(piece) / self._rate
                await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
                writer.write(piece)
                await writer.drain()
                left -= len(piece)


def run_node(address: str, length: int, rate: float, ready: multiprocessing.SimpleQueue[int]) -> None:
    """Serve until the process is ended; puts the port into `ready`."""

    async def run() -> None:
        server = await asyncio.start_server(LimitedNode(length, rate).serve, address, 0)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def node(address: str, length: int, rate: float) -> Iterator[str]:
    """Yield the URL of the file on a node in a process of its own."""
    ready: multiprocessing.SimpleQueue[int] = multiprocessing.SimpleQueue()
    process = multiprocessing.Process(target=run_node, args=(address, length, rate, ready), daemon=True)
    process.start()
    try:
        yield f"http://{address}:{ready.get()}/{FILE}"
    finally:
        process.terminate()
        process.join()


async def read(urls: list[str], length: int) -> float:
    """Megabytes a second of a client that knows these replicas."""
    located = Located(FileInfo(domain="d", key="k", fid=1, length=length, storage_class="default", copies=2), urls)

    async def again() -> Located:
        return located

    async with NodeClient() as nodes:
        reading = Reading(nodes, located, again)
        began = time.perf_counter()
        got = 0
        async for chunk in reading:
            got += len(chunk)
        assert got == length
        return length / (time.perf_counter() - began) / 1e6


async def repair(urls: list[str], length: int, target: str) -> float:
    """Megabytes a second of a worker that copies these replicas to another node."""
    hasher = hashlib.md5(usedforsecurity=False)
    for _ in range(0, length, len(PIECE)):
        hasher.update(PIECE)
    checksum = Checksum(HashType.MD5, hasher.digest())
    async with NodeClient() as nodes:
        began = time.perf_counter()
        await copy(
            nodes,
            urls[0],
            target,
            length=length,
            checksum=checksum,
            hashtype=None,
            verifies_md5=True,
            others=urls[1:],
        )
        return length / (time.perf_counter() - began) / 1e6


def curl(url: str, length: int) -> float:
    """Megabytes a second of curl."""
    began = time.perf_counter()
    subprocess.run(["curl", "-sf", "-o", "/dev/null", url], check=True)
    return length / (time.perf_counter() - began) / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rate", type=float, default=50, help="megabytes a second of each node")
    options = parser.parse_args()
    length = options.megabytes * 1024 * 1024
    with (
        node("127.0.0.2", length, options.rate * 1e6) as one,
        node("127.0.0.3", length, options.rate * 1e6) as two,
        node("127.0.0.4", length, options.rate * 1e6) as target,
    ):
        peer = curl(one, length)
        single = asyncio.run(read([one], length))
        both = asyncio.run(read([one, two], length))
        copied = asyncio.run(repair([one], length, target))
        copied_from_both = asyncio.run(repair([one, two], length, target))
    print(f"curl from one node {peer:6.1f} MB/s")
    print(f"client from one    {single:6.1f} MB/s   {single / peer:.2f} x curl")
    print(f"client from two    {both:6.1f} MB/s   {both / single:.2f} x from one")
    print(f"copy from one      {copied:6.1f} MB/s   {copied / peer:.2f} x curl")
    print(f"copy from two      {copied_from_both:6.1f} MB/s   {copied_from_both / copied:.2f} x from one")


if __name__ == "__main__":
    main()
