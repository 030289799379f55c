"""Client of a storage node's side channel; each request has its own connection (docs/mogilefs.md 18.3)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from tawara.model import errors
from tawara.model.cluster import HashType

DIGEST_TIME: Final = 3600.0
"""Seconds for a node to read a whole file for a digest; it sends nothing meanwhile."""
_LINE: Final = 16 * 1024
_DEVICES: Final = 10_000
_UTILISATION: Final = re.compile(rb"(\d{1,9})\t(\d{1,9}(?:\.\d{1,9})?|-)")


async def digest(
    host: str, port: int, path: str, hashtype: HashType, reason: str, connect_timeout: float
) -> bytes | None:
    """Return the digest of a file, computed by the node; None if the file does not exist.

    Raises NodeUnreachable, and ReadFailed if the node reports that its disk cannot read all bytes.
    """
    if re.search(r"[\s\x00]", path + reason):
        raise errors.NodeUnreachable(f"{path!r} cannot be said on a side channel")
    async with _connected(host, port, connect_timeout) as (reader, writer):
        with _converting_errors(host, port):
            writer.write(f"{hashtype.wire} {path} {reason}".rstrip().encode() + b"\r\n")
            await writer.drain()
            async with asyncio.timeout(DIGEST_TIME):
                line = (await reader.readuntil(b"\n")).rstrip()
    if line.startswith(b"ERR read "):
        raise errors.ReadFailed(f"{host}:{port}: {line[:200].decode(errors='replace')}")
    match = re.fullmatch(rb"(\S+) ([\w-]+)=(-1|[0-9a-fA-F]+)", line)
    if match is None or match[1] != path.encode() or match[2] != hashtype.wire.encode():
        raise errors.NodeUnreachable(f"{host}:{port} gives no digest: {line[:200].decode(errors='replace')}")
    if match[3] == b"-1":
        return None
    if len(match[3]) != 2 * hashtype.digest_size:
        raise errors.NodeUnreachable(f"{host}:{port} gives a digest of the wrong length")
    return bytes.fromhex(match[3].decode())


async def sizes(host: str, port: int, paths: Sequence[str], connect_timeout: float, silence: float) -> list[int | None]:
    """Return the size in bytes of each file; None for the reply -1: missing or not accessible.

    All requests are sent at once on one connection. Raises NodeUnreachable.
    """
    if any(re.search(r"[\s\x00]", path) for path in paths):
        raise errors.NodeUnreachable("a path cannot be said on a side channel")
    found: list[int | None] = []
    async with _connected(host, port, connect_timeout) as (reader, writer):
        with _converting_errors(host, port):
            writer.write(b"".join(b"size %s\r\n" % path.encode() for path in paths))
            for path in paths:
                async with asyncio.timeout(silence):
                    line = (await reader.readuntil(b"\n")).rstrip()
                name, _, size = line.rpartition(b" ")
                if name != path.encode() or not re.fullmatch(rb"-1|[0-9]{1,19}", size):
                    raise errors.NodeUnreachable(f"{host}:{port} gives no size: {line[:200].decode(errors='replace')}")
                found.append(None if size == b"-1" else int(size))
    return found


async def watch(
    host: str, port: int, connect_timeout: float, silence: float
) -> AsyncIterator[Mapping[int, float | None]]:
    """Yield each report of `watch`: percent by devid. Raises NodeUnreachable if it ends, is malformed or stalls."""
    async with _connected(host, port, connect_timeout) as (reader, writer):
        with _converting_errors(host, port):
            writer.write(b"watch\r\n")
            await writer.drain()
        seen: dict[int, float | None] = {}
        while True:
            with _converting_errors(host, port):
                async with asyncio.timeout(silence):
                    line = (await reader.readuntil(b"\n")).rstrip()
            if line == b".":
                yield seen
                seen = {}
                continue
            match = _UTILISATION.fullmatch(line)
            if match is None or len(seen) > _DEVICES:
                raise errors.NodeUnreachable(f"{host}:{port} does not watch: {line[:200].decode(errors='replace')}")
            seen[int(match[1])] = None if match[2] == b"-" else float(match[2])


@asynccontextmanager
async def _connected(
    host: str, port: int, timeout: float
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with _converting_errors(host, port):
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, limit=_LINE)
    try:
        yield reader, writer
    finally:
        writer.close()


@contextmanager
def _converting_errors(host: str, port: int) -> Iterator[None]:
    """Convert exceptions of asyncio and the system to NodeUnreachable."""
    try:
        yield
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        reason = str(error) or type(error).__name__
        raise errors.NodeUnreachable(f"{host}:{port}, side channel: {reason}") from error
