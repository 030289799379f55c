"""How much memory a gateway holds while many clients upload to S3 at the same time.

python -m benchmarks.uploads [--uploads 1000] [--mebibytes 8]

Each client sends the first half of its object, and the second half when all have sent the first. Once with plain
bodies, which nginx receives into files, and once framed by aws-chunked, which Python decodes as they arrive: of these
at most `Limits.s3_uploads` at a time, the others are answered SlowDown and come again. Prints the peak of the resident
memory of the gateway's process, storage node included, and of nginx, and checks every object's length.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvloop
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks._place import add_option, place
from benchmarks.gateway import _children
from benchmarks.node import program
from benchmarks.s3 import BUCKET, REGION, S3Peer

CHUNK: Final = 65_536
_RESET_PEAK: Final = "5"
"""See clear_refs in proc(5)."""


def head(peer: S3Peer, key: str, size: int, *, framed: bool) -> bytes:
    """Return the head of a presigned PUT."""
    headers = {}
    if framed:
        headers = {
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "x-amz-decoded-content-length": str(size),
        }
    request = AWSRequest("PUT", f"http://127.0.0.1:{peer.port}/{BUCKET}/{key}", headers=headers)
    key_id, _, secret = peer.key.partition(":")
    S3SigV4QueryAuth(Credentials(key_id, secret), "s3", REGION, expires=86_400).add_auth(request)
    parts = urlsplit(request.url)
    chunks = size // CHUNK
    length = size if not framed else chunks * (CHUNK + len(b"10000\r\n\r\n")) + len(b"0\r\n\r\n")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {length}\r\n{lines}"
        "Connection: close\r\n\r\n"
    ).encode()


async def upload(peer: S3Peer, start: bytes, size: int, half: asyncio.Barrier, *, framed: bool) -> int:
    """Upload one object; wait at half of it for the others. Return how often it was answered SlowDown."""
    piece, refused, waited = b"x" * CHUNK, 0, False
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        status = b""
        try:
            writer.write(start)
            for number in range(size // CHUNK):
                if number == size // CHUNK // 2 and not waited:
                    waited = True
                    await half.wait()
                writer.write(b"10000\r\n%b\r\n" % piece if framed else piece)
                await writer.drain()
            if framed:
                writer.write(b"0\r\n\r\n")
        except (ConnectionError, RuntimeError):
            pass
        with suppress(ConnectionError, RuntimeError):
            status = (await reader.readline())[9:12]
        writer.close()
        if status == b"200":
            return refused
        assert status in (b"503", b""), status
        refused += 1
        if not waited:
            waited = True
            await half.wait()
        await asyncio.sleep(random.uniform(1.0, min(20.0, 2.0**refused)))  # as SDKs do


def peak(pid: int) -> float:
    """Return the peak of a process's resident memory in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


async def measure(options: argparse.Namespace) -> None:
    """Measure and print."""
    size = options.mebibytes << 20
    async with AsyncExitStack() as stack:
        fixture = stack.enter_context(place(options.directory))
        command = ["-m", "benchmarks.s3", "--serve", str(fixture), "nginx"]
        child = await stack.enter_async_context(program(sys.executable, *command))
        assert child.stdout
        port, master, key = (await child.stdout.readline()).decode().split()
        peer = S3Peer(int(port), [child.pid, *_children(int(master))], key)
        await asyncio.to_thread(peer.client().create_bucket, Bucket=BUCKET)
        for framed in (False, True)[options.framed :]:
            for pid in peer.pids:
                Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)
            half, began = asyncio.Barrier(options.uploads), time.monotonic()
            starts = [head(peer, f"{framed}/{number}", size, framed=framed) for number in range(options.uploads)]
            refused = sum(await asyncio.gather(*(upload(peer, start, size, half, framed=framed) for start in starts)))
            took, peaks = time.monotonic() - began, [peak(pid) for pid in peer.pids]
            print(
                f"{options.uploads} uploads of {options.mebibytes} MiB at the same time, "
                f"{'framed' if framed else 'plain'}: gateway {peaks[0]:.0f} MiB, nginx {sum(peaks[1:]):.0f} MiB, "
                f"{took:.0f} s, {options.uploads * size / took / 1e6:.0f} MB/s, {refused} times SlowDown",
                flush=True,
            )
            pages = peer.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{framed}/")
            sizes = [each["Size"] for page in pages for each in page["Contents"]]
            assert sizes == [size] * options.uploads


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=1000)
    parser.add_argument("--mebibytes", type=int, default=8)
    parser.add_argument("--framed", action="store_true", help="measure framed bodies only")
    add_option(parser)
    uvloop.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
