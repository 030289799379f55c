"""Streams bodies through Python: from the first readable replica to a client, from a client to several devices.

Memory is bounded, every wait has a timeout, and the slowest peer limits the rate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Final

import structlog

from tawara.model.errors import NoSource
from tawara.nodes.client import NodeClient
from tawara.nodes.replicas import Race
from tawara.wire.ranges import Span

log = structlog.get_logger(__name__)

_AHEAD: Final = 8
"""Pieces of a body that are queued for each device."""

Sink = Callable[[AsyncIterator[bytes]], Awaitable[None]]
"""Stores a body; when it returns, the bytes are durable."""


async def read_somewhere(
    nodes: NodeClient, urls: Iterable[str], part: Span, size: int, *, timeout: float
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes `part` of a file of `size` bytes from the first of the replicas `urls` that can be read.

    When a replica fails, the next continues where it stopped. Raises NoSource when none is left. `timeout`: seconds
    that a node may take to begin.
    """

    def on_failure(url: str, at: int, error: Exception) -> None:
        log.warning("replica_read_failed", url=url, offset=at, reason=str(error) or "no answer in time")

    race = Race(nodes, urls, part.start, part.start + part.length, size, on_failure, timeout)
    async with aclosing(race.run()) as pieces:
        async for piece in pieces:
            yield piece
    if race.at < race.end:
        raise NoSource


class _Branch:
    """One destination of a body."""

    def __init__(self, sink: Sink) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        self.task = asyncio.ensure_future(sink(self._body()))
        self.task.add_done_callback(self._on_done)

    async def enqueue(self, piece: bytes | None) -> None:
        """Queue a piece, None at the end; return at once when the branch has ended."""
        if not self.task.done():
            await self._pieces.put(piece)

    def _on_done(self, task: asyncio.Future[None]) -> None:
        while not self._pieces.empty():  # releases a `give` that waits for space
            self._pieces.get_nowait()

    async def _body(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece


async def tee(body: AsyncIterable[bytes], sinks: Mapping[int, Sink]) -> dict[int, BaseException | None]:
    """Send `body` to all `sinks` at once; return the error of each, None for success.

    Stops early when all have failed. When `body` raises, or the caller is cancelled, all sinks are cancelled and
    awaited before the exception propagates.
    """
    branches = {name: _Branch(sink) for name, sink in sinks.items()}
    try:
        async for piece in body:
            for branch in branches.values():
                await branch.enqueue(piece)
            if all(branch.task.done() for branch in branches.values()):
                break
        for branch in branches.values():
            await branch.enqueue(None)
        await asyncio.wait([branch.task for branch in branches.values()])
    finally:
        for branch in branches.values():
            branch.task.cancel()
        results = await asyncio.gather(*(branch.task for branch in branches.values()), return_exceptions=True)
    return dict(zip(branches, results, strict=True))
