"""What counting files by their devices costs, and how soon `tawara status` has its figures.

    python -m benchmarks.placement_counts [--devices 300] [--files 1000000] [--copies 3] [--engine sqlite]

Rows of files are made, each on random devices of different hosts, in one database. Then: all files are counted, off the
event loop, whose lateness meanwhile is measured; the counts are read by a process that knows nothing yet, and judged,
also with a host that does not answer since; files are deleted here and there, and what has changed is counted again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import uvloop

from benchmarks._place import add_option, place
from benchmarks.tracker import SERVERS
from tawara.metadata import files, journals, sqlite
from tawara.metadata import placement_counts as rows
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.counting import Counter
from tawara.metadata.open import open_metadata
from tawara.metadata.view import ClusterView
from tawara.model.cluster import (
    Cluster,
    Device,
    DeviceState,
    Domain,
    Host,
    HostState,
    Observation,
    Observed,
    StorageClass,
)
from tawara.workers import update_placement_counts
from tests.contract.servers import PASSWORD

PER_HOST = 12
"""Devices of a host."""
AT_ONCE = 5_000
"""Files made in one transaction."""
T = TypeVar("T")


def cluster(devices: int, copies: int) -> Cluster:
    """So many devices, and a domain whose default class wants so many copies."""
    return Cluster(
        domains={"d": Domain(1, "d", {0: StorageClass(0, "default", copies)})},
        hosts={
            n: Host(n, f"h{n}", HostState.ALIVE, f"10.{n // 250}.0.{n % 250}") for n in range(devices // PER_HOST + 1)
        },
        devices={n: Device(n, n // PER_HOST, DeviceState.ALIVE) for n in range(1, devices + 1)},
        observed={n: Observation(Observed.WRITEABLE) for n in range(1, devices + 1)},
    )


async def fill(tx: Transaction, numbers: range, devices: int, copies: int) -> None:
    """Make files with these fids."""
    rng = random.Random(numbers.start)
    key = tx.dialect.key_value
    await tx.run_many(
        f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, 1, {key}, 1000, 0, ?)",
        [(n, b"k%09d" % n, copies) for n in numbers],
    )

    def spread() -> Iterator[int]:
        hosts = set[int]()
        while len(hosts) < copies:
            devid = rng.randrange(1, devices + 1)
            if devid // PER_HOST not in hosts:
                hosts.add(devid // PER_HOST)
                yield devid

    on = "INSERT INTO file_on (fid, devid) VALUES (?, ?)"
    await tx.run_many(on, [(n, devid) for n in numbers for devid in spread()])


async def timed(what: str, asked: Awaitable[T]) -> T:
    """Wait for something, and print how long that took and how late the event loop was at worst meanwhile."""
    late: list[float] = [0.0]

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - began - 0.001)

    watching = asyncio.create_task(watch())
    began, used = time.perf_counter(), time.process_time()
    result = await asked
    taken, used = time.perf_counter() - began, time.process_time() - used
    watching.cancel()
    late.sort()
    print(
        f"{what:48} {taken:8.2f} s ({used:.2f} s of processor)   event loop late by"
        f" {late[len(late) // 2] * 1000:.1f} ms median, {late[-1] * 1000:.0f} ms at worst",
        flush=True,
    )
    return result


async def measure(url: str, options: argparse.Namespace) -> None:
    """Make the rows, and ask."""
    sqlite.BUSY_SECONDS = 600.0  # so many rows at once take their time on a busy machine
    metadata = await open_metadata(url)
    seen = cluster(options.devices, options.copies)
    began = time.perf_counter()
    for start in range(1, options.files + 1, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, options.files + 1))
        await metadata.write(fill, numbers, options.devices, options.copies)
    print(
        f"{options.files:,} files on {options.devices} devices made in {time.perf_counter() - began:.0f} s", flush=True
    )
    found = await timed("all files counted (--recount)", Counter(metadata, lambda: seen).counts(recount=True))
    assert found.files == options.files
    await ask("status of a new process", metadata, lambda: seen)
    counter = Counter(metadata, lambda: seen)
    await counter.counts()
    await ask("status a second time", metadata, lambda: seen, counter)
    gone = {devid: each for devid, each in seen.observed.items() if devid // PER_HOST != 1}
    await ask("status when a host has gone since", metadata, lambda: seen.with_observations(gone), counter)
    await change(metadata, options)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB resident at most")
    await metadata.close()


async def ask(what: str, metadata: Metadata, seen: Callable[[], Cluster], counter: Counter | None = None) -> None:
    """Measure what a status needs."""

    async def status() -> str:
        asked = counter or Counter(metadata, seen)
        asked._cluster = seen
        safety, uncounted = await asked.safety(await asked.counts())
        return f"{safety.one_disk.files:,} of {safety.files:,} one failure from loss; {uncounted} devices not heeded"

    print(f"{'':4}{await timed(what, status())}")


async def change(metadata: Metadata, options: argparse.Namespace) -> None:
    """Delete a thousand files, and have a worker follow."""
    rng = random.Random(7)
    for number in rng.sample(range(1, options.files + 1), 1000):
        await metadata.write(files.delete, 1, b"k%09d" % number, now=1)

    async def notes(tx: Transaction) -> list[int]:
        return [row[0] for row in await tx.rows("SELECT seq FROM tawara_note")]

    await metadata.write(journals.forget, await metadata.read(notes))
    update_placement_counts.REST = 0.0
    worker = update_placement_counts.UpdatePlacementCounts(metadata, ClusterView(metadata), period=0)
    for item in await worker.take(1):
        await timed("the worker's pass after 1,000 deletions anywhere", worker.work(item))
    assert sum(each.files for each in await metadata.read(rows.outline)) == options.files - 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--engine", choices=("sqlite", *SERVERS), default="sqlite")
    add_option(parser)
    options = parser.parse_args()
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    os.nice(10)
    with place(options.directory) as directory:
        if options.engine == "sqlite":
            uvloop.run(measure(f"sqlite://{directory}/tawara.db", options))
            return
        server = SERVERS[options.engine](Path(directory))
        try:
            uvloop.run(measure(server.create("counts"), options))
        finally:
            server.remove()


if __name__ == "__main__":
    main()
