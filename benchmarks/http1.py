"""What the hand-written HTTP/1 saves: a storage node with and without its fast path, and HEAD without aiohttp.

python -m benchmarks.http1 [--seconds N]

Both nodes run at the same time, each in a process of its own, and are measured in turn, three rounds, the best of each.
The figures of one run on one machine are comparable with each other only.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import structlog
import uvloop

from benchmarks._place import add_option, place
from benchmarks.node import Client, program
from benchmarks.workers import cpu
from tawara.http1.small_requests import SmallRequests
from tawara.node.server import StorageNode

CONNECTIONS = 32
ROUNDS = 3
BODY = os.urandom(1024)


class PutAndHead(Client):
    """One connection that stores a file, asks for its size, and goes on with the next file."""

    def __init__(self, client: int) -> None:
        super().__init__(self._requests(client))

    def _requests(self, client: int) -> Iterator[bytes]:
        for number in itertools.count():
            path = f"/dev1/put/{client}-{number}"
            yield f"PUT {path} HTTP/1.1\r\nHost: n\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
            yield f"HEAD {path} HTTP/1.1\r\nHost: n\r\n\r\n".encode()

    def data_received(self, data: bytes) -> None:
        """Both replies are a head without a body, which arrives at once."""
        self.failed |= not (data.startswith(b"HTTP/1.1 200") and data.endswith(b"\r\n\r\n"))
        self.answers += 1
        self.transport.write(next(self.requests))


class Get(PutAndHead):
    """One connection that reads a small file again and again."""

    def _requests(self, client: int) -> Iterator[bytes]:
        return itertools.repeat(b"GET /dev1/small HTTP/1.1\r\nHost: n\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        """The reply arrives at once, since it is small."""
        self.failed |= not (data.startswith(b"HTTP/1.1 200") and data.endswith(BODY))
        self.answers += 1
        self.transport.write(next(self.requests))


async def requests(port: int, pid: int, kind: Callable[[int], PutAndHead], seconds: float) -> tuple[float, float]:
    """Requests per second, and microseconds of the node's processor time for each."""
    loop = asyncio.get_running_loop()
    clients = [kind(time.monotonic_ns() + number) for number in range(CONNECTIONS)]
    began, used = loop.time(), cpu(pid)
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc] # mypy: default argument of a lambda
    await asyncio.sleep(seconds)
    took, used, answers = loop.time() - began, cpu(pid) - used, sum(each.answers for each in clients)
    for client in clients:
        client.transport.abort()
    assert answers, "the node did not answer"
    assert not any(each.failed for each in clients), "the node answered with an error, or in pieces"
    return answers / took, 1e6 * used / answers


async def cost(request: Callable[[], Awaitable[object]], number: int = 3000) -> float:
    """Microseconds of this process's processor time for one request."""
    await request()
    began = time.process_time()
    for _ in range(number):
        await request()
    return 1e6 * (time.process_time() - began) / number


async def measure(seconds: float, parent: Path) -> None:
    """Measure and print."""
    with place(parent) as directory:
        for name in ("fast", "complete"):
            (directory / name / "dev1").mkdir(parents=True)
            (directory / name / "dev1" / "small").write_bytes(BODY)
        serve = (sys.executable, "-m", "benchmarks.http1", "--serve")
        async with (
            program(*serve, str(directory / "fast")) as fast,
            program(*serve, str(directory / "complete")) as full,
        ):
            assert fast.stdout and full.stdout
            ports = int(await fast.stdout.readline()), int(await full.stdout.readline())
            print(f"{'':32}{'hand-written':>24}{'aiohttp':>24}{'ratio':>8}")
            for title, kind in (("PUT 1 KiB and HEAD", PutAndHead), ("GET 1 KiB", Get)):
                rounds = [
                    [
                        await requests(port, node.pid, kind, seconds)
                        for port, node in zip(ports, (fast, full), strict=True)
                    ]
                    for _ in range(ROUNDS)
                ]
                (ours, our_cost), (theirs, their_cost) = (max(each) for each in zip(*rounds, strict=True))
                print(f"{title + ', requests/s':32}{ours:24.0f}{theirs:24.0f}{ours / theirs:8.2f}")
                print(
                    f"{'  node, us of processor each':32}{our_cost:24.0f}{their_cost:24.0f}{our_cost / their_cost:8.2f}"
                )
            url = f"http://127.0.0.1:{ports[0]}/dev1/small"
            client = SmallRequests(connect_timeout=2, answer_timeout=10, connections_per_host=20)
            async with aiohttp.ClientSession() as session:

                async def head() -> None:
                    async with session.head(url) as answer:
                        assert answer.status == 200

                pairs = [(await cost(lambda: client.head(url)), await cost(head)) for _ in range(ROUNDS)]
            client.close()
            ours, theirs = (min(each) for each in zip(*pairs, strict=True))
            print(f"{'HEAD, client, us of processor':32}{ours:24.0f}{theirs:24.0f}{ours / theirs:8.2f}")


async def serve(root: Path) -> None:
    """Serve until terminated, with the fast path if the directory is called so; print the port first."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    node = StorageNode(root, http=("127.0.0.1", 0), side_channel=None, fast_path=root.name == "fast")
    await node.start()
    print(node.http_address[1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Measure, or serve."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    add_option(options)
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    uvloop.run(serve(chosen.serve) if chosen.serve else measure(chosen.seconds, chosen.directory))


if __name__ == "__main__":
    main()
