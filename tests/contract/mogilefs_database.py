"""A database of MogileFS with typical contents: created, examined, adopted, used by a mogilefsd, and returned."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from tawara.metadata import adoption, files
from tawara.metadata.contract import Metadata
from tawara.metadata.open import open_metadata
from tawara.model.files import NewFile
from tests.mogilefsd.double import Mogilefsd, mogilefsd

LATIN1_OPTION = "&keys=latin1"
"""For a database whose trackers spoke Latin-1 with it: how all keys are read."""
FURNITURE = [
    "INSERT INTO domain (dmid, namespace) VALUES (1, 'old')",
    "INSERT INTO class (dmid, classid, classname, mindevcount) VALUES (1, 1, 'thumbs', 1)",
    "INSERT INTO host (hostid, status, hostname, hostip) VALUES (1, 'alive', 'one', '127.0.0.1')",
    "INSERT INTO host (hostid, status, hostname, hostip) VALUES (2, 'down', 'two', '10.0.0.2')",
    "INSERT INTO device (devid, hostid, status, mb_total, mb_used) VALUES (1, 1, 'alive', 1000, 10)",
    "INSERT INTO device (devid, hostid, status) VALUES (2, 1, 'drain')",
    "INSERT INTO device (devid, hostid, status) VALUES (3, 2, 'alive')",
]


@asynccontextmanager
async def examining(url: str) -> AsyncIterator[Metadata]:
    metadata = await open_metadata(url, any_version=True)
    try:
        yield metadata
    finally:
        await metadata.close()


@asynccontextmanager
async def adopted(url: str, *, widen: bool = False) -> AsyncIterator[Metadata]:
    async with examining(url) as metadata:
        await metadata.write(adoption.adopt, widen=widen, now=1)
    metadata = await open_metadata(url)
    try:
        yield metadata
    finally:
        await metadata.close()


def original_at(url: str, **options: Any) -> AbstractAsyncContextManager[Mogilefsd]:
    """A mogilefsd on the same database, with Latin-1 connections if ours read keys so."""
    plain = url.removesuffix(LATIN1_OPTION)
    return mogilefsd(plain, charset="utf8mb4" if plain == url else "latin1", **options)


async def store(
    ours: Metadata, key: bytes, *devids: int, classid: int = 0, length: int = 1, content_type: str | None = None
) -> int:
    """Store a file with Tawara; return its fid."""
    devids = devids or (1,)
    fid = await ours.write(files.open_upload, dmid=1, key=key, classid=classid, devids=devids, now=1)
    await ours.write(
        files.close_upload,
        NewFile(fid=fid, dmid=1, key=key, classid=classid, length=length, devids=devids, content_type=content_type),
        now=1,
    )
    return fid


async def leave(url: str) -> None:
    async with examining(url) as metadata:
        assert await metadata.write(adoption.settle_copies, now=int(time.time())) == []
        await metadata.write(adoption.undo)
