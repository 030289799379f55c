"""The bytes of a file from whichever of its replicas gives them; one that is slow to begin is overtaken by the next.

A node that hangs is known to everybody within seconds. Until then a reader that meets it should not have to wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from tawara.client.nodes import Download, NodeClient
from tawara.model.errors import NodeUnreachable, UnavailableError

HEDGE: Final = 1.0
"""Seconds that a replica may take to begin before the next is asked as well."""

Told = Callable[[str, int, Exception], None]
"""Hears of each replica that failed: its URL, how far the reading was, and what went wrong."""


@dataclass(slots=True)
class Race:
    """One pass over the replicas of a file of `size` bytes, the best first, for the bytes from `at` up to `end`."""

    nodes: NodeClient
    urls: Iterable[str]
    at: int
    end: int
    size: int
    told: Told
    patience: float | None = None
    """Seconds that a replica may take to begin before it counts as failed; None leaves that to `nodes`."""
    hedge: float = HEDGE

    async def run(self) -> AsyncGenerator[bytes, None]:
        """The bytes as they come. Where a replica breaks off, the next goes on; too few if none is left: see `at`."""
        waiting = deque(self.urls)
        while self.at < self.end and (begun := await self._first(waiting)) is not None:
            url, download, stack = begun
            async with stack:
                try:
                    async for piece in download:
                        self.at += len(piece)
                        yield piece
                except UnavailableError as error:
                    self.told(url, self.at, error)

    async def _first(self, waiting: deque[str]) -> tuple[str, Download, AsyncExitStack] | None:
        """The replica that begins first; None if all that were waiting have failed. Who is overtaken waits again."""
        asked: dict[asyncio.Task[tuple[Download, AsyncExitStack]], str] = {}
        try:
            while waiting or asked:
                if waiting:
                    url = waiting.popleft()
                    asked[asyncio.create_task(self._begin(url))] = url
                hedge = self.hedge if waiting else None
                done, _ = await asyncio.wait(asked, timeout=hedge, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.exception()
                    if error is None:
                        return asked.pop(task), *task.result()
                    url = asked.pop(task)
                    if not isinstance(error, UnavailableError | TimeoutError):
                        raise error
                    self.told(url, self.at, error)
            return None
        finally:
            for task in asked:
                task.cancel()
            for begun in await asyncio.gather(*asked, return_exceptions=True):
                if not isinstance(begun, BaseException):
                    await begun[1].aclose()
            waiting.extend(asked.values())

    async def _begin(self, url: str) -> tuple[Download, AsyncExitStack]:
        wanted = None if self.at == 0 and self.end == self.size else (self.at, self.end - 1)
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(self.patience):
                download = await stack.enter_async_context(self.nodes.get(url, byte_range=wanted))
            if download.length != self.end - self.at:
                raise NodeUnreachable(f"{url} has another length than the file")
            return download, stack.pop_all()
