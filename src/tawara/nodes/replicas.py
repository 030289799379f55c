"""Reads a file from its replicas with hedged requests: a replica that is slow to start is raced by the next one.

The monitor detects a hanging node within seconds. Until then a reader must not have to wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, TypeAlias

from tawara.model.errors import NodeUnreachable, UnavailableError
from tawara.nodes.client import Download, NodeClient

HEDGE: Final = 1.0
"""Seconds that a replica may take to begin before the next is asked as well."""

_StartedDownload: TypeAlias = tuple[Download, AsyncExitStack]
"""A started download, and the stack that closes it."""
OnFailure: TypeAlias = Callable[[str, int, Exception], None]
"""Called for each failed replica with its URL, the offset reached and the error."""


@dataclass(slots=True)
class Race:
    """One pass over the replicas of a file of `size` bytes, the best first, for the bytes from `at` up to `end`."""

    nodes: NodeClient
    urls: Iterable[str]
    at: int
    end: int
    size: int
    on_failure: OnFailure
    timeout: float | None = None
    """Seconds that a replica may take to begin before it counts as failed; None leaves that to `nodes`."""
    hedge: float = HEDGE

    async def run(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes. If a replica fails, the next continues; ends early if none is left: see `at`."""
        waiting = deque(self.urls)
        while self.at < self.end and waiting:
            async with AsyncExitStack() as stack:
                begun = await self._first(waiting, stack)
                if begun is None:
                    continue
                url, download = begun
                try:
                    async for piece in download:
                        self.at += len(piece)
                        yield piece
                except UnavailableError as error:
                    self.on_failure(url, self.at, error)

    async def _first(self, waiting: deque[str], stack: AsyncExitStack) -> tuple[str, Download] | None:
        """Return the replica that starts first, which `stack` closes; None if all waiting replicas have failed.

        The slower ones are returned to `waiting`.
        """
        asked: dict[asyncio.Task[_StartedDownload], str] = {}
        stack.push_async_callback(_cancel_tasks, asked)
        while waiting or asked:
            if waiting:
                url = waiting.popleft()
                asked[asyncio.create_task(self._begin(url))] = url
            hedge = self.hedge if waiting else None
            done, _ = await asyncio.wait(asked, timeout=hedge, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if isinstance(error, UnavailableError | TimeoutError):
                    self.on_failure(asked.pop(task), self.at, error)
                    continue
                download, closing = task.result()
                url = asked.pop(task)
                stack.push_async_exit(closing)
                for other in asked:
                    other.cancel()
                waiting.extend(asked.values())
                return url, download
        return None

    async def _begin(self, url: str) -> _StartedDownload:
        wanted = None if self.at == 0 and self.end == self.size else (self.at, self.end - 1)
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(self.timeout):
                download = await stack.enter_async_context(self.nodes.get(url, byte_range=wanted))
            if download.length != self.end - self.at:
                raise NodeUnreachable(f"{url} has another length than the file")
            return download, stack.pop_all()


async def _cancel_tasks(asked: Iterable[asyncio.Task[_StartedDownload]]) -> None:
    """Cancel the requests that lost the race; close those that had started meanwhile."""
    for task in asked:
        task.cancel()
    for begun in await asyncio.gather(*asked, return_exceptions=True):
        if not isinstance(begun, BaseException):
            await begun[1].aclose()
