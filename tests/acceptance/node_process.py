"""A storage node for acceptance tests, and a client that sends literal bytes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tawara.disks.identity import RECORDS
from tawara.disks.paths import IDENTITY
from tawara.model.limits import Limits
from tawara.node.server import StorageNode

Answer = tuple[int, dict[str, str], bytes]
"""Status, header fields by lower-case name, body."""

FILE = "/dev1/0/000/000/0000000001.fid"

_PROCESS = """
import asyncio, sys, uvloop
from pathlib import Path
from tawara.node.server import StorageNode
async def main():
    node = StorageNode(Path(sys.argv[1]), http=("127.0.0.1", 0), side_channel=None)
    await node.start()
    print("port", node.http_address[1], flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""


@asynccontextmanager
async def running(
    root: Path, limits: Limits | None = None, *, fast_path: bool = True, immutable: bool = True
) -> AsyncIterator[StorageNode]:
    """A node with devices 1 and 2; without `fast_path` the complete HTTP server answers all requests."""
    for device in ("dev1", "dev2"):
        (root / device).mkdir(exist_ok=True)
    loopback = ("127.0.0.1", 0)
    node = StorageNode(
        root,
        http=loopback,
        side_channel=loopback,
        limits=limits or Limits(),
        fast_path=fast_path,
        immutable=immutable,
        disk_health=False,
    )
    await node.start()
    try:
        yield node
    finally:
        await asyncio.wait_for(node.stop(), 5)


@asynccontextmanager
async def process(root: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, tuple[str, int]]]:
    """A node in its own process, on uvloop; killed at the end."""
    (root / "dev1").mkdir(exist_ok=True)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", _PROCESS, str(root), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        while not (line := await child.stdout.readline()).startswith(b"port "):  # the log goes to stdout, too
            assert line, "the node did not start"
        yield child, ("127.0.0.1", int(line.split()[1]))
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def talk(address: tuple[str, int], *said: bytes) -> bytes:
    """Send all segments, one at a time, and return what was received until the peer closed the connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        for part in said:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(-1), 30)
    finally:
        writer.close()


async def get(
    address: tuple[str, int], path: str, *headers: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields (lower case) and body of one request on its own connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: node", "Connection: close", *headers, "", ""]
    return parse(await talk(address, "\r\n".join(lines).encode()))


def parse(answer: bytes) -> Answer:
    """The parts of a reply."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    named = (field.partition(":") for field in fields)
    return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in named}, body


def put(path: str, body: bytes, *headers: str) -> bytes:
    """The bytes of a PUT that closes the connection."""
    lines = [
        f"PUT {path} HTTP/1.1",
        "Host: node",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def files(root: Path) -> set[str]:
    """Every file below `root`, except those of the node itself, as relative paths."""
    found = {each.relative_to(root) for each in root.rglob("*") if not each.is_dir() and not housekeeping(each)}
    return {str(each) for each in found if each.parts[0] != RECORDS}


def housekeeping(path: Path) -> bool:
    """Whether a file on a device is one that its node writes regularly, also its temporary form: `usage.4711`."""
    return path.name == IDENTITY or path.name.partition(".")[0] in ("usage", "health")


def resident(pid: int) -> int:
    """Bytes of resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
