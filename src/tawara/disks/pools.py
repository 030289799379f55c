"""Threads for work that blocks on a disk: a few for each device, so that a disk that hangs holds up nobody but itself.

The threads are daemons: one that never returns from its disk does not keep the process from ending. A lane on which
nothing has been finished for a while, although there is work, refuses what waits and what comes; the first piece of
work that is finished ends that.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, ParamSpec, TypeVar

from tawara.disks.devices import Devices
from tawara.disks.paths import parse
from tawara.model.node_errors import DeviceHangs, NoSuchDevice

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W")

_THREADS: Final = 8
"""Enough for the fsyncs of concurrent uploads to share the file system's commits."""
TIMEOUT: Final = 10.0
"""Seconds without a finished piece of work after which a device counts as hanging."""


class DevicePools:
    """One small pool of threads for each device, and others by name for work that is no device's, made when first used.

    A piece of work is short (up to some MiB read, written or synced), or a lane would seem to hang.
    """

    ANY: Final = "any"
    """The lane of the document root itself."""

    def __init__(self, devices: Devices | None, *, timeout: float = TIMEOUT) -> None:
        """`devices` None is for lanes by name only; `patience` is seconds."""
        self._devices, self._timeout = devices, timeout
        self._pools: dict[str, _Pool] = {}
        self._closed = False

    async def of(self, path: str) -> str:
        """The lane of the device that `path` is on. Raises InvalidPath, NoSuchDevice."""
        device = parse(path).device
        # Only devices that were seen get threads, or requests for dev1, dev2, dev3... would fill the memory.
        if device not in self._pools:
            if self._devices is None or not await self.run(self.ANY, self._devices.listed, device):
                raise NoSuchDevice
            self._pool(device)
        return device

    async def run(self, pool_name: str, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do `work` on a thread of `lane` and return what it returns. Raises DeviceHangs if it is not begun.

        Work is never left alone: a cancelled caller goes on only when the thread has finished, so it can safely close
        what the thread was using.
        """
        job = self._pool(pool_name).submit(partial(work, *args, **kwargs))
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

    def hangs(self, pool_name: str) -> bool:
        """Whether `lane` refuses work now."""
        return pool_name in self._pools and self._pools[pool_name].hangs()

    def start(self, pool_name: str, work: Callable[[], R]) -> Future[R]:
        """Do `work` on a thread of `lane`. Raises DeviceHangs, and RuntimeError once closed."""
        return self._pool(pool_name).submit(work)

    def on_closed(self, pool_name: str, work: Callable[[], None]) -> Future[None]:
        """Have `work` done at some time, also on a lane that hangs: what a file needs at its end, such as closing."""
        return self._pool(pool_name).submit(work, always=True)

    async def clean_up(self, pool_name: str, work: Callable[[], None]) -> None:
        """The same, and wait until it is done, unless the lane hangs."""
        job = self.on_closed(pool_name, work)
        if not self.hangs(pool_name):
            await asyncio.shield(asyncio.wrap_future(job))

    def close(self) -> None:
        """Take no more work; what runs is finished in its own time, or ends with the process."""
        self._closed = True
        for pool in self._pools.values():
            pool.close()

    def _pool(self, pool_name: str) -> _Pool:
        pool = self._pools.get(pool_name)
        if pool is None:
            pool = self._pools[pool_name] = _Pool(f"tawara-{pool_name}", self._timeout)
            if self._closed:
                pool.close()
        return pool


class _Job:
    """A piece of work, and the future of its result."""

    __slots__ = ("always", "future", "work")

    def __init__(self, work: Callable[[], Any], *, always: bool) -> None:
        self.work, self.always = work, always
        self.future: Future[Any] = Future()

    def do(self) -> Callable[[], None]:
        """Do the work; what is returned tells the result to those that wait."""
        if not self.future.set_running_or_notify_cancel():
            return lambda: None
        try:
            result = self.work()
        except BaseException as error:
            return partial(self.future.set_exception, error)
        else:
            return partial(self.future.set_result, result)

    def refuse(self, error: Exception) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class _Pool:
    """The threads of one lane, made as they are needed."""

    def __init__(self, name: str, timeout: float) -> None:
        self._name, self._timeout = name, timeout
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        """None ends the threads."""
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._begun: dict[int, float] = {}
        """By thread that is at work: since when, by the monotonic clock."""
        self._finished = 0.0
        """When a piece of work was last finished."""
        self._closed = False

    def submit(self, work: Callable[[], R], *, always: bool = False) -> Future[R]:
        """Have `work` done; called on one thread only. Its future has DeviceHangs if it is not, unless `always`.

        Raises RuntimeError once closed; what is `always` done is done at once then.
        """
        job = _Job(work, always=always)
        if self._closed:
            if not always:
                raise RuntimeError("no work is taken any more")
            job.do()()
            return job.future
        if not always and self.hangs():
            for each in (*self._not_begun(), job):
                each.refuse(DeviceHangs())
            return job.future
        self._waiting.put(job)
        if not self._idle.acquire(blocking=False) and self._threads < _THREADS:
            self._threads += 1
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        return job.future

    def hangs(self) -> bool:
        """Whether there is work, and none has been finished for too long."""
        begun = list(self._begun.values())
        return bool(begun) and time.monotonic() - max(self._finished, min(begun)) >= self._timeout

    def close(self) -> None:
        """End the threads when they are done; what has not begun is cancelled."""
        self._closed = True
        for job in self._not_begun():
            job.future.cancel()
        self._waiting.put(None)

    def _not_begun(self) -> list[_Job]:
        """Take away the work that waits, but for what has to be done."""
        taken: list[_Job | None] = []
        with suppress(Empty):
            while True:
                taken.append(self._waiting.get_nowait())
        for job in taken:
            if job is None or job.always:
                self._waiting.put(job)
        return [job for job in taken if job is not None and not job.always]

    def _serve(self) -> None:
        me = threading.get_ident()
        while True:
            try:
                job = self._waiting.get_nowait()
            except Empty:
                self._idle.release()
                job = self._waiting.get()
            if job is None:
                self._waiting.put(None)  # for the other threads
                return
            self._begun[me] = time.monotonic()
            tell = job.do()
            self._finished = time.monotonic()
            del self._begun[me]
            tell()
            del job, tell


class PoolBatcher(Generic[W, R]):
    """Work of one kind that costs less when many do it at once, and less still without a thread's turn for each.

    Nothing waits for company: what finds its lane free goes at once, what comes meanwhile goes together.
    """

    def __init__(
        self, pools: DevicePools, work: Callable[[Sequence[W]], Sequence[R | Exception]], *, width: int, most: int
    ) -> None:
        """`work` blocks, and answers each in their order; `width` threads of a lane do it, for at most `most` each."""
        self._pools, self._work, self._width, self._most = pools, work, width, most
        self._waiting: dict[str, deque[tuple[W, Callable[[R | Exception], None]]]] = {}
        self._under_way: dict[str, int] = {}
        self._flush_scheduled: set[str] = set()

    def add(self, pool_name: str, what: W, done: Callable[[R | Exception], None]) -> None:
        """Have `what` done; `done` is called with its answer, which may be an exception, on the event loop."""
        self._waiting.setdefault(pool_name, deque()).append((what, done))
        if pool_name not in self._flush_scheduled and (
            self._under_way.get(pool_name, 0) < self._width or self._pools.hangs(pool_name)
        ):
            # After the loop's other callbacks: what arrived in the same turn comes along.
            self._flush_scheduled.add(pool_name)
            asyncio.get_running_loop().call_soon(self._start_flush, pool_name)

    async def do(self, pool_name: str, what: W) -> R:
        """Have `what` done, whatever becomes of the caller; its answer. Raises what the work answered."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()

        def done(result: R | Exception) -> None:
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self.add(pool_name, what, done)
        return await answer

    def _start_flush(self, pool_name: str) -> None:
        self._flush_scheduled.discard(pool_name)
        waiting = self._waiting[pool_name]
        if self._pools.hangs(pool_name):
            refused = list(waiting)
            waiting.clear()
            _tell(refused, [DeviceHangs()] * len(refused))
            return
        if not waiting or self._under_way.get(pool_name, 0) >= self._width:
            return
        batch = [waiting.popleft() for _ in range(min(len(waiting), self._most))]
        loop = asyncio.get_running_loop()

        def arrived(job: Future[Sequence[R | Exception]]) -> None:
            try:
                loop.call_soon_threadsafe(self._arrived, pool_name, batch, job)
            except RuntimeError:  # the loop is closed: nobody waits any more
                if not loop.is_closed():
                    raise

        self._under_way[pool_name] = self._under_way.get(pool_name, 0) + 1
        try:
            job = self._pools.start(pool_name, lambda: self._work([what for what, _ in batch]))
        except RuntimeError as error:  # the lanes are closed
            self._under_way[pool_name] -= 1
            _tell(batch, [error] * len(batch))
            self._start_flush(pool_name)
        else:
            job.add_done_callback(arrived)

    def _arrived(
        self,
        pool_name: str,
        batch: list[tuple[W, Callable[[R | Exception], None]]],
        job: Future[Sequence[R | Exception]],
    ) -> None:
        self._under_way[pool_name] -= 1
        self._start_flush(pool_name)
        error = RuntimeError("no work is taken any more") if job.cancelled() else job.exception()
        if error is None:
            _tell(batch, job.result())
        elif isinstance(error, Exception):
            _tell(batch, [error] * len(batch))
        else:
            raise error


def _tell(batch: Sequence[tuple[W, Callable[[R | Exception], None]]], answers: Sequence[R | Exception]) -> None:
    for (_, done), answer in zip(batch, answers, strict=True):
        done(answer)
