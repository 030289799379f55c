"""Stores a file that consists of ranges of other files: the node assembles it where it can, else the bytes are sent.

A node assembles a file from what the target's device holds. Nodes of other makes, and those that lack a source, get the
bytes by PUT, read from any replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from tawara.model.assembling import ByteRange, total_length
from tawara.model.checksums import new_hasher
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import CannotAssemble, NoSource
from tawara.nodes.client import NodeClient
from tawara.nodes.replicas import Race

log = structlog.get_logger(__name__)

_HASHED_HERE = 64 * 1024
"""Bytes up to which hashing on the event loop is cheaper than in a thread."""


@dataclass(frozen=True, slots=True)
class SourceRange:
    """A range of a fid, and the replicas to read it from."""

    part: ByteRange
    size: int
    """Bytes of the whole fid."""
    urls: Sequence[str]
    """URLs of the replicas, best first."""


async def store_ranges(
    nodes: NodeClient, url: str, sources: Sequence[SourceRange], hashtype: HashType | None, *, in_place: bool
) -> Checksum | None:
    """Store the file that consists of `sources` at `url`; return its checksum if `hashtype` is given.

    `in_place`: the device of `url` holds all sources. Raises NoSource if a source cannot be read, and as
    `NodeClient.put`.
    """
    if in_place:
        try:
            done = await nodes.assemble(url, [each.part for each in sources], [hashtype] if hashtype else [])
        except CannotAssemble as error:
            log.info("assemble_refused", url=url, reason=str(error))
        else:
            return done.checksums[0] if hashtype else None
    hasher = new_hasher(hashtype) if hashtype else None

    async def hashed() -> AsyncIterator[bytes]:
        async with aclosing(read_ranges(nodes, sources)) as pieces:
            async for piece in pieces:
                if hasher is not None and len(piece) > _HASHED_HERE:
                    await asyncio.to_thread(hasher.update, piece)
                elif hasher is not None:
                    hasher.update(piece)
                yield piece

    await nodes.put(url, hashed(), length=total_length(each.part for each in sources))
    return Checksum(hashtype, hasher.digest()) if hasher is not None and hashtype is not None else None


async def read_ranges(
    nodes: NodeClient, sources: Sequence[SourceRange], *, timeout: float | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of all ranges, in order; when a replica fails, the next one continues.

    `timeout`: seconds that a replica may take to begin; None leaves that to `nodes`. Raises NoSource when no replica
    is left.
    """
    for source in sources:
        failures: list[str] = []

        def failed(url: str, at: int, error: Exception, failures: list[str] = failures) -> None:
            failures.append(str(error) or f"{url}: no answer in time")

        part = source.part
        race = Race(nodes, source.urls, part.start, part.start + part.length, source.size, failed, timeout)
        async with aclosing(race.run()) as pieces:
            async for piece in pieces:
                yield piece
        if race.at < race.end:
            raise NoSource(f"No replica of fid {part.fid} can be read ({'; '.join(failures) or 'none is up'})")
