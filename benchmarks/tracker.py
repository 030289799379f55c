"""How many requests per second trackers answer: noop, get_paths, list_keys of 100 keys, and create, on each database.

    python -m benchmarks.tracker [--engine sqlite postgresql mysql] [--connections 1 16 64 1000] [--seconds 3]

Trackers are processes that share a port; a storage node and the database server are more. A create is create_open, PUT
of 1 KiB and create_close; all that is acknowledged is fsynced, on a disk. The load comes from processes of their own.
Beside each figure stand the processor time that one request cost, which a busy machine does not change much, and what
MogileFS 2.73 was measured to do on a quiet machine of 2 cores (its creates are not fsynced; on PostgreSQL it was not
measured, so that its figures on MariaDB stand there).
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvloop

from benchmarks._place import add_option, place
from benchmarks._tracker_load import KEYS, LOADS, PORTS, Found, connect, generate, key_number
from tawara.metadata import cluster, files
from tawara.metadata.contract import Transaction
from tawara.metadata.open import open_metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import HostState, Observation, Observed
from tawara.model.files import NewFile
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.tracker.server import TrackerServer
from tests.contract.servers import PASSWORD, MariaServer, PostgresServer, Server

DEVICES = 4
SERVERS: dict[str, Callable[[Path], Server]] = {"postgresql": PostgresServer, "mysql": MariaServer}
PEER = {
    "noop": dict.fromkeys(("sqlite", "mysql"), dict.fromkeys((1, 16, 64, 1000), 18_000)),
    "get_paths": {
        "sqlite": {1: 2351, 16: 6135, 64: 5749, 1000: 5906},
        "mysql": {1: 981, 16: 2928, 64: 2901, 1000: 2803},
    },
    "list_keys": {
        "sqlite": {1: 1432, 16: 3109, 64: 3167, 1000: 3094},
        "mysql": {1: 1093, 16: 2602, 64: 2568, 1000: 2603},
    },
    "create": {"sqlite": {1: 70, 16: 73, 64: 71, 1000: 85}, "mysql": {1: 170, 16: 350, 64: 227, 1000: 260}},
}
"""Requests per second of MogileFS 2.73 by load, database and connections: 4 query workers, the best for it."""


# --- the servers ------------------------------------------------------------------------------------------------------


async def _set_up(tx: Transaction, node_port: int) -> None:
    await cluster.create_domain(tx, "d")
    await cluster.create_host(tx, "one", ip="127.0.0.1", http_port=node_port, state=HostState.ALIVE)
    for devid in range(1, DEVICES + 1):
        await cluster.create_device(tx, devid, 1)
    await cluster.record_usage(tx, dict.fromkeys(range(1, DEVICES + 1), (100000, 1000)), now=1)


async def _fill(tx: Transaction, numbers: range) -> None:
    for number in numbers:
        devids = [1 + number % DEVICES, 1 + (number + 1) % DEVICES]
        key = key_number(number)
        fid = await files.open_upload(tx, dmid=1, key=b"", classid=0, devids=devids, now=1)
        await files.close_upload(
            tx, NewFile(fid=fid, dmid=1, key=key, classid=0, length=1024, devids=devids), now=1, replicate=False
        )


async def _make_database(url: str, node_port: int) -> None:
    metadata = await open_metadata(url)
    await metadata.write(_set_up, node_port)
    for start in range(0, KEYS, 1000):
        await metadata.write(_fill, range(start, start + 1000))
    await metadata.close()


async def _track(url: str, port: int, ready: Pipe) -> None:
    metadata = await open_metadata(url)
    view = ClusterView(metadata)
    await view.refresh()
    view.observe({devid: Observation(Observed.WRITEABLE) for devid in range(1, DEVICES + 1)})
    async with NodeClient() as nodes:
        server = TrackerServer(metadata, view, nodes, Wakeups(), address=("127.0.0.1", port), reuse_port=True)
        await server.start()
        ready.send(server.address[1])
        await asyncio.get_running_loop().run_in_executor(None, ready.recv)
        await server.stop()
    await metadata.close()


async def _keep(docroot: Path, port: int, ready: Pipe) -> None:
    node = StorageNode(docroot, http=("127.0.0.1", port), side_channel=None, reuse_port=True)
    await node.start()
    ready.send(node.http_address[1])
    await asyncio.get_running_loop().run_in_executor(None, ready.recv)
    await node.stop()


def _tracker_process(url: str, port: int, ready: Pipe) -> None:
    uvloop.run(_track(url, port, ready))


def _node_process(docroot: Path, port: int, ready: Pipe) -> None:
    uvloop.run(_keep(docroot, port, ready))


def _processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used, its children included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(_processor_time, _children(pid)))


def _children(pid: int) -> list[int]:
    return [int(child) for each in Path(f"/proc/{pid}/task").glob("*/children") for child in each.read_text().split()]


@dataclass
class Servers:
    """What runs, and where."""

    ports: PORTS
    trackers: list[int]
    nodes: list[int]
    database: list[int]

    def processor_times(self) -> tuple[float, float, float]:
        """Seconds that the trackers, the node and the database have used."""
        tracker, node, database = (sum(map(_processor_time, x)) for x in (self.trackers, self.nodes, self.database))
        return tracker, node, database

    def memory(self) -> int:
        """Resident KiB of the largest tracker."""
        sizes = []
        for pid in self.trackers:
            status = Path(f"/proc/{pid}/status").read_text()
            sizes.append(int(status.partition("VmRSS:")[2].split()[0]))
        return max(sizes)


@contextmanager
def servers(directory: Path, engine: str, count: int, node_count: int) -> Iterator[Servers]:
    """A storage node of `node_count` processes and `count` trackers on a database with KEYS keys."""
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:

        def start(target: Callable[..., None], *args: object) -> tuple[int, int]:
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=target, args=(*args, theirs))
            process.start()
            stack.callback(_stop, process, ours)
            if not ours.poll(60):
                raise TimeoutError(f"{target.__name__} does not start")
            assert process.pid is not None
            return process.pid, ours.recv()

        url, database = f"sqlite://{directory}/tawara.db", []
        if engine != "sqlite":
            before = _children(os.getpid())
            server = SERVERS[engine](directory)
            stack.callback(server.remove)
            url, database = server.create("bench"), [each for each in _children(os.getpid()) if each not in before]
        for devid in range(1, DEVICES + 1):
            (directory / "disks" / f"dev{devid}").mkdir(parents=True)
        nodes, node_port = [], 0
        for _ in range(node_count):
            pid, node_port = start(_node_process, directory / "disks", node_port)
            nodes.append(pid)
        asyncio.run(_make_database(url, node_port))
        trackers, port = [], 0
        for _ in range(count):
            pid, port = start(_tracker_process, url, port)
            trackers.append(pid)
        yield Servers((port, node_port), trackers, nodes, database)


def _stop(process: BaseProcess, pipe: Pipe) -> None:
    if process.is_alive():
        pipe.send(None)
    process.join()


# --- the figures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measurement:
    """One figure."""

    rate: float
    median: float
    p99: float
    generator_busy: float
    """Share of one core; at 100 % the load was the bottleneck."""
    cost: tuple[float, ...]
    """Seconds of processor time for one request: of the trackers, the node, the database."""
    peer: float | None
    """How many times as many as MogileFS."""

    def __str__(self) -> str:
        cost = " + ".join(f"{each * 1e6:4.0f}" for each in self.cost)
        peer = f"{self.peer:5.1f} x MogileFS" if self.peer is not None else ""
        return (
            f"{self.rate:>7,.0f}/s  median {self.median * 1e3:7.2f} ms  p99 {self.p99 * 1e3:7.2f} ms"
            f" ({self.p99 / self.median:4.1f} x)  us each {cost}  load busy {self.generator_busy:4.0%}  {peer}"
        )


def measure(load: str, engine: str, running: Servers, connections: int, seconds: float, generators: int) -> Measurement:
    """Load the trackers from `generators` processes."""
    spawn = multiprocessing.get_context("spawn")
    generators = min(generators, connections)
    started: list[tuple[BaseProcess, Pipe]] = []
    before = running.processor_times()
    for number in range(generators):
        ours, theirs = spawn.Pipe()
        share = connections // generators + (number < connections % generators)
        process: BaseProcess = spawn.Process(
            target=generate, args=(load, running.ports, share, seconds, number, theirs)
        )
        process.start()
        started.append((process, ours))
    found: list[Found] = []
    for process, pipe in started:
        if not pipe.poll(seconds + 60):
            raise TimeoutError("a generator does not answer")
        found.append(pipe.recv())
        process.join()
    total = sum(each.total for each in found)
    cost = [(after - early) / total for early, after in zip(before, running.processor_times(), strict=True)]
    latencies = sorted(latency for each in found for latency in each.latencies)
    rate = sum(each.done for each in found) / seconds
    peer = PEER[load]["sqlite" if engine == "sqlite" else "mysql"].get(connections)
    return Measurement(
        rate=rate,
        median=statistics.median(latencies),
        p99=latencies[int(len(latencies) * 0.99)],
        generator_busy=sum(each.busy for each in found),
        cost=tuple(cost),
        peer=rate / peer if peer else None,
    )


def idle_connections(running: Servers, count: int) -> str:
    """What connections cost that do nothing."""
    before = running.memory()
    held = [connect(running.ports[0]) for _ in range(count)]
    for each in held:
        each.sendall(b"noop\n")
    for each in held:
        each.recv(100)
    after = running.memory()
    for each in held:
        each.close()
    per = (after - before) * 1024 * len(running.trackers) / count
    return f"{before / 1024:.0f} MiB without, {after / 1024:.0f} MiB with {count}: {per:,.0f} bytes each"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", nargs="+", choices=("sqlite", *SERVERS), default=("sqlite", *SERVERS))
    parser.add_argument("--processes", type=int, default=2, help="trackers")
    parser.add_argument("--nodes", type=int, default=1, help="processes of the storage node")
    parser.add_argument("--generators", type=int, default=1, help="processes that make the load")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64, 1000])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    add_option(parser)
    parser.add_argument("--idle", type=int, default=0, help="measure the memory of this many idle connections, too")
    options = parser.parse_args()
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    print("us each: processor time for one request, of the trackers + the node + the database server")
    for engine in options.engine:
        with (
            place(options.directory) as directory,
            servers(directory, engine, options.processes, options.nodes) as running,
        ):
            for load in options.loads:
                for connections in options.connections:
                    found = measure(load, engine, running, connections, options.seconds, options.generators)
                    print(f"{engine:>10} {load:>9} {connections:>5} connections {found}", flush=True)
            if options.idle:
                print(f"{engine:>10} idle connections: {idle_connections(running, options.idle)}", flush=True)


if __name__ == "__main__":
    main()
