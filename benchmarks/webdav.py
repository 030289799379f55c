"""What moving a large collection and listing one cost WebDAV.

    python -m benchmarks.webdav [--files 5000] [--members 1000]

A collection with many files, which are rows only, is moved by MOVE, one with many members is listed by PROPFIND
with depth 1, all properties. Client and server are one process, whose processor time is printed, too.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

from benchmarks._place import add_option, place
from tawara.metadata.contract import Transaction
from tests.acceptance.dav_fixture import DavFixture, dav_fixture

ROUNDS = 5


async def fill(tx: Transaction, prefix: bytes, count: int, first: int) -> None:
    """Make the rows of files below a prefix."""
    numbers = range(first, first + count)
    await tx.run_many(
        "INSERT INTO file (fid, dmid, dkey, length, classid, devcount)"
        f" VALUES (?, 1, {tx.dialect.key_value}, 1000, 0, 1)",
        [(number, prefix + b"%06d.jpg" % number) for number in numbers],
    )
    await tx.run_many("INSERT INTO file_on (fid, devid) VALUES (?, 1)", [(number,) for number in numbers])


async def best(what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Print the shortest time of several rounds, and the least processor time."""
    times, busy = [], []
    for _ in range(ROUNDS):
        began, busy_before = time.perf_counter(), time.process_time()
        await work()
        times.append(time.perf_counter() - began)
        busy.append(time.process_time() - busy_before)
    milliseconds = (f"{min(each) * 1000:8.1f} ms" for each in (times, busy))
    print(f"{what:40} {', processor time'.join(milliseconds)}, the best of {ROUNDS}", flush=True)


async def measure(directory: Path, files: int, members: int) -> None:
    """Make the rows, and measure."""
    async with dav_fixture(directory) as dav:
        await dav.store.metadata.write(fill, b"move0/", files, 1_000_000)
        await dav.store.metadata.write(fill, b"list/", members, 2_000_000)
        credentials = base64.b64encode((await dav.store.create_key("k", "d=rw")).encode()).decode()
        numbers = count()

        def move() -> None:
            number = next(numbers)
            status, _ = ask(dav, credentials, "MOVE", f"/d/move{number}", Destination=f"/d/move{number + 1}")
            assert status == 201

        def propfind() -> None:
            status, body = ask(dav, credentials, "PROPFIND", "/d/list/", Depth="1")
            assert (status, body.count(b"<D:response>")) == (207, members + 1)

        await best(f"MOVE of a collection of {files} files", lambda: asyncio.to_thread(move))
        await best(f"PROPFIND of {members} members", lambda: asyncio.to_thread(propfind))


def ask(dav: DavFixture, credentials: str, method: str, path: str, **fields: str) -> tuple[int, bytes]:
    """Send one request; return status and body. Blocking."""
    connection = http.client.HTTPConnection(*dav.server.address, timeout=60)
    connection.request(method, path, headers={"Authorization": f"Basic {credentials}", **fields})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--members", type=int, default=1000)
    add_option(parser)
    options = parser.parse_args()
    with place(options.directory) as directory:
        asyncio.run(measure(directory, options.files, options.members))


if __name__ == "__main__":
    main()
