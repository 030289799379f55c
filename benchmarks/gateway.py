"""How fast the gateway serves and takes files, beside plain nginx and Perlbal serving the same bytes.

python -m benchmarks.gateway [--seconds N]

Needs wrk, the load generator; Perlbal's reproxy is measured if it is installed (Debian: apt install wrk perlbal). Its
backend is an nginx that answers every request with X-REPROXY-URL, the cheapest one possible.

Gateways: behind nginx with the files on its own disk, on a storage node, on one and in nginx's cache, and streaming
through Python; each in one process, storage node included, with one nginx worker, as the plain nginx. All run at the
same time and are measured in turn, three rounds, the best of each. So ratios of one run on one machine are comparable;
beside them stand microseconds of processor time per request: of nginx, and of the gateway's process.

A PUT is answered after fsync and commit. Beside it stands what the disk does without Tawara: files of the same size
written and fsynced by four threads, each in batches of 16, two files for each PUT.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from benchmarks._place import add_option, place
from benchmarks.node import program
from benchmarks.workers import cpu
from tawara.gateway.nginx import bundled
from tawara.model.cache_settings import CacheSettings
from tests.acceptance.gateway_fixture import AUTHORISED, SECRET, store_fixture

ROUNDS = 3
SIZES = {"1 KB": (1_000, 300), "100 KB": (100_000, 50), "1 MB": (1_000_000, 10), "100 MB": (100_000_000, 1)}
"""Name -> bytes of a file, and number of files that are read in turn."""
CACHED = "nginx, cache"
GATEWAYS = {
    "nginx, own disk": ("nginx", "local"),
    "nginx, node": ("nginx", "node"),
    CACHED: ("nginx", "cache"),
    "streaming": ("python", "node"),
}
CACHE = CacheSettings(size=1 << 30, file=16 << 20)
PLAIN, PERLBAL = "plain nginx", "Perlbal"
_NGINX = """
user root; worker_processes 1; daemon off; pid pid; error_log error;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
  server {{
    listen 127.0.0.1:{backend};
    location / {{ add_header X-REPROXY-URL http://127.0.0.1:{port}$request_uri; return 200 ""; }}
  }}
}}
"""
_PERLBAL = """
CREATE POOL backend
POOL backend ADD 127.0.0.1:{backend}
CREATE SERVICE web
  SET role = reverse_proxy
  SET pool = backend
  SET listen = 127.0.0.1:{port}
  SET persist_client = on
  SET persist_backend = on
  SET enable_reproxy = on
ENABLE web
"""
_GETS = """
local number = 0
function request()
  number = number % {files} + 1
  return wrk.format("GET", "/d/{size}/" .. number)
end
"""
_PUTS = """
local number, body = 0, string.rep("x", 1000)
local headers = {{ ["Authorization"] = "Bearer {secret}" }}
function request()
  number = number + 1
  return wrk.format("PUT", "/d/put/{unique}/" .. number .. "?class={storage_class}", headers, body)
end
"""


@dataclass
class Peer:
    """One server that is measured."""

    port: int
    pids: list[int]
    """The processes whose processor time is shown: the gateway's, and nginx's workers."""
    best: float = 0.0
    cost: tuple[float, ...] = ()
    """Microseconds of each process for one request, in the best round."""


async def serve(directory: Path, path: str, place: str) -> None:
    """Be a gateway until terminated; prints its port and nginx's master process first."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    own_devices = 2 if place == "local" else 1
    async with store_fixture(
        directory,
        nginx=path == "nginx",
        hosts=2,
        own_devices=own_devices,
        local=place == "local",
        cache=CACHE if place == "cache" else None,
    ) as one:
        if place == "local":  # both copies on the gateway's own devices
            one.view.observe({1: one.view.current.observed[1], 3: one.view.current.observed[3]})
        print(one.gateway.address[1], one.front.pid if one.front else 0, flush=True)
        terminated = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
        await terminated.wait()


async def load(peer: Peer, script: Path, seconds: float, connections: int) -> float:
    """Requests per second by wrk; remembers the best, and its cost."""
    before = [cpu(pid) for pid in peer.pids]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{peer.port}"]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said = (await child.communicate())[0].decode()
    found = re.search(r"(\d+) requests in ", said)
    per_second = re.search(r"Requests/sec: +([\d.]+)", said)
    assert found and per_second and "Non-2xx" not in said, said
    answers, rate = max(1, int(found[1])), float(per_second[1])
    if rate > peer.best:
        peer.best = rate
        used = [after - earlier for after, earlier in zip(map(cpu, peer.pids), before, strict=True)]
        peer.cost = tuple(1e6 * each / answers for each in used)
    return rate


async def measure(seconds: float, parent: Path) -> None:
    """Measure and print."""
    async with AsyncExitStack() as stack:
        fixture = stack.enter_context(place(parent))
        peers = await _peers(stack, fixture)
        for label, (size, files) in SIZES.items():
            body = os.urandom(size)
            for number in range(1, files + 1):
                file = fixture / "plain" / "d" / str(size) / str(number)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(body)
                for name in GATEWAYS:
                    await asyncio.to_thread(_put, peers[name].port, f"/d/{size}/{number}?class=one", body)
            script = fixture / f"{size}.lua"
            script.write_text(_GETS.format(size=size, files=files))
            connections = 32 if size <= 1_000_000 else 2
            _reset(peers)
            for _ in range(ROUNDS):
                for peer in peers.values():
                    await load(peer, script, max(1, round(seconds)), connections)
            megabytes = size / 1_000_000 if size >= 1_000_000 else None
            _show(f"GET {label}, {connections} connections", peers, megabytes)
        _reset(peers)
        writers = [name for name in GATEWAYS if name != CACHED]  # a cache does nothing for uploads
        for storage_class, copies in (("one", "one copy"), ("default", "two copies")):
            for number in range(ROUNDS):
                for name in writers:
                    script = fixture / "put.lua"
                    unique = f"{storage_class}/{number}"
                    script.write_text(_PUTS.format(secret=SECRET, unique=unique, storage_class=storage_class))
                    await load(peers[name], script, max(1, round(2 * seconds)), 64)
            _show(f"PUT 1 KB, {copies}, 64 connections", {name: peers[name] for name in writers}, None)
            _reset(peers)
        raw = max([await asyncio.to_thread(fsyncs, fixture / "raw", seconds) for _ in range(ROUNDS)])
        print(f"    {'the disk alone':18}{raw:10.0f}/s files written and fsynced, {raw / 2:.0f} PUTs of two copies")


def _reset(peers: dict[str, Peer]) -> None:
    for peer in peers.values():
        peer.best, peer.cost = 0.0, ()


def _show(title: str, peers: dict[str, Peer], megabytes: float | None) -> None:
    print(title)
    plain = peers.get(PLAIN)
    for name, peer in peers.items():
        figure = f"{peer.best:10.0f}/s" if megabytes is None else f"{peer.best * megabytes:10.0f} MB/s"
        ratio = f"{peer.best / plain.best:8.2f}" if plain else ""
        print(f"    {name:18}{figure:14}{ratio}   {' + '.join(f'{each:.0f}' for each in peer.cost)} us", flush=True)


async def _peers(stack: AsyncExitStack, fixture: Path) -> dict[str, Peer]:
    plain, backend, perlbal = _free_ports(3)
    directory = fixture / "plain"
    directory.mkdir()
    (directory / "nginx.conf").write_text(_NGINX.format(port=plain, backend=backend, root=directory))
    command = [str(bundled()), "-p", str(directory), "-c", "nginx.conf", "-e", "error"]
    nginx = await stack.enter_async_context(program(*command))
    peers = {PLAIN: Peer(plain, [])}
    for name, (path, where) in GATEWAYS.items():
        directory = fixture / name
        directory.mkdir()
        command = ["-m", "benchmarks.gateway", "--serve", str(directory), path, where]
        child = await stack.enter_async_context(program(sys.executable, *command))
        assert child.stdout
        port, master = map(int, (await child.stdout.readline()).split())
        peers[name] = Peer(port, [*(_children(master) if master else []), child.pid])
    peers[PLAIN].pids = _children(nginx.pid)
    if shutil.which("perlbal"):
        (fixture / "perlbal.conf").write_text(_PERLBAL.format(port=perlbal, backend=backend))
        child = await stack.enter_async_context(program("perlbal", "--config", str(fixture / "perlbal.conf")))
        await _answers(perlbal)
        peers[PERLBAL] = Peer(perlbal, [child.pid])
    else:
        print("Perlbal is not installed (apt install perlbal): left out", file=sys.stderr)
    return peers


def _children(pid: int) -> list[int]:
    """nginx's workers; the loader of its cache ends after a minute."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children if b"worker" in Path(f"/proc/{each}/cmdline").read_bytes()]


def _free_ports(count: int) -> list[int]:
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in free]
    for each in free:
        each.close()
    return ports


async def _answers(port: int) -> None:
    """Wait until something listens at a port."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def _put(port: int, path: str, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("PUT", path, body, AUTHORISED)
    assert connection.getresponse().status in (201, 204)
    connection.close()


def fsyncs(directory: Path, seconds: float) -> float:
    """Files of 1 KB that four threads write and fsync per second, with their names, in batches of 16."""
    directory.mkdir(exist_ok=True)
    body, end, counts = os.urandom(1000), time.monotonic() + seconds, [0] * 4

    def work(thread: int) -> None:
        own = directory / str(thread)
        own.mkdir(exist_ok=True)
        names = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
        while time.monotonic() < end:
            batch = []
            for _ in range(16):
                counts[thread] += 1
                name = f"{time.monotonic_ns()}-{counts[thread]}"
                batch.append(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=names))
                os.write(batch[-1], body)
            for descriptor in batch:
                os.fsync(descriptor)
                os.close(descriptor)
            os.fsync(names)
        os.close(names)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sum(counts) / seconds


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    add_option(options)
    options.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        directory, path, where = chosen.serve
        uvloop.run(serve(Path(directory), path, where))
        return
    if shutil.which("wrk") is None:
        print("wrk is not installed (apt install wrk): the gateway is not measured", file=sys.stderr)
        return
    uvloop.run(measure(chosen.seconds, chosen.directory))


if __name__ == "__main__":
    main()
