"""Thread pools for work that blocks on disks, one pool per device, so that a hanging disk delays only its own work.

The threads are daemons: a thread that never returns from its disk does not keep the process from exiting. A pool that
has work but has finished none for a while hangs: it refuses waiting and new work until the next piece is finished.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, ParamSpec, TypeAlias, TypeVar

from tawara.batching import Batcher, Finished
from tawara.disks.devices import Devices
from tawara.disks.paths import parse
from tawara.model.node_errors import DeviceHangs, NoSuchDevice

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W")
_Item: TypeAlias = tuple[W, Callable[[R | Exception], None]]
"""An item of work, and the callback that receives its result."""

_THREADS: Final = 8
"""Threads per pool; enough for the fsyncs of concurrent uploads to share the file system's commits."""
TIMEOUT: Final = 10.0
"""Seconds without finished work after which a device counts as hanging."""


class DevicePools:
    """A small thread pool for each device, and further pools by name; created on first use.

    A piece of work must be short (at most a few MiB read, written or synced), or its pool counts as hanging.
    """

    ANY: Final = "any"
    """Name of the pool for the document root."""

    def __init__(self, devices: Devices | None, *, timeout: float = TIMEOUT) -> None:
        """`devices` None: pools by name only. `timeout`: seconds without finished work after which a pool hangs."""
        self._devices, self._timeout = devices, timeout
        self._pools: dict[str, _Pool] = {}
        self._closed = False

    async def of(self, path: str) -> str:
        """Return the pool name of the device that `path` is on. Raises InvalidPath, NoSuchDevice."""
        device = parse(path).device
        # Only existing devices get threads, or requests for dev1, dev2, dev3... would exhaust the memory.
        if device not in self._pools:
            if self._devices is None or not await self.run(self.ANY, self._devices.listed, device):
                raise NoSuchDevice
            self._pool(device)
        return device

    async def run(self, pool_name: str, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` on a thread of the pool and return its result. Raises DeviceHangs if it was not started.

        A cancelled caller continues only when the thread has finished, so it can safely close what the thread used.
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
        """Whether the device has a pool, i.e. was used before."""
        return device in self._pools

    def hangs(self, pool_name: str) -> bool:
        """Whether the pool refuses work now."""
        return pool_name in self._pools and self._pools[pool_name].hangs()

    def start(self, pool_name: str, work: Callable[[], R]) -> Future[R]:
        """Run `work` on a thread of the pool. The future may get DeviceHangs. Raises RuntimeError once closed."""
        return self._pool(pool_name).submit(work)

    def submit_cleanup(self, pool_name: str, work: Callable[[], None]) -> Future[None]:
        """Queue cleanup such as closing a file; it is run even if the pool hangs now, once the disk responds."""
        return self._pool(pool_name).submit(work, always=True)

    async def clean_up(self, pool_name: str, work: Callable[[], None]) -> None:
        """Queue cleanup as `submit_cleanup` does, and wait for it unless the pool hangs."""
        job = self.submit_cleanup(pool_name, work)
        if not self.hangs(pool_name):
            await asyncio.shield(asyncio.wrap_future(job))

    def close(self) -> None:
        """Refuse further work. Running work finishes later, or ends with the process."""
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

    def run(self) -> Callable[[], None]:
        """Run the work; return a callback that sets the result of the future."""
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
    """The threads of one pool, started on demand."""

    def __init__(self, name: str, timeout: float) -> None:
        self._name, self._timeout = name, timeout
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        """None ends the threads."""
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._begun: dict[int, float] = {}
        """Monotonic time at which each busy thread started its work, by thread id."""
        self._finished = 0.0
        """Monotonic time at which work was last finished."""
        self._closed = False

    def submit(self, work: Callable[[], R], *, always: bool = False) -> Future[R]:
        """Queue `work`. Must be called from one thread only. If the pool hangs the future gets DeviceHangs.

        Work that is `always` run is queued nevertheless, and run at once after the pool is closed; other work then
        raises RuntimeError.
        """
        job = _Job(work, always=always)
        if self._closed:
            if not always:
                raise RuntimeError("no work is taken any more")
            job.run()()
            return job.future
        if not always and self.hangs():
            for each in (*self._take_waiting(), job):
                each.refuse(DeviceHangs())
            return job.future
        self._waiting.put(job)
        if not self._idle.acquire(blocking=False) and self._threads < _THREADS:
            self._threads += 1
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        return job.future

    def hangs(self) -> bool:
        """Whether work is running, and none has finished for too long."""
        begun = list(self._begun.values())
        return bool(begun) and time.monotonic() - max(self._finished, min(begun)) >= self._timeout

    def close(self) -> None:
        """Cancel waiting work, and end the threads after their current work."""
        self._closed = True
        for job in self._take_waiting():
            job.future.cancel()
        self._waiting.put(None)

    def _take_waiting(self) -> list[_Job]:
        """Remove and return the waiting work, except that which is always run."""
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
            set_result = job.run()
            self._finished = time.monotonic()
            del self._begun[me]
            set_result()
            del job, set_result


class PoolBatcher(Generic[W, R]):
    """Runs work of one kind in batches on the pools: many items at once cost less, and share one thread switch."""

    def __init__(
        self, pools: DevicePools, work: Callable[[Sequence[W]], Sequence[R | Exception]], *, width: int, most: int
    ) -> None:
        """`work` blocks and returns a result or an exception for each item, in their order.

        At most `width` threads of a pool run it at a time, with at most `most` items each.
        """
        self._pools, self._work, self._width, self._most = pools, work, width, most
        self._batchers: dict[str, Batcher[_Item[W, R]]] = {}

    def add(self, pool_name: str, item: W, done: Callable[[R | Exception], None]) -> None:
        """Queue `item`; `done` is called on the event loop with its result, which may be an exception."""
        batcher = self._batchers.get(pool_name)
        if batcher is None:
            batcher = Batcher(partial(self._flush, pool_name), width=self._width, most=self._most)
            self._batchers[pool_name] = batcher
        batcher.add((item, done))
        if self._pools.hangs(pool_name):
            asyncio.get_running_loop().call_soon(_finish, batcher.take_waiting(), DeviceHangs())

    async def run(self, pool_name: str, item: W) -> R:
        """Return the result of `item`, or raise it. A cancelled caller does not stop the work."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()

        def done(result: R | Exception) -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.add(pool_name, item, done)
        return await future

    def _flush(self, pool_name: str, batch: list[_Item[W, R]], finished: Finished) -> None:
        """Start to run a batch on a thread of the pool."""
        loop = asyncio.get_running_loop()

        def ended(job: Future[Sequence[R | Exception]]) -> None:
            try:
                loop.call_soon_threadsafe(self._end, pool_name, batch, finished, job)
            except RuntimeError:  # the loop is closed: no caller waits any more
                if not loop.is_closed():
                    raise

        try:
            job = self._pools.start(pool_name, lambda: self._work([item for item, _ in batch]))
        except RuntimeError as error:  # the pools are closed
            _finish(batch, error)
            finished()
        else:
            job.add_done_callback(ended)

    def _end(
        self,
        pool_name: str,
        batch: list[_Item[W, R]],
        finished: Finished,
        job: Future[Sequence[R | Exception]],
    ) -> None:
        if self._pools.hangs(pool_name):
            _finish(self._batchers[pool_name].take_waiting(), DeviceHangs())
        finished()  # before the results are delivered: the next batch starts without delay
        error = RuntimeError("no work is taken any more") if job.cancelled() else job.exception()
        if error is None:
            for (_, done), result in zip(batch, job.result(), strict=True):
                done(result)
        elif isinstance(error, Exception):
            _finish(batch, error)
        else:
            raise error


def _finish(batch: Sequence[_Item[W, R]], error: Exception) -> None:
    for _, done in batch:
        done(error)
