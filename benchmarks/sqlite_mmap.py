"""Look-ups of random keys in a large SQLite database, with and without reading its file by memory mapping.

`python -m benchmarks.sqlite_mmap --files 10000000` fills a database (some minutes, 2 GB), then asks in turns with
`PRAGMA mmap_size` at 0 and as Tawara sets it. Rates are by the process's own processor time, which hardly depends on
what else the machine does; all pages are in the system's cache.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import statistics
import sys
import time
from pathlib import Path

from benchmarks import _place
from tawara.metadata import files
from tawara.metadata.sqlite import MMAP_BYTES, SqliteMetadata

ROUNDS = 5
LOOK_UPS = 40_000
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
_ROWS = (
    "INSERT INTO file (fid, dmid, dkey, length, classid, devcount)"
    f" {_NUMBERS} SELECT i, 1, printf('key/%09d', i), 1, 0, 2 FROM n",
    f"INSERT INTO tawara_file (fid, stored_at) {_NUMBERS} SELECT i, 1 FROM n",
    f"INSERT INTO file_on (fid, devid) {_NUMBERS} SELECT i, d FROM n, (SELECT 1 AS d UNION ALL SELECT 2)",
)


def fill(path: Path, count: int) -> None:
    """Insert `count` files with two replicas each."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("synchronous = OFF", "cache_size = -500000"):
        connection.execute(f"PRAGMA {pragma}")
    for statement in _ROWS:
        connection.execute("BEGIN")
        connection.execute(statement, (count,))
        connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


async def rate(metadata: SqliteMetadata, keys: list[bytes]) -> float:
    """Look-ups per second of processor time."""
    began = time.process_time()
    for key in keys:
        assert await metadata.read(files.find, 1, key) is not None
    return len(keys) / (time.process_time() - began)


async def measure(path: Path, count: int) -> None:
    rates: dict[int, list[float]] = {0: [], MMAP_BYTES: []}
    rng = random.Random(1)
    for round_number in range(ROUNDS + 1):
        keys = [b"key/%09d" % rng.randrange(1, count + 1) for _ in range(LOOK_UPS)]
        for size, measured in rates.items():
            metadata = SqliteMetadata(path)
            metadata._reader.execute(f"PRAGMA mmap_size = {size}")
            found = await rate(metadata, keys)
            await metadata.close()
            if round_number:  # the first one fills the system's cache
                measured.append(found)
    read, mapped = (statistics.median(each) for each in rates.values())
    print(f"{count:,} files, {path.stat().st_size / 2**30:.2f} GiB; look-ups a second of processor time")
    print(f"  read                {read:10,.0f}")
    print(f"  memory-mapped       {mapped:10,.0f}   {mapped / read:.2f} ×")


def main() -> int:
    """Fill, measure, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    _place.add_option(parser)
    options = parser.parse_args()
    with _place.place(options.directory) as directory:
        path = directory / "tawara.db"
        asyncio.run(SqliteMetadata.open(path).close())
        fill(path, options.files)
        asyncio.run(measure(path, options.files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
