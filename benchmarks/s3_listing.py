"""What a page of an S3 listing costs: of 1,000 of 100,000 keys, and with a delimiter over 40 common prefixes.

    python -m benchmarks.s3_listing [--keys 100000] [--pages 30] [--engine sqlite]

Rows of files are made as S3 stores them, with entity tag and time, in one database of each engine. Then pages are read
and rendered one after another: wall-clock time and this process's processor time for one, the median of all. The server
of another engine works beside it, on the same machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from statistics import median

import uvloop

from tawara.metadata import key_listing
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.wire.s3.head import parse_target
from tawara.wire.s3.lists import parse_list_query, render_objects
from tests.contract.servers import NotInstalled, running_servers

AT_ONCE = 5_000
"""Files made in one transaction."""
PREFIXES = 40
"""Common prefixes of the second page."""
ENGINES = ("sqlite", "postgresql", "mysql")


def key_of(number: int) -> bytes:
    """The key of a file: most are below one of the prefixes, 961 among them are not."""
    return b"k%07d" % number if number < 961 else b"k%07d/%07d" % (number % PREFIXES * 24, number)


async def fill(tx: Transaction, numbers: range) -> None:
    """Make files with these fids."""
    key = tx.dialect.key_value
    await tx.run_many(
        f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, 1, {key}, 1000, 0, 1)",
        [(n + 1, key_of(n)) for n in numbers],
    )
    await tx.run_many(
        "INSERT INTO tawara_file (fid, stored_at, content_type, etag) VALUES (?, ?, ?, ?)",
        [(n + 1, 1_700_000_000 + n, "image/jpeg", f"{n:032x}") for n in numbers],
    )


async def page(metadata: Metadata, query: str) -> int:
    """Read and render a page; the number of its entries."""
    asked = parse_list_query(parse_target(b"/b?list-type=2&" + query.encode()))
    found = await metadata.read(
        key_listing.page, 1, asked.prefix, asked.delimiter, asked.after, asked.most, after_prefix=asked.after_prefix
    )
    render_objects("b", asked, found, class_name=lambda _: "STANDARD")
    return len(found.files) + len(found.prefixes)


async def measure(engine: str, url: str, keys: int, pages: int) -> None:
    """Make the rows, then read pages of both kinds."""
    metadata = await open_metadata(url)
    try:
        for start in range(0, keys, AT_ONCE):
            await metadata.write(fill, range(start, min(start + AT_ONCE, keys)))
        for what, query in (("1,000 keys", "start-after=k0000050"), (f"{PREFIXES} prefixes", "delimiter=/")):
            walls, used = [], []
            for _ in range(pages + 2):
                began, cpu = time.perf_counter(), time.process_time()
                entries = await page(metadata, query)
                walls.append(time.perf_counter() - began)
                used.append(time.process_time() - cpu)
            wall, cpu_time = median(walls[2:]) * 1000, median(used[2:]) * 1000
            print(
                f"{engine:11} {what:12} {entries:5} entries {wall:7.1f} ms  {cpu_time:6.1f} ms of processor", flush=True
            )
    finally:
        await metadata.close()


def main() -> None:
    """Measure each engine, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--pages", type=int, default=30)
    parser.add_argument("--engine", choices=ENGINES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_servers() as servers:
        for engine in [options.engine] if options.engine else ENGINES:
            sqlite = f"sqlite://{directory}/tawara.db"
            try:
                url = sqlite if engine == "sqlite" else servers(engine).create("s3")
            except NotInstalled as error:
                print(f"{engine}: {error}")
                continue
            uvloop.run(measure(engine, url, options.keys, options.pages))


if __name__ == "__main__":
    main()
