"""Threads for work that blocks on a disk: a few for each device, so that a dying disk holds up nobody but itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Generic, ParamSpec, TypeVar

from tawara.node.devices import Devices
from tawara.node.errors import NoSuchDevice
from tawara.node.paths import parse

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W")

_THREADS: Final = 8
"""Enough for the fsyncs of concurrent uploads to share the file system's commits."""


class Lanes:
    """One small pool of threads for each device, and one for work that is no device's, made when first used."""

    ANY: Final = "any"

    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self._pools: dict[str, ThreadPoolExecutor] = {}

    async def of(self, path: str) -> str:
        """The lane of the device that `path` is on. Raises InvalidPath, NoSuchDevice."""
        device = parse(path).device
        # Only devices that were seen get threads, or requests for dev1, dev2, dev3... would fill the memory.
        if device not in self._pools and not await self.run(self.ANY, self._devices.exists, device):
            raise NoSuchDevice
        return device

    async def run(self, lane: str, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do `work` on a thread of `lane` and return what it returns.

        Work is never left alone: a cancelled caller goes on only when the thread has finished, so it can safely close
        what the thread was using.
        """
        job = self._pool(lane).submit(work, *args, **kwargs)
        done = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not job.cancel():
                await asyncio.wait([done])
                done.exception()
            raise

    def knows(self, device: str) -> bool:
        """Whether the device was seen, so that there is a lane of its name."""
        return device in self._pools

    def start(self, lane: str, work: Callable[[], None]) -> None:
        """Do `work`, which tells of its end by itself, on a thread of `lane`. Raises RuntimeError once closed."""
        self._pool(lane).submit(work)

    def close(self) -> None:
        """Take no more work; what runs is finished in its own time."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def _pool(self, lane: str) -> ThreadPoolExecutor:
        pool = self._pools.get(lane)
        if pool is None:
            pool = self._pools[lane] = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"tawara-{lane}")
        return pool


class Together(Generic[W, R]):
    """Work of one kind that costs less when many do it at once, and less still without a thread's turn for each.

    Nothing waits for company: what finds its lane free goes at once, what comes meanwhile goes together.
    """

    def __init__(
        self, lanes: Lanes, work: Callable[[Sequence[W]], Sequence[R | Exception]], *, width: int, most: int
    ) -> None:
        """`work` blocks, and answers each in their order; `width` threads of a lane do it, for at most `most` each."""
        self._lanes, self._work, self._width, self._most = lanes, work, width, most
        self._waiting: dict[str, deque[tuple[W, Callable[[R | Exception], None]]]] = {}
        self._under_way: dict[str, int] = {}
        self._departing: set[str] = set()

    def add(self, lane: str, what: W, done: Callable[[R | Exception], None]) -> None:
        """Have `what` done; `done` is called with its answer, which may be an exception, on the event loop."""
        self._waiting.setdefault(lane, deque()).append((what, done))
        if lane not in self._departing and self._under_way.get(lane, 0) < self._width:
            # After the loop's other callbacks: what arrived in the same turn comes along.
            self._departing.add(lane)
            asyncio.get_running_loop().call_soon(self._depart, lane)

    async def do(self, lane: str, what: W) -> R:
        """Have `what` done, whatever becomes of the caller; its answer. Raises what the work answered."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()

        def done(result: R | Exception) -> None:
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self.add(lane, what, done)
        return await answer

    def _depart(self, lane: str) -> None:
        self._departing.discard(lane)
        waiting = self._waiting[lane]
        if not waiting or self._under_way.get(lane, 0) >= self._width:
            return
        party = [waiting.popleft() for _ in range(min(len(waiting), self._most))]
        loop = asyncio.get_running_loop()

        def travel() -> None:
            try:
                answers = self._work([what for what, _ in party])
            except Exception as error:
                answers = [error] * len(party)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._arrived, lane, party, answers)

        self._under_way[lane] = self._under_way.get(lane, 0) + 1
        try:
            self._lanes.start(lane, travel)
        except RuntimeError as error:  # the lanes are closed
            self._arrived(lane, party, [error] * len(party))

    def _arrived(
        self, lane: str, party: list[tuple[W, Callable[[R | Exception], None]]], answers: Sequence[R | Exception]
    ) -> None:
        self._under_way[lane] -= 1
        self._depart(lane)
        for (_, done), answer in zip(party, answers, strict=True):
            done(answer)
