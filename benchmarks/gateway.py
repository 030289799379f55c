"""How fast the gateway serves and takes files, against plain nginx serving the same bytes; all fed by one generator.

python -m benchmarks.gateway [--seconds N]

Three gateways: behind nginx with the files on its own disks, behind nginx with the files on a storage node, and
streaming through Python. They and the plain nginx, each with one nginx worker, run at the same time and are measured in
turn, three rounds, the best of each: ratios of one run on one machine are what counts. A PUT answers after fsync and
commit; for plain nginx, which cannot PUT, there is no figure.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from itertools import count, repeat
from pathlib import Path

import structlog
import uvloop

from benchmarks._place import add_option, place
from benchmarks.node import program, rate
from tawara.gateway.nginx import bundled
from tests.acceptance.gateway_fixture import AUTHORISED, SECRET, store_fixture

ROUNDS = 3
SIZES = {"1 KB": 1_000, "100 KB": 100_000, "100 MB": 100_000_000}
GATEWAYS = {"nginx, own disk": ("nginx", "local"), "nginx, node": ("nginx", "node"), "streaming": ("python", "node")}
PLAIN = "plain nginx"
_NGINX = """
user root; worker_processes 1; daemon off; pid pid; error_log error;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


async def serve(directory: Path, path: str, place: str) -> None:
    """Be a gateway until terminated; says its port first."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    async with store_fixture(directory, nginx=path == "nginx", hosts=1, local=place == "local") as one:
        print(one.gateway.address[1], flush=True)
        terminated = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
        await terminated.wait()


async def measure(seconds: float, parent: Path) -> dict[str, dict[str, float]]:
    """Measurement -> who -> figure."""
    found: dict[str, dict[str, float]] = {}
    async with AsyncExitStack() as stack:
        fixture = stack.enter_context(place(parent))
        ports = {PLAIN: await _plain(stack, fixture / "plain")}
        for name, (path, where) in GATEWAYS.items():
            directory = fixture / name
            directory.mkdir()
            command = ["-m", "benchmarks.gateway", "--serve", str(directory), path, where]
            child = await stack.enter_async_context(program(sys.executable, *command))
            assert child.stdout
            ports[name] = int(await child.stdout.readline())
        for label, size in SIZES.items():
            body = os.urandom(size)
            (fixture / "plain" / "d").mkdir(exist_ok=True)
            (fixture / "plain" / "d" / str(size)).write_bytes(body)
            for name in GATEWAYS:
                await asyncio.to_thread(_put, ports[name], f"/d/{size}?class=one", body)
            asked = [repeat(f"GET /d/{size} HTTP/1.1\r\nHost: g\r\n\r\n".encode())] * (32 if size < 1_000_000 else 2)
            scale, unit = (1.0, "/s") if size < 1_000_000 else (size / 1_000_000, "MB/s")
            rounds = [{name: await rate(port, asked, seconds) for name, port in ports.items()} for _ in range(ROUNDS)]
            found[f"GET {label}, {unit}"] = {name: scale * max(each[name] for each in rounds) for name in ports}
        found["PUT 1 KB, one copy, /s"] = {name: await _puts(ports[name], 2 * seconds) for name in GATEWAYS}
    return found


async def _plain(stack: AsyncExitStack, directory: Path) -> int:
    directory.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    (directory / "nginx.conf").write_text(_NGINX.format(port=port, root=directory))
    command = [str(bundled()), "-p", str(directory), "-c", "nginx.conf", "-e", "error"]
    await stack.enter_async_context(program(*command))
    return port


def _put(port: int, path: str, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("PUT", path, body, AUTHORISED)
    assert connection.getresponse().status in (201, 204)
    connection.close()


async def _puts(port: int, seconds: float) -> float:
    """Files of 1 KB stored a second, over 32 connections, each file under a key of its own."""
    numbers, stored = count(), 0
    body = os.urandom(1000)

    async def one() -> None:
        nonlocal stored
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                head = f"PUT /d/put/{next(numbers)}?class=one HTTP/1.1\r\nHost: g\r\nContent-Length: 1000\r\n"
                writer.write(f"{head}Authorization: Bearer {SECRET}\r\n\r\n".encode() + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 201 "), answer
                stored += 1
        finally:
            writer.close()

    tasks = [asyncio.create_task(one()) for _ in range(32)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError), result
    return stored / seconds


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    add_option(options)
    options.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        directory, path, place = chosen.serve
        uvloop.run(serve(Path(directory), path, place))
        return
    for name, figures in uvloop.run(measure(chosen.seconds, chosen.directory)).items():
        plain = figures.get(PLAIN)
        print(name)
        for who, figure in figures.items():
            print(f"    {who:20}{figure:10.0f}" + (f"{figure / plain:8.2f}" if plain else ""))


if __name__ == "__main__":
    main()
