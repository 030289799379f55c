"""How many requests per second trackers answer: noop, get_paths, list_keys of 100 keys, and create, on SQLite.

    python -m benchmarks.tracker [--processes 2] [--generators 1] [--connections 1 16 64] [--seconds 3]

Trackers are processes that share a port; a storage node is one more. The load comes from processes of their own that
do nothing but epoll, recv and send on plain sockets; how busy they and the trackers were is printed beside each figure,
so that one sees which was the bottleneck. A create is create_open, PUT of 1 KiB and create_close, all durable.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import select
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import TypeAlias

import uvloop

from tawara.client.nodes import NodeClient
from tawara.metadata import cluster, files
from tawara.metadata.bell import Bells
from tawara.metadata.contract import Transaction
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.model.cluster import HostState, Observation, Observed
from tawara.node.server import StorageNode
from tawara.tracker.server import TrackerServer
from tawara.wire.line import Accepted, Args, decode_reply, encode_request

KEYS = 10_000
DEVICES = 4
BODY = b"x" * 1024
PORTS: TypeAlias = tuple[int, int]


# --- the servers ------------------------------------------------------------------------------------------------------


async def _furnish(tx: Transaction, node_port: int) -> None:
    await cluster.create_domain(tx, "d")
    await cluster.create_host(tx, "one", ip="127.0.0.1", http_port=node_port, state=HostState.ALIVE)
    for devid in range(1, DEVICES + 1):
        await cluster.create_device(tx, devid, 1)
    await cluster.record_usage(tx, dict.fromkeys(range(1, DEVICES + 1), (100000, 1000)), now=1)
    for number in range(KEYS):
        devids = [1 + number % DEVICES, 1 + (number + 1) % DEVICES]
        fid = await files.open_upload(tx, dmid=1, key=b"", classid=0, devids=devids, now=1)
        await files.close_upload(
            tx, fid, dmid=1, key=_key(number), classid=0, length=1024, devids=devids, now=1, replicate=False
        )


def _key(number: int) -> bytes:
    return b"photos/2026/%06d.jpg" % number


async def _track(database: Path, port: int, ready: Pipe) -> None:
    metadata = SqliteMetadata.open(database)
    view = ClusterView(metadata)
    await view.refresh()
    view.observe({devid: Observation(Observed.WRITEABLE) for devid in range(1, DEVICES + 1)})
    async with NodeClient() as nodes:
        server = TrackerServer(metadata, view, nodes, Bells(), address=("127.0.0.1", port), reuse_port=True)
        await server.start()
        ready.send(server.address[1])
        await asyncio.get_running_loop().run_in_executor(None, ready.recv)
        await server.stop()
    await metadata.close()


async def _keep(docroot: Path, ready: Pipe) -> None:
    node = StorageNode(docroot, http=("127.0.0.1", 0), side_channel=None)
    await node.start()
    ready.send(node.http_address[1])
    await asyncio.get_running_loop().run_in_executor(None, ready.recv)
    await node.stop()


def _tracker_process(database: Path, port: int, ready: Pipe) -> None:
    uvloop.run(_track(database, port, ready))


def _node_process(docroot: Path, ready: Pipe) -> None:
    uvloop.run(_keep(docroot, ready))


@dataclass
class Servers:
    """What runs, and where."""

    ports: PORTS
    trackers: list[BaseProcess]

    def cpu(self) -> float:
        """Seconds of processor time that the trackers have used."""
        ticks = 0
        for each in self.trackers:
            fields = Path(f"/proc/{each.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident KiB of the largest tracker."""
        sizes = []
        for each in self.trackers:
            status = Path(f"/proc/{each.pid}/status").read_text()
            sizes.append(int(status.partition("VmRSS:")[2].split()[0]))
        return max(sizes)


@contextmanager
def servers(directory: Path, count: int) -> Iterator[Servers]:
    """A storage node and `count` trackers on a database with KEYS keys."""
    spawn = multiprocessing.get_context("spawn")
    running: list[tuple[BaseProcess, Pipe]] = []

    def start(target: Callable[..., None], *args: object) -> int:
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=target, args=(*args, theirs))
        process.start()
        running.append((process, ours))
        if not ours.poll(60):
            raise TimeoutError(f"{target.__name__} does not start")
        port: int = ours.recv()
        return port

    for devid in range(1, DEVICES + 1):
        (directory / "disks" / f"dev{devid}").mkdir(parents=True)
    try:
        node = start(_node_process, directory / "disks")
        asyncio.run(_make_database(directory / "tawara.db", node))
        port = 0
        for _ in range(count):
            port = start(_tracker_process, directory / "tawara.db", port)
        yield Servers((port, node), [process for process, _ in running[1:]])
    finally:
        for process, pipe in running:
            if process.is_alive():
                pipe.send(None)
            process.join()


async def _make_database(path: Path, node_port: int) -> None:
    metadata = SqliteMetadata.open(path)
    await metadata.write(_furnish, node_port)
    await metadata.close()


# --- the load ---------------------------------------------------------------------------------------------------------


class Peer:
    """One client connection, which always has one request under way."""

    def __init__(self, ports: PORTS, rng: Random) -> None:
        self.tracker = _connect(ports[0])
        self.rng = rng
        self.begun = 0.0
        self._rest = b""

    def begin(self) -> socket.socket:
        """Send the next request; the socket on which to expect the answer."""
        self.begun = time.perf_counter()
        self.tracker.send(self.request())
        return self.tracker

    def request(self) -> bytes:
        """The next request."""
        raise NotImplementedError

    def receive(self) -> socket.socket | None:
        """There is something to read: the socket on which to go on, or None when the answer is whole."""
        data = self._rest + self.tracker.recv(262144)
        if not data.endswith(b"\n"):
            self._rest = data
            return self.tracker
        self._rest = b""
        if not data.startswith(b"OK "):
            raise RuntimeError(data.decode())
        return None


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Noop(Peer):
    """Nothing."""

    def request(self) -> bytes:
        """See Peer."""
        return b"noop\n"


class GetPaths(Peer):
    """A random key, not verified."""

    def request(self) -> bytes:
        """See Peer."""
        return b"get_paths domain=d&noverify=1&key=%s\n" % _key(int(self.rng.random() * KEYS))


class ListKeys(Peer):
    """A hundred keys from a random place."""

    def request(self) -> bytes:
        """See Peer."""
        return b"list_keys domain=d&prefix=photos/&limit=100&after=%s\n" % _key(int(self.rng.random() * (KEYS - 200)))


class Create(Peer):
    """A new key of 1 KiB: create_open, PUT, create_close."""

    def __init__(self, ports: PORTS, rng: Random) -> None:
        super().__init__(ports, rng)
        self._node = _connect(ports[1])
        self._step = 0
        self._opened: dict[str, bytes] = {}
        self._name = b""

    def request(self) -> bytes:
        """See Peer."""
        self._step = 0
        self._name = b"new/%d" % self.rng.getrandbits(60)
        return encode_request("create_open", {"domain": "d", "key": self._name})

    def receive(self) -> socket.socket | None:
        """See Peer."""
        if self._step == 0:
            reply = decode_reply(self.tracker.recv(65536).strip())
            assert isinstance(reply, Accepted), reply
            self._opened = dict(reply.args)
            path = self._opened["path"].split(b"/", 3)[3]
            self._node.sendall(
                b"PUT /%s HTTP/1.1\r\nHost: node\r\nContent-Length: %d\r\n\r\n%s" % (path, len(BODY), BODY)
            )
            self._step = 1
            return self._node
        if self._step == 1:
            answer = self._node.recv(65536)
            if b" 200 " not in answer[:16] and b" 201 " not in answer[:16]:
                raise RuntimeError(answer.decode())
            close: Args = {**self._opened, "domain": "d", "key": self._name, "size": len(BODY)}
            self.tracker.send(encode_request("create_close", close))
            self._step = 2
            return self.tracker
        return super().receive()


LOADS: dict[str, type[Peer]] = {"noop": Noop, "get_paths": GetPaths, "list_keys": ListKeys, "create": Create}


def _generate(load: str, ports: PORTS, connections: int, seconds: float, seed: int, result: Pipe) -> None:
    """Keep `connections` busy for some time after warming up; send the latencies, how busy we were, all requests."""
    rng = Random(seed)
    epoll = select.epoll()
    peers: dict[int, Peer] = {}

    def expect(peer: Peer, on: socket.socket) -> None:
        if on.fileno() not in peers:
            epoll.register(on.fileno(), select.EPOLLIN)
            peers[on.fileno()] = peer

    for _ in range(connections):
        peer = LOADS[load](ports, rng)
        expect(peer, peer.begin())
    start = time.perf_counter() + min(0.5, seconds / 4)
    end = start + seconds
    busy = 0.0
    count = 0
    latencies: list[float] = []
    now = time.perf_counter()
    while now < end:
        for descriptor, _ in epoll.poll(1.0):
            peer = peers[descriptor]
            on = peer.receive()
            now = time.perf_counter()
            if on is None:
                count += 1
                if peer.begun >= start:
                    latencies.append(now - peer.begun)
                elif not busy:
                    busy = time.process_time()
                on = peer.begin()
            expect(peer, on)
    result.send((latencies, (time.process_time() - busy) / (end - start), count))


@dataclass(frozen=True)
class Measurement:
    """One figure."""

    rate: float
    median: float
    p99: float
    generator_busy: float
    """Share of one core; at 100 % the load was the bottleneck."""
    cost: float
    """Seconds of the trackers' processor time for one request, which a busy machine does not change much."""

    def __str__(self) -> str:
        return (
            f"{self.rate:>9,.0f}/s   median {self.median * 1e3:8.3f} ms   p99 {self.p99 * 1e3:8.3f} ms"
            f"   tracker {self.cost * 1e6:6.1f} us each   load busy {self.generator_busy:4.0%}"
        )


def measure(load: str, running: Servers, connections: int, seconds: float, generators: int) -> Measurement:
    """Load the trackers from `generators` processes."""
    spawn = multiprocessing.get_context("spawn")
    generators = min(generators, connections)
    started: list[tuple[BaseProcess, Pipe]] = []
    for number in range(generators):
        ours, theirs = spawn.Pipe()
        share = connections // generators + (number < connections % generators)
        process: BaseProcess = spawn.Process(
            target=_generate, args=(load, running.ports, share, seconds, number, theirs)
        )
        process.start()
        started.append((process, ours))
    latencies: list[float] = []
    busy = 0.0
    cpu = running.cpu()
    total = 0
    for process, pipe in started:
        if not pipe.poll(seconds + 60):
            raise TimeoutError("a generator does not answer")
        found, used, count = pipe.recv()
        latencies += found
        busy += used
        total += count
        process.join()
    cost = (running.cpu() - cpu) / total
    latencies.sort()
    return Measurement(
        rate=len(latencies) / seconds,
        median=statistics.median(latencies),
        p99=latencies[int(len(latencies) * 0.99)],
        generator_busy=busy,
        cost=cost,
    )


def idle_connections(running: Servers, count: int) -> str:
    """What connections cost that do nothing."""
    before = running.memory()
    held = [_connect(running.ports[0]) for _ in range(count)]
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
    parser.add_argument("--processes", type=int, default=2, help="trackers")
    parser.add_argument("--generators", type=int, default=1, help="processes that make the load")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--idle", type=int, default=0, help="measure the memory of this many idle connections, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, servers(Path(directory), options.processes) as running:
        for load in options.loads:
            for connections in options.connections:
                found = measure(load, running, connections, options.seconds, options.generators)
                print(f"{load:>10} {connections:>5} connections {found}", flush=True)
        if options.idle:
            print(f"idle connections: {idle_connections(running, options.idle)}")


if __name__ == "__main__":
    main()
