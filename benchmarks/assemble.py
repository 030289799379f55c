"""How fast a storage node joins 16 files of 8 MiB, against `dd` with fsync writing the same bytes on the same disk.

python -m benchmarks.assemble [--rounds N] [--directory DIRECTORY]

On the file system of DIRECTORY, and on an XFS of its own in a file there (a loop device; needs root and mkfs.xfs),
where blocks are shared instead of copied. `dd` reads 128 MiB from the page cache and writes them; the node is asked
over HTTP, and its answer comes after the fsyncs. `read and PUT` is what a client does with nodes of another make: it
reads the parts and sends them to the same node. All in one run, in turn; the median of the rounds is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvloop

from benchmarks._place import add_option, file_system, place
from tawara.disks.devices import Devices
from tawara.model import fid as fids
from tawara.model.assembling import ByteRange
from tawara.model.cluster import HashType
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.nodes.source_ranges import SourceRange, store_ranges

PARTS, PART = 16, 8 * 1024 * 1024
RANGES = [ByteRange(fid, 0, PART) for fid in range(1, PARTS + 1)]
BARS = {"ext4": "at most 1.3 times dd", "xfs": "at most 0.1 s"}


@contextmanager
def xfs(directory: Path) -> Iterator[Path | None]:
    """An XFS in a file below `directory`; None, with the reason on standard error, where that is not possible."""
    image, mounted = directory / "xfs.image", directory / "xfs"
    mounted.mkdir()
    try:
        if os.geteuid() != 0 or shutil.which("mkfs.xfs", path=f"{os.environ['PATH']}:/usr/sbin") is None:
            raise OSError("needs root and mkfs.xfs (Debian: xfsprogs)")
        with image.open("wb") as file:
            file.truncate(2 * 1024**3)
        _run("mkfs.xfs", "-q", "-m", "reflink=1", str(image))
        _run("mount", "-o", "loop", str(image), str(mounted))
    except OSError as error:
        print(f"no XFS: {error}", file=sys.stderr)
        yield None
        return
    try:
        yield mounted
    finally:
        _run("umount", str(mounted))


def _run(*command: str) -> None:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={"PATH": f"{os.environ['PATH']}:/usr/sbin"}
    )
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip()}")


async def measure(root: Path, rounds: int) -> dict[str, list[float]]:
    """Who -> seconds of each round."""
    (root / "dev1").mkdir()
    devices = Devices(root)
    for each in RANGES:
        with devices.receive(fids.path(1, each.fid), size=PART) as incoming:
            incoming.write(os.urandom(PART))
            incoming.commit()
    whole, copy = root / "whole", root / "copy"
    whole.write_bytes(b"".join((root / fids.path(1, each.fid)[1:]).read_bytes() for each in RANGES))
    os.sync()
    node = StorageNode(root, http=("127.0.0.1", 0), side_channel=None)
    await node.start()
    origin = f"http://127.0.0.1:{node.http_address[1]}"
    sources = [SourceRange(each, PART, [origin + fids.path(1, each.fid)]) for each in RANGES]
    fid = 1000
    async with NodeClient() as nodes:

        def url() -> str:
            nonlocal fid
            fid += 1
            return origin + fids.path(1, fid)

        async def dd() -> None:
            await asyncio.to_thread(_run, "dd", f"if={whole}", f"of={copy}", "bs=1M", "conv=fsync")

        async def joined(*checksums: HashType) -> None:
            await nodes.assemble(url(), RANGES, checksums)

        async def sent() -> None:
            await store_ranges(nodes, url(), sources, None, in_place=False)

        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "dd": dd,
            "assemble": joined,
            "with CRC64NVME": lambda: joined(HashType.CRC64NVME),
            "with MD5": lambda: joined(HashType.MD5),
            "read and PUT": sent,
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                await way()
                found[name].append(time.perf_counter() - began)
                copy.unlink(missing_ok=True)
                (root / fids.path(1, fid)[1:]).unlink(missing_ok=True)
                await asyncio.to_thread(os.sync)
    await node.stop()
    return found


def show(directory: Path, found: dict[str, list[float]]) -> None:
    """A line for each way, with its ratio to dd."""
    kind = file_system(directory)
    bar = next((text for name, text in BARS.items() if kind.startswith(name)), "no bar")
    print(f"\n{kind}: {PARTS} x {PART // 1024**2} MiB; assemble should take {bar}")
    of_dd = statistics.median(found["dd"])
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"  {name:<16}{middle:8.3f} s   {middle / of_dd:6.2f} of dd   best {min(seconds):.3f} s")


def main() -> None:
    """Measure on both file systems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    add_option(parser)
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with place(asked.directory) as directory:
        (directory / "here").mkdir()
        show(directory / "here", uvloop.run(measure(directory / "here", asked.rounds)))
        with xfs(directory) as other:
            if other is not None:
                show(other, uvloop.run(measure(other, asked.rounds)))


if __name__ == "__main__":
    main()
