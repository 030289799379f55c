"""Reads a file from its replicas, a large one from several at once; if one fails, another continues at its offset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tawara.client.replies import FileInfo
from tawara.model import errors
from tawara.model.checksums import new_hasher
from tawara.model.fid import parse_path
from tawara.nodes.client import NodeClient
from tawara.nodes.parallel import WORTHWHILE, ParallelRead, best_of_hosts
from tawara.nodes.replicas import Race

PATHS: Final = 10
"""Number of replicas to request from a tracker."""


@dataclass(frozen=True, slots=True)
class Located:
    """A file's content with the URLs of its replicas, best first."""

    info: FileInfo
    urls: Sequence[str]

    def consistent(self) -> bool:
        """Whether info and URLs are of the same content; the key may have been overwritten between the requests."""
        return all(
            place is None or place[1] == self.info.fid
            for place in (parse_path(urlsplit(url).path) for url in self.urls)
        )


class Reading:
    """The bytes of one content from `start` up to but excluding `end`; can be iterated once.

    Uses bounded memory. A replica that fails or has a wrong length is skipped; all are tried again as long as that
    yields more bytes.
    """

    def __init__(
        self,
        nodes: NodeClient,
        located: Located,
        locate_again: Callable[[], Awaitable[Located]],
        *,
        start: int = 0,
        end: int | None = None,
        verify: bool = False,
    ) -> None:
        length = located.info.length
        self.info = located.info
        self.start = min(start, length)
        self.end = max(self.start, length if end is None else min(end, length))
        self._nodes = nodes
        self._urls = located.urls
        self._locate_again = locate_again
        self._begun: list[bytes] = []
        """Received chunks that were not yielded yet."""
        self._under_way: AsyncGenerator[bytes, None] | None = None
        self._iterator: AsyncGenerator[bytes, None] | None = None
        self._verify = verify and self.start == 0 and self.end == length

    @property
    def length(self) -> int:
        """Number of bytes that the iteration yields."""
        return self.end - self.start

    async def begin(self) -> None:
        """Wait for the first bytes. Raises NoSource, immediately if the key was overwritten before any byte arrived."""
        self._under_way = self._verified_chunks()
        async for chunk in self._under_way:
            self._begun.append(chunk)
            break

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the chunks."""
        self._iterator = self._iterate()
        return self._iterator

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        if self._under_way is None:
            self._under_way = self._verified_chunks()
        while self._begun:
            yield self._begun.pop()
        async for chunk in self._under_way:
            yield chunk

    async def close(self) -> None:
        """Stop an unfinished iteration."""
        for each in (self._iterator, self._under_way):
            if each is not None:
                await each.aclose()

    async def _verified_chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the chunks. Raises NoSource if no replica can be read, ChecksumMismatch if verification fails."""
        checksum = self.info.checksum if self._verify else None
        hasher = new_hasher(checksum.hashtype) if checksum else None
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                if hasher is not None:
                    await asyncio.to_thread(hasher.update, chunk)
                yield chunk
        if hasher is not None and checksum is not None and hasher.digest() != checksum.digest:
            raise errors.ChecksumMismatch(f"What was read of {self.info.key!r} is not what was stored")

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        at = self.start
        failures: list[str] = []
        asked_again = False

        def failed(url: str, at: int, error: Exception) -> None:
            failures.append(str(error))

        while at < self.end:
            in_parallel = self.end - at >= WORTHWHILE and len(best_of_hosts(self._urls)) > 1
            # Without progress the next pass asks for the whole file: a foreign node may not know ranges.
            read = ParallelRead if in_parallel and not asked_again else Race
            race = read(self._nodes, self._urls, at, self.end, self.info.length, failed)
            async with aclosing(race.run()) as chunks:
                async for chunk in chunks:
                    yield chunk
            no_progress = race.at == at and asked_again
            asked_again, at = race.at == at, race.at
            if at < self.end:
                replaced = not no_progress and await self._look_up_again()
                if no_progress or (replaced and at == self.start):
                    raise errors.NoSource(
                        f"No replica of {self.info.key!r} can be read ({'; '.join(failures) or 'none is up'})"
                    )

    async def _look_up_again(self) -> bool:
        """Look up the replicas of the same content again; return whether the key has been overwritten."""
        try:
            located = await self._locate_again()
        except (errors.NotFoundError, errors.UnavailableError):
            return False
        if located.info.fid != self.info.fid:
            return True
        self._urls = located.urls
        return False
