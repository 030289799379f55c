"""Background tasks that are started once and stopped with a wait for their end; coroutines begun outside a task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterable
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Background:
    """One background task, started and stopped by its owner."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether the task was started and not stopped."""
        return self._task is not None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work`, which runs until it returns or is stopped."""
        self._task = asyncio.create_task(work, name=self._name)

    async def stop(self) -> None:
        """Cancel the task and wait for its end; do nothing if it was not started or is already stopped.

        Raises the exception with which the task failed, once; nothing else would report it.
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel all `tasks` and wait for their end; their exceptions are ignored."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def resume(running: Coroutine[Any, Any, T], awaited: Any) -> T:
    """Continue a coroutine that was begun outside a task, by `send(None)`, and has yielded `awaited`.

    A coroutine that does not suspend costs far less without a task.
    """
    return await _Resumed(running, awaited)


class _Resumed(Generic[T]):
    """Continues a coroutine; `awaited` is what it yielded."""

    __slots__ = ("_awaited", "_running")

    def __init__(self, running: Coroutine[Any, Any, T], awaited: Any) -> None:
        self._running = running
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, T]:
        awaited, running = self._awaited, self._running
        while True:
            try:
                try:
                    sent = yield awaited
                except BaseException as error:
                    awaited = running.throw(error)
                else:
                    awaited = running.send(sent)
            except StopIteration as stop:
                return cast("T", stop.value)
