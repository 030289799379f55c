"""Runs periodic work on all devices concurrently, so that a hanging device does not delay the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from tawara.disks.devices import Devices
from tawara.disks.pools import DevicePools

R = TypeVar("R")


class DeviceRounds(Generic[R]):
    """Runs one piece of work per device and round. A device whose last piece still runs is skipped."""

    def __init__(
        self, devices: Devices, pools: DevicePools, work: Callable[[str], Awaitable[R]], *, timeout: float | None
    ) -> None:
        """`work` receives a device's name; a round waits for all, at most `timeout` seconds."""
        self._devices, self._pools, self._work, self._timeout = devices, pools, work, timeout
        self._running: dict[str, asyncio.Future[R]] = {}

    async def round(self) -> dict[str, R | BaseException]:
        """Run one round; return by device the results or exceptions finished since the last. Raises DeviceFailed."""
        for device in await self._pools.run(DevicePools.ANY, self._devices.names):
            if device not in self._running:
                self._running[device] = asyncio.ensure_future(self._work(device))
        if self._running:
            await asyncio.wait(self._running.values(), timeout=self._timeout)
        finished = {device: job for device, job in self._running.items() if job.done()}
        for device in finished:
            del self._running[device]
        return {device: job.exception() or job.result() for device, job in finished.items() if not job.cancelled()}

    @property
    def unfinished(self) -> set[str]:
        """Devices whose work still runs."""
        return set(self._running)

    async def stop(self) -> None:
        """Cancel running work and wait half a second for its end; a hanging thread cannot be ended."""
        for job in self._running.values():
            job.cancel()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=0.5)
        self._running.clear()
