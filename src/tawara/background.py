"""What is done in the background from start to stop: tasks whose end is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


class Background:
    """One task beside all others, begun and ended by whoever it belongs to."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether it was started, and not stopped."""
        return self._task is not None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin `work`, which goes on until it is done or stopped."""
        self._task = asyncio.create_task(work, name=self._name)

    async def stop(self) -> None:
        """Cancel the work and wait until it has cleaned up; nothing where it was not started, or is stopped already.

        Raises what the work failed of, once, for nobody else would hear of it.
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel all `tasks` and wait until each has ended; what one of them fails of is not told."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
