"""Threads for work that blocks on a disk: a few for each device, so that a dying disk holds up nobody but itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from tawara.node.devices import Devices
from tawara.node.errors import NoSuchDevice
from tawara.node.paths import parse

P = ParamSpec("P")
R = TypeVar("R")

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

    def close(self) -> None:
        """Take no more work; what runs is finished in its own time."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def _pool(self, lane: str) -> ThreadPoolExecutor:
        pool = self._pools.get(lane)
        if pool is None:
            pool = self._pools[lane] = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"tawara-{lane}")
        return pool
