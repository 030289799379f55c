"""Queries a second of each engine, with 1, 16 and 64 concurrent callers in one process, the server on the same machine.

`python -m benchmarks.metadata [sqlite|postgresql|mysql]…` starts the servers itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from tawara.metadata import files, key_listing
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.model.files import NewFile
from tests.contract.servers import PASSWORD, MariaServer, PostgresServer, Server

FILES = 100_000
SECONDS = 3.0
ASKERS = (1, 16, 64)
SERVERS: dict[str, Callable[[Path], Server]] = {"postgresql": PostgresServer, "mysql": MariaServer}


async def fill(tx: Transaction, numbers: range) -> None:
    key = tx.dialect.key_value
    await tx.run_many(
        f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, 1, {key}, 1, 0, 2)",
        [(n, b"key/%07d" % n) for n in numbers],
    )
    await tx.run_many("INSERT INTO tawara_file (fid, stored_at) VALUES (?, 1)", [(n,) for n in numbers])
    await tx.run_many("INSERT INTO file_on (fid, devid) VALUES (?, ?)", [(n, d) for n in numbers for d in (1, 2)])


async def find(metadata: Metadata) -> None:
    assert await metadata.read(files.find, 1, b"key/%07d" % random.randrange(1, FILES))


async def create(metadata: Metadata) -> None:
    key = random.randbytes(12)
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1, 2), now=1)
    await metadata.write(
        files.close_upload, NewFile(fid=fid, dmid=1, key=key, classid=0, length=1, devids=(1, 2)), now=1
    )


async def list_keys(metadata: Metadata) -> None:
    after = b"key/%07d" % random.randrange(1, FILES - 100)
    assert len(await metadata.read(files.list_keys, 1, b"key/", after, 100)) == 100


async def list_page(metadata: Metadata) -> None:
    page = await metadata.read(key_listing.page, 1, b"key/", b"", b"key/%07d" % random.randrange(1, FILES - 1001), 1000)
    assert len(page.files) == 1000


async def list_prefixes(metadata: Metadata) -> None:
    """The bucket has the keys under 40 prefixes of two digits, and 960 beside them."""
    page = await metadata.read(key_listing.page, 2, b"", b"/", None, 1000)
    assert (len(page.files), len(page.prefixes)) == (960, 40)


async def fill_prefixes(tx: Transaction, numbers: range) -> None:
    key = tx.dialect.key_value
    await tx.run_many(
        f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, 2, {key}, 1, 0, 2)",
        [(FILES + n, b"%02d/%07d" % (n % 40, n) if n > 960 else b"plain%04d" % n) for n in numbers],
    )
    await tx.run_many("INSERT INTO tawara_file (fid, stored_at) VALUES (?, 1)", [(FILES + n,) for n in numbers])


async def rate(
    metadata: Metadata, ask: Callable[[Metadata], Awaitable[None]], askers: int
) -> tuple[float, float, float]:
    """Answers a second; the median and the 99th percentile of their times, in milliseconds."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS

    async def asker() -> None:
        while (began := time.perf_counter()) < end:
            await ask(metadata)
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(askers)))
    taken = time.perf_counter() - began
    times.sort()
    return len(times) / taken, times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000


async def measure(engine: str, url: str) -> None:
    metadata = await open_metadata(url)
    for start in range(1, FILES, 5000):
        await metadata.write(fill, range(start, start + 5000))
        await metadata.write(fill_prefixes, range(start, start + 5000))
    for name, ask in (
        ("find", find),
        ("list_keys 100", list_keys),
        ("page of 1000", list_page),
        ("40 prefixes", list_prefixes),
        ("open+close", create),
    ):
        for askers in ASKERS:
            per_second, median, late = await rate(metadata, ask, askers)
            print(f"{engine:12}{name:15}{askers:4} askers {per_second:9,.0f}/s  {median:7.2f} ms  p99 {late:7.2f} ms")
    await metadata.close()


def main(engines: list[str]) -> None:
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    for engine in engines or ["sqlite", *SERVERS]:
        if engine == "sqlite":
            with tempfile.TemporaryDirectory() as directory:
                uvloop.run(measure(engine, f"sqlite://{Path(directory)}/tawara.db"))
            continue
        server = SERVERS[engine](Path(tempfile.gettempdir()))  # a disk: what is acknowledged is fsynced
        try:
            uvloop.run(measure(engine, server.create("bench")))
        finally:
            server.remove()


if __name__ == "__main__":
    main(sys.argv[1:])
