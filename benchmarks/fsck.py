"""How fast files are checked and moved: files of 10 KB, real storage nodes in their own processes, all fsynced.

python -m benchmarks.fsck [FILES] [--profile]
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
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
import uvloop

from benchmarks._place import add_option, place
from benchmarks.workers import SIZE, cpu
from tawara.metadata import cluster as rows
from tawara.metadata import files, fsck, rebalance
from tawara.metadata.contract import Transaction
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model import fid as fids
from tawara.model.files import NewFile
from tawara.model.rebalance import RebalanceState
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.workers.monitor import Monitor
from tawara.workers.service import Workers, WorkersOptions

AIMS = {"policy": 5000, "sizes": 2500, "rebalance": 500}
"""Files a second."""
LAYOUT = {"127.0.0.1": (1, 3), "127.0.0.2": (2, 4)}
"""Host -> its devices; the files are on dev1 and dev2."""


async def serve(docroot: Path, ip: str, side: int) -> None:
    """Be a storage node until standard input ends; says its ports first."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    node = StorageNode(docroot, http=(ip, 0), side_channel=(ip, side))
    await node.start()
    print(node.http_address[1], node.side_address[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await node.stop()


@asynccontextmanager
async def storage_node(docroot: Path, ip: str, side: int) -> AsyncIterator[tuple[int, int, int]]:
    """A storage node in a process of its own; its ports, and its process id."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.fsck", "--serve", str(docroot), ip, str(side),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    try:
        http, side = map(int, (await process.stdout.readline()).split())
        yield http, side, process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def fill(directory: Path, metadata: SqliteMetadata, dmid: int, count: int) -> None:
    """Put `count` files on dev1 and dev2, as if they had been uploaded."""
    body = os.urandom(SIZE)
    now = int(time.time())

    async def one(number: int) -> None:
        key = b"key %d" % number
        fid = await metadata.write(files.open_upload, dmid=dmid, key=key, classid=0, devids=(1, 2), now=now)
        for ip, devid in zip(LAYOUT, (1, 2), strict=True):
            path = directory / ip / f"dev{devid}" / fids.relative_path(fid)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        await metadata.write(
            files.close_upload,
            NewFile(fid=fid, dmid=dmid, key=key, classid=0, length=SIZE, devids=(1, 2)),
            now=now,
            replicate=False,
        )

    for start in range(0, count, 500):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 500, count))))
    os.sync()


Store = tuple[SqliteMetadata, ClusterView, Workers, Wakeups, list[int]]


@asynccontextmanager
async def store(count: int, directory: Path) -> AsyncIterator[Store]:
    """A store of two nodes with its workers; with the ids of the nodes' processes."""
    async with AsyncExitStack() as stack:
        metadata = SqliteMetadata.open(directory / "tawara.db")
        stack.push_async_callback(metadata.close)
        dmid = await metadata.write(rows.create_domain, "d")
        side, pids = 0, []
        for number, (ip, devids) in enumerate(LAYOUT.items(), 1):
            for devid in devids:
                (directory / ip / f"dev{devid}").mkdir(parents=True)
            http, side, pid = await stack.enter_async_context(storage_node(directory / ip, ip, side))
            pids.append(pid)
            hostid = await metadata.write(rows.create_host, f"h{number}", ip=ip, http_port=http, state="alive")
            for devid in devids:
                await metadata.write(rows.create_device, devid, hostid)
        nodes = await stack.enter_async_context(NodeClient())
        view, wakeups = ClusterView(metadata, min_free_mb=1), Wakeups()
        monitor = Monitor(view, metadata, nodes, side_channel_port=side)
        await monitor.refresh_devices()  # the devices are known before files are on them, as in any store
        await fill(directory, metadata, dmid, count)
        await monitor.start()
        stack.push_async_callback(monitor.stop)
        await view.wait_observed()
        workers = Workers(metadata, view, nodes, wakeups, WorkersOptions(side_channel_port=side))
        await workers.start()
        stack.push_async_callback(workers.stop)
        yield metadata, view, workers, wakeups, pids


async def check(metadata: SqliteMetadata, view: ClusterView, wakeups: Wakeups, *, policy_only: bool) -> float:
    """Seconds for a check of all files, which must find nothing."""
    await metadata.write(fsck.reset, policy_only=policy_only, position=0)
    began = time.monotonic()
    await metadata.write(fsck.start, host="bench", now=int(time.time()))
    await view.refresh()
    wakeups.fsck.notify()
    while (at := await metadata.read(fsck.progress)).host or at.queued:
        await asyncio.sleep(0.01)
    assert not at.counts, at.counts
    assert not at.stalled
    return time.monotonic() - began


async def move(metadata: SqliteMetadata, view: ClusterView, wakeups: Wakeups, count: int) -> float:
    """Seconds until dev1 is empty; the last turns, in which nothing is left to move, do not count."""
    await metadata.write(rebalance.set_policy, "from_devices=1")
    began = time.monotonic()
    await metadata.write(rebalance.start, view.current, host="bench", now=int(time.time()))
    await view.refresh()
    wakeups.rebalance.notify()
    took = 0.0
    while True:
        state = RebalanceState.parse(await metadata.read(rebalance.state))
        if not took and await metadata.read(_empty, 1):
            took = time.monotonic() - began
        if state.time_finished:
            break
        await asyncio.sleep(0.02)
    assert state.fids_queued == count
    return took


async def _empty(tx: Transaction, devid: int) -> bool:
    return await tx.row("SELECT 1 FROM file_on WHERE devid = ? LIMIT 1", devid) is None


async def measure(count: int, directory: Path, *, profile: bool) -> dict[str, float]:
    """Check `count` files in both ways, then move one replica of each; files a second."""
    results: dict[str, float] = {}
    async with store(count, directory) as (metadata, view, workers, wakeups, pids):
        parts: dict[str, Callable[[], Awaitable[float]]] = {
            "policy": lambda: check(metadata, view, wakeups, policy_only=True),
            "sizes": lambda: check(metadata, view, wakeups, policy_only=False),
            "rebalance": lambda: move(metadata, view, wakeups, count),
        }
        for name, what in parts.items():
            before = [cpu(pid) for pid in (os.getpid(), *pids)]
            results[name] = count / await _profiled(name, what, profile)
            used = [cpu(pid) - at for pid, at in zip((os.getpid(), *pids), before, strict=True)]
            # On a busy machine this says more than the rate.
            results[f"{name}_worker_us"] = 1e6 * used[0] / count
            results[f"{name}_nodes_us"] = 1e6 * sum(used[1:]) / count
        results["errors"] = sum(status.failed for status in workers.status())
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
    parser.add_argument("files", type=int, nargs="?", default=10_000)
    add_option(parser)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        docroot, ip, side = options.serve
        uvloop.run(serve(Path(docroot), ip, int(side)))
        return
    with place(options.directory) as directory:
        results = uvloop.run(measure(options.files, directory, profile=options.profile))
    print(json.dumps({name: round(value) for name, value in results.items()} | {"aims": AIMS}))


if __name__ == "__main__":
    main()
