"""How fast the workers repair and delete: files of 10 KB, real storage nodes in their own processes, all fsynced.

python -m benchmarks.workers [FILES] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import uvloop

from benchmarks._place import add_option, place
from tawara.metadata import cluster as rows
from tawara.metadata import files, queues
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model import fid as fids
from tawara.model.files import NewFile
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.workers.monitor import Monitor
from tawara.workers.service import Workers

SIZE = 10_000
AIM = 1000
"""Files a second, of both."""


async def serve(docroot: Path) -> None:
    """Be a storage node until standard input ends; says its port first."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    node = StorageNode(docroot, http=("0.0.0.0", 0), side_channel=None)
    await node.start()
    print(node.http_address[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await node.stop()


@asynccontextmanager
async def storage_node(docroot: Path) -> AsyncIterator[tuple[int, int]]:
    """A storage node in a process of its own; its port and process id."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.workers", "--serve", str(docroot),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    try:
        yield int(await process.stdout.readline()), process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def fill(directory: Path, metadata: SqliteMetadata, dmid: int, count: int) -> None:
    """Put `count` files on dev1, as if they had been uploaded."""
    body = os.urandom(SIZE)
    now = int(time.time())

    async def one(number: int) -> None:
        key = b"key %d" % number
        fid = await metadata.write(files.open_upload, dmid=dmid, key=key, classid=0, devids=(1,), now=now)
        path = directory / "h1" / "dev1" / fids.relative_path(fid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        await metadata.write(
            files.close_upload, NewFile(fid=fid, dmid=dmid, key=key, classid=0, length=SIZE, devids=(1,)), now=now
        )

    for start in range(0, count, 500):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 500, count))))
    os.sync()


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def until_empty(metadata: SqliteMetadata, queue: str) -> float:
    """Seconds until a queue is empty."""
    began = time.monotonic()
    while (await metadata.read(queues.backlog))[queue]:
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def measure(count: int, directory: Path, *, profile: bool) -> dict[str, float]:
    """Repair `count` files that have one copy of two, then delete them; files a second."""
    for number in (1, 2):
        (directory / f"h{number}" / f"dev{number}").mkdir(parents=True)
    metadata = SqliteMetadata.open(directory / "tawara.db")
    dmid = await metadata.write(rows.create_domain, "files")
    results: dict[str, float] = {}
    async with storage_node(directory / "h1") as first, storage_node(directory / "h2") as second, NodeClient() as nodes:
        for number, (port, _) in enumerate((first, second), start=1):
            hostid = await metadata.write(
                rows.create_host, f"h{number}", ip=f"127.0.0.{number}", http_port=port, state="alive"
            )
            await metadata.write(rows.create_device, number, hostid)
        view = ClusterView(metadata, min_free_mb=1)
        monitor = Monitor(view, metadata, nodes, side_channel_port=None)
        wakeups = Wakeups()
        await monitor.refresh_devices()  # the devices are known before files are on them, as in any store
        await fill(directory, metadata, dmid, count)
        await monitor.start()
        await view.wait_observed()
        workers = Workers(metadata, view, nodes, wakeups)

        async def repair() -> float:
            await workers.start()
            return await until_empty(metadata, "replicate")

        async def delete() -> float:
            await asyncio.gather(
                *(
                    metadata.write(files.delete, dmid, b"key %d" % number, now=int(time.time()))
                    for number in range(count)
                )
            )
            wakeups.delete.notify()
            return await until_empty(metadata, "delete")

        for name, what in (("repair", repair), ("delete", delete)):
            before = [cpu(pid) for pid in (os.getpid(), first[1], second[1])]
            results[name] = count / await _profiled(name, what, profile)
            used = [cpu(pid) - at for pid, at in zip((os.getpid(), first[1], second[1]), before, strict=True)]
            # On a busy machine this says more than the rate.
            results[f"{name}_worker_us"] = 1e6 * used[0] / count
            results[f"{name}_nodes_us"] = 1e6 * sum(used[1:]) / count
        results["errors"] = sum(status.failed for status in workers.status())
        await workers.stop()
        await monitor.stop()
    await metadata.close()
    return results


async def _profiled(name: str, what: Callable[[], Awaitable[float]], profile: bool) -> float:
    if not profile:
        return await what()
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        return await what()
    finally:
        profiler.disable()
        print(f"--- {name}", file=sys.stderr)
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(35)


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=int, nargs="?", default=3000)
    parser.add_argument("--profile", action="store_true")
    add_option(parser)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve))
        return
    with place(options.directory) as directory:
        results = uvloop.run(measure(options.files, directory, profile=options.profile))
    print(json.dumps({name: round(value) for name, value in results.items()} | {"aim": AIM}))


if __name__ == "__main__":
    main()
