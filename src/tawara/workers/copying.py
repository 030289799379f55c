"""One copy: bytes from one storage node to another, with bounded memory, and proof that they arrived
(docs/mogilefs.md 10.6)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

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
from tawara.nodes.client import Download, NodeClient

SMALL: Final = 1024 * 1024
"""Bytes up to which a file is held in memory whole."""


Spend: TypeAlias = Callable[[int], Awaitable[None]]
"""Waits until so many more bytes may be moved."""


async def _freely(size: int) -> None:
    """No limit."""


class SourceFailed(CopyErr):
    """The replica cannot be read, or is not what was stored"""


class DestinationFailed(CopyErr):
    """The device did not take the copy"""

    nothing_sent = False
    """Whether it is certain that no byte went out to it, so that none can come late."""

    @property
    def is_conflict(self) -> bool:
        """Whether the device holds other content under the fid, which is not to be deleted."""
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
    spend: Spend = _freely,
    replace: bool = False,
) -> Checksum | None:
    """Copy `length` bytes from URL to URL; their checksum, if one was stored or the class wants one.

    With `replace` other content that the destination holds under the fid is replaced.

    When it returns, the destination has all bytes: the node compared their MD5 (`verifies_md5`: it does that), or the
    digest or at least the size was asked for afterwards (the digest on the side channel, if there is one). `spend` is
    awaited for each piece before it goes out. Raises SourceFailed, DestinationFailed; the destination may then have
    anything.
    """
    hashtype = checksum.hashtype if checksum else hashtype
    if length <= SMALL:
        await spend(length)
        body = await _read(nodes, source, length)
        actual = _digest(body, hashtype) if hashtype else None
        _compare(source, checksum, actual)
        md5 = _digest(body, HashType.MD5).digest if verifies_md5 else None
        await _put(nodes, destination, body, length, md5, replace)
        proven = verifies_md5
    else:
        md5 = checksum.digest if checksum and checksum.hashtype is HashType.MD5 and verifies_md5 else None
        actual = await _stream(nodes, source, destination, length, checksum, hashtype, md5, spend, replace)
        proven = md5 is not None
    if not proven:
        await _verify(nodes, destination, length, actual, side_channel_port)
    return actual


async def make_directories(nodes: NodeClient, url: str) -> bool:
    """MKCOL the directories above a fid's URL, for nodes that do not make them at a PUT; whether all are there now."""
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


async def _stream(
    nodes: NodeClient,
    source: str,
    destination: str,
    length: int,
    checksum: Checksum | None,
    hashtype: HashType | None,
    md5: bytes | None,
    spend: Spend,
    replace: bool,
) -> Checksum | None:
    hasher = hashlib.new(hashtype.hashlib, usedforsecurity=False) if hashtype else None
    actual: Checksum | None = None

    async def pieces(download: Download) -> AsyncIterator[bytes]:
        """The bytes; the last of them only when all are known to be right, for then the node keeps them."""
        nonlocal actual
        held = b""
        try:
            async for piece in download:
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

    try:
        async with nodes.get(source) as download:
            if download.length != length:
                raise SourceFailed(f"{source} has {download.length} bytes instead of {length}")
            await _put(nodes, destination, pieces(download), length, md5, replace)
    except (NodeUnreachable, NoSource) as error:
        raise SourceFailed(str(error)) from error
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


def _digest(body: bytes, hashtype: HashType) -> Checksum:
    return Checksum(hashtype, hashlib.new(hashtype.hashlib, body, usedforsecurity=False).digest())


def _compare(source: str, stored: Checksum | None, actual: Checksum | None) -> None:
    if stored is not None and actual != stored:
        raise SourceFailed(f"{source} has the checksum {actual}, stored is {stored}")
