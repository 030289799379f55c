"""Copies a file from one storage node to another, in bounded memory, and verifies the copy (docs/mogilefs.md 10.6).

A large file is read in ranges from several hosts at once if its checksum is known, which alone tells whether ranges of
several replicas together are the file. If they are not, the caller reads the file again, from one replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeAlias

from tawara.model.checksums import checksum_of, new_hasher
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import (
    ChecksumMismatch,
    CopyErr,
    FidConflict,
    NodeUnreachable,
    NoSource,
    ReadFailed,
    SizeMismatch,
)
from tawara.nodes.client import NodeClient
from tawara.nodes.parallel import ParallelRead
from tawara.nodes.replicas import OnFailure

SMALL: Final = 1024 * 1024
"""Bytes up to which a whole file is held in memory."""
RANGE: Final = 1024 * 1024
"""Bytes of a range when several replicas are read; twice as much for each is in memory."""

Spend: TypeAlias = Callable[[int], Awaitable[None]]
"""Waits until so many more bytes may be sent."""


async def _unlimited(size: int) -> None:
    """Spend without a limit."""


class SourceFailed(CopyErr):
    """The source of a copy could not be read, or differs from what was stored."""

    code = "source_failed"
    message = "The replica cannot be read, or is not what was stored"
    hint = None


class DestinationFailed(CopyErr):
    """The destination of a copy did not take it."""

    code = "destination_failed"
    message = "The destination did not accept the copy"
    hint = None

    nothing_sent = False
    """Whether certainly no byte was sent, so that none can arrive late."""

    @property
    def is_conflict(self) -> bool:
        """Whether the device holds other content under the fid, which must not be deleted."""
        return isinstance(self.__cause__, FidConflict)


async def copy(
    nodes: NodeClient,
    source: str,
    destination: str,
    *,
    length: int,
    checksum: Checksum | None,
    hashtype: HashType | None,
    verifies_md5: bool,
    side_channel_port: int | None = None,
    spend: Spend = _unlimited,
    replace: bool = False,
    others: Sequence[str] = (),
    on_failure: OnFailure = lambda *_: None,
) -> Checksum | None:
    """Copy `length` bytes from URL to URL. Returns their checksum, if one is stored or the class has a `hashtype`.

    On return the copy is verified: by the node, which compared the MD5 (`verifies_md5`: it does), or by asking for the
    digest (on the side channel, if there is one) or, without a checksum, for the size. `spend` is awaited for each
    piece before it is sent. With `replace`, other content of the fid at the destination is replaced.

    `others`: replicas on further hosts, which are read at the same time; `checksum` must be known then. `on_failure` is
    told about those of all replicas that fail; SourceFailed is raised when none is left, or the checksum differs.

    Raises SourceFailed, DestinationFailed; the content at the destination is then undefined.
    """
    hashtype = checksum.hashtype if checksum else hashtype
    if length <= SMALL:
        await spend(length)
        body = await _read(nodes, source, length)
        actual = checksum_of(body, hashtype) if hashtype else None
        _compare(source, checksum, actual)
        md5 = checksum_of(body, HashType.MD5).digest if verifies_md5 else None
        await _put(nodes, destination, body, length, md5, replace)
        verified = verifies_md5
    else:
        md5 = checksum.digest if checksum and checksum.hashtype is HashType.MD5 and verifies_md5 else None
        opened = _open_ranges(nodes, [source, *others], length, on_failure) if others else _open(nodes, source, length)
        async with opened as chunks:
            actual = await _stream(nodes, source, chunks, destination, length, checksum, hashtype, md5, spend, replace)
        verified = md5 is not None
    if not verified:
        await _verify(nodes, destination, length, actual, side_channel_port)
    return actual


async def make_directories(nodes: NodeClient, url: str) -> bool:
    """Create the directories of a fid's URL (MKCOL), for nodes whose PUT does not. Returns whether all exist now."""
    device, *names = url.rsplit("/", 4)[:-1]
    for depth in range(1, len(names) + 1):
        try:
            if not await nodes.make_directory("/".join([device, *names[:depth]]) + "/"):
                return False
        except NodeUnreachable:
            return False
    return True


async def _read(nodes: NodeClient, source: str, length: int) -> bytes:
    try:
        body = await nodes.read(source, limit=length)
    except (NodeUnreachable, NoSource, TimeoutError) as error:
        raise SourceFailed(str(error) or f"{source}: no answer in time") from error
    if len(body) != length:
        raise SourceFailed(f"{source} has {len(body)} bytes instead of {length}")
    return body


async def _put(
    nodes: NodeClient,
    destination: str,
    body: bytes | AsyncIterator[bytes],
    length: int,
    md5: bytes | None,
    replace: bool,
) -> None:
    try:
        await nodes.put(destination, body, length=length, md5=md5, replace=replace)
    except (NodeUnreachable, ChecksumMismatch, TimeoutError) as error:
        failure = DestinationFailed(str(error) or f"{destination}: no answer in time")
        failure.nothing_sent = isinstance(error, NodeUnreachable) and error.nothing_sent
        raise failure from error
    except SizeMismatch as error:
        raise SourceFailed(str(error)) from error


@asynccontextmanager
async def _open(nodes: NodeClient, source: str, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open one replica; yields its bytes. Raises SourceFailed, also while they are read."""
    try:
        async with nodes.get(source) as download:
            if download.length != length:
                raise SourceFailed(f"{source} has {download.length} bytes instead of {length}")
            yield aiter(download)
    except (NodeUnreachable, NoSource) as error:
        raise SourceFailed(str(error)) from error


@asynccontextmanager
async def _open_ranges(
    nodes: NodeClient, sources: Sequence[str], length: int, on_failure: OnFailure
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open several replicas; yields the bytes of the file in order. Raises SourceFailed while they are read."""
    reading = ParallelRead(nodes, sources, 0, length, length, on_failure, segment=RANGE)

    async def checked() -> AsyncIterator[bytes]:
        async with aclosing(reading.run()) as chunks:
            async for chunk in chunks:
                yield chunk
        if reading.at < length:
            raise SourceFailed(f"No replica has the bytes from {reading.at} on")

    async with aclosing(checked()) as chunks:  # type: ignore[type-var] # an asynchronous generator
        yield chunks


async def _stream(
    nodes: NodeClient,
    source: str,
    chunks: AsyncIterator[bytes],
    destination: str,
    length: int,
    checksum: Checksum | None,
    hashtype: HashType | None,
    md5: bytes | None,
    spend: Spend,
    replace: bool,
) -> Checksum | None:
    hasher = new_hasher(hashtype) if hashtype else None
    actual: Checksum | None = None

    async def pieces() -> AsyncIterator[bytes]:
        """Yield the bytes; the last piece only after the checksum was compared, since the node then keeps the file."""
        nonlocal actual
        held = b""
        try:
            async for piece in chunks:
                await spend(len(piece))
                if hasher is not None:
                    await asyncio.to_thread(hasher.update, piece)
                if held:
                    yield held
                held = piece
        except NodeUnreachable as error:
            raise SourceFailed(str(error)) from error
        if hasher is not None and hashtype is not None:
            actual = Checksum(hashtype, hasher.digest())
            _compare(source, checksum, actual)
        yield held

    await _put(nodes, destination, pieces(), length, md5, replace)
    return actual


async def _verify(
    nodes: NodeClient, destination: str, length: int, actual: Checksum | None, side_channel_port: int | None
) -> None:
    try:
        if actual is None:
            size = await nodes.size(destination)
            if size != length:
                raise DestinationFailed(f"{destination} has {size} bytes instead of {length}")
        elif await nodes.digest(destination, actual.hashtype, side_channel_port=side_channel_port) != actual.digest:
            raise DestinationFailed(f"{destination} does not have the bytes that were sent")
    except (NodeUnreachable, ReadFailed) as error:
        raise DestinationFailed(str(error)) from error


def _compare(source: str, stored: Checksum | None, actual: Checksum | None) -> None:
    if stored is not None and actual != stored:
        raise SourceFailed(f"{source} has the checksum {actual}, stored is {stored}")
