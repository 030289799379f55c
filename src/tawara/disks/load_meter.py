"""Measures disk load about once a second, once for all watchers, and only while there are any."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from tawara.disks import disk_load
from tawara.disks.devices import Devices
from tawara.disks.mounts import DiskNumber
from tawara.disks.pools import DevicePools
from tawara.disks.rounds import DeviceRounds
from tawara.model.errors import TawaraError
from tawara.wire import side_channel as wire

_PERIOD: Final = 1.0
"""Seconds between two measurements."""
_REMEMBERED: Final = 30.0
"""Seconds for which the disks of the devices are cached."""
_TIMEOUT: Final = 0.5
"""Seconds to wait for the disks of the devices to be determined; the load of slower devices is unknown."""


class LoadMeter:
    """Measures while a caller waits for `next`."""

    def __init__(self, devices: Devices, pools: DevicePools) -> None:
        self._devices, self._pools = devices, pools
        self._before: disk_load.Sample | None = None
        self._disks: dict[int, DiskNumber | None] = {}
        self._rounds = DeviceRounds(devices, pools, self._disk_of, timeout=_TIMEOUT)
        self._looked_at = -_REMEMBERED
        self._measuring: asyncio.Task[bytes] | None = None

    async def works(self) -> bool:
        """Whether this system reports the load of any of the disks."""
        try:
            await self._look()
        except (OSError, TawaraError):
            return False
        return any(self._disks.values())

    async def next(self) -> bytes:
        """Return the lines of the next measurement, shared by all waiting callers. Raises OSError."""
        if self._measuring is None or self._measuring.done():
            self._measuring = asyncio.create_task(self._measure())
        return await asyncio.shield(self._measuring)

    async def close(self) -> None:
        """Stop measuring."""
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.wait([self._measuring])
        await self._rounds.stop()

    async def _measure(self) -> bytes:
        if self._before is None or time.monotonic() - self._before.at > 2 * _PERIOD:
            self._before = await self._look()
        await asyncio.sleep(_PERIOD)
        before, self._before = self._before, await self._look()
        busy = {devid: disk_load.percent(before, self._before, disk) for devid, disk in self._disks.items()}
        return wire.load(busy)

    async def _look(self) -> disk_load.Sample:
        if time.monotonic() - self._looked_at > _REMEMBERED:
            found = await self._rounds.round()
            known = {device: disk for device, disk in found.items() if not isinstance(disk, BaseException)}
            self._disks = {int(device[3:]): known.get(device) for device in known.keys() | self._rounds.unfinished}
            self._looked_at = time.monotonic()
        # Reading the counters does not block on a disk. Using a thread would wake three threads each second, not one.
        return disk_load.sample()

    async def _disk_of(self, device: str) -> DiskNumber | None:
        return await self._pools.run(device, disk_load.disk_of, self._devices.docroot / device)
