"""Reads a large file in segments from several hosts at the same time, and yields the bytes in order.

One node's disk or network no longer limits the reader. Each host has a reader that takes the next segment when it is
done with one, so a slow host reads fewer of them. Segments that wait for those before them are kept in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from tawara.nodes.client import NodeClient
from tawara.nodes.replicas import HEDGE, OnFailure, Race

SEGMENT: Final = 4 * 1024 * 1024
"""Bytes of a segment: enough for a request to cost little, and few to keep in memory."""
WORTHWHILE: Final = 8 * SEGMENT
"""Bytes from which a file is read in segments."""
MOST_READERS: Final = 4
_AHEAD: Final = 2
"""Segments for each reader that may be under way or wait for those before them."""


def best_of_hosts(urls: Sequence[str]) -> list[str]:
    """Return the first URL of each host, in their order, of at most MOST_READERS hosts."""
    first = {urlsplit(url).netloc: url for url in reversed(urls)}
    return sorted(first.values(), key=urls.index)[:MOST_READERS]


@dataclass(slots=True)
class _Segment:
    """A part of the file that a reader reads; its chunks arrive in `chunks`, then None or an unexpected error."""

    end: int
    chunks: asyncio.Queue[bytes | Exception | None] = field(default_factory=asyncio.Queue)


@dataclass(slots=True)
class ParallelRead:
    """One pass over the replicas of a file of `size` bytes, for the bytes from `at` up to `end`; used as `Race` is."""

    nodes: NodeClient
    urls: Sequence[str]
    at: int
    end: int
    size: int
    told: OnFailure
    timeout: float | None = None
    hedge: float = HEDGE
    segment: int = SEGMENT
    _next: int = 0
    """Offset of the segment that is taken next."""
    _taken: deque[_Segment] = field(default_factory=deque)
    """Segments that were not yielded yet, in order."""
    _progress: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a segment was taken, or a reader has ended."""
    _failed: set[str] = field(default_factory=set)
    """Replicas that have failed in this pass."""
    _first: set[str] = field(default_factory=set)
    """The replicas with which readers begin."""

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes in order; ends early if no replica is left for a segment: see `at`."""
        self._next = self.at
        begin_with = best_of_hosts(self.urls)
        window = asyncio.Semaphore(_AHEAD * len(begin_with))
        self._first.update(begin_with)
        readers = [asyncio.create_task(self._read(url, window)) for url in begin_with]
        try:
            while self.at < self.end and (segment := await self._following(readers)) is not None:
                while (chunk := await segment.chunks.get()) is not None:
                    if isinstance(chunk, Exception):
                        raise chunk
                    self.at += len(chunk)
                    yield chunk
                if self.at < segment.end:
                    return
                window.release()
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _following(self, readers: Sequence[asyncio.Task[None]]) -> _Segment | None:
        """Return the segment that begins at `at`; None if no reader is left to take it."""
        while not self._taken:
            self._progress.clear()
            if all(reader.done() for reader in readers):
                return None
            await self._progress.wait()
        return self._taken.popleft()

    async def _read(self, first: str | None, window: asyncio.Semaphore) -> None:
        """Take segments and read them, each from `first` if it can be read, until there are none.

        When `first` has failed, it is replaced by a replica with which no other reader begins; without one, the reader
        ends and leaves the rest to the others.
        """
        try:
            while first is not None:
                await window.acquire()
                if self._next >= self.end:
                    return
                begin, self._next = self._next, min(self._next + self.segment, self.end)
                segment = _Segment(self._next)
                self._taken.append(segment)
                self._progress.set()
                others = sorted((url for url in self.urls if url != first), key=self._failed.__contains__)
                await self._fetch(segment, Race(
                    self.nodes, (first, *others), begin, segment.end, self.size, self._failure, self.timeout, self.hedge
                ))  # fmt: skip
                if first in self._failed:
                    left = (url for url in self.urls if url not in self._failed | self._first)
                    first = next(left, None)
                    self._first.update([first] if first else [])
        finally:
            self._progress.set()

    def _failure(self, url: str, at: int, error: Exception) -> None:
        self._failed.add(url)
        self.told(url, at, error)

    async def _fetch(self, segment: _Segment, race: Race) -> None:
        try:
            async with aclosing(race.run()) as chunks:
                async for chunk in chunks:
                    segment.chunks.put_nowait(chunk)
        except Exception as error:
            segment.chunks.put_nowait(error)
            raise
        segment.chunks.put_nowait(None)
