"""Reads and writes this machine's devices directly, without a storage node, with a thread pool for each device.

Before nginx sends a file, it is checked on the device's thread: identity of the device, no symbolic links, length. A
device that does not answer in time is skipped until it does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from tawara import background
from tawara.disks import small_files
from tawara.disks.devices import Devices
from tawara.disks.file_assembly import FileAssembly, run_steps
from tawara.disks.pools import DevicePools, PoolBatcher
from tawara.disks.small_files import SmallFile
from tawara.model.errors import TawaraError
from tawara.model.node_errors import DeviceHangs, ForeignDisk, NoSuchDevice
from tawara.wire.assemble import Assembled, AssembleRequest

log = structlog.get_logger(__name__)

_LISTED_FOR: Final = 2.0
"""Seconds for which the list of devices in the document root is cached."""
_CHECKED_FOR: Final = 1.0
"""Seconds for which the size of a file is cached. A device that is replaced by another within that time is noticed
that much later. The check costs more than all else of a look-up: it changes to a thread of the device and back."""
_CHECKED: Final = 20_000
"""Most sizes that are cached."""
_AT_ONCE: Final = 64
"""Maximum files that one thread checks in one batch."""


class LocalDevices:
    """Checks files on this machine's devices, and stores files there. Close it once."""

    def __init__(self, devices: Devices, *, timeout: float, only_known: bool = False) -> None:
        """`timeout`: seconds that a check of a file may take. Needs a running event loop.

        `only_known`: devices without an identity in the database are not used, and nothing is written.
        """
        self._devices, self._timeout, self._only_known = devices, timeout, only_known
        # Writing has threads of its own: a disk that syncs slowly may still look up files quickly.
        self._looking, self._storing = DevicePools(devices, timeout=timeout), DevicePools(devices)
        self._looks: PoolBatcher[str, int] = PoolBatcher(
            self._looking, partial(_sizes, devices), width=4, most=_AT_ONCE
        )
        # As in the storage node: two batches at a time, one of which prepares while the other waits for the disk.
        self._small: PoolBatcher[SmallFile, None] = PoolBatcher(
            self._storing, partial(small_files.store, devices), width=2, most=_AT_ONCE
        )
        self._checked: dict[str, tuple[int, str | None, float]] = {}
        """Path -> size, identity of its device in the database, time until which both are cached."""
        self._names: frozenset[str] = frozenset()
        self._listed_at = -_LISTED_FOR
        self._listing: asyncio.Task[None] | None = None

    @property
    def docroot(self) -> Path:
        """The directory that contains the devices."""
        return self._devices.docroot

    async def has(self, devid: int) -> bool:
        """Return whether the document root lists the device."""
        if time.monotonic() - self._listed_at >= _LISTED_FOR:
            if self._listing is None or self._listing.done():
                self._listing = asyncio.create_task(self._list())
            await asyncio.wait([self._listing], timeout=self._timeout)
        return f"dev{devid}" in self._names

    @property
    def writeable(self) -> bool:
        """Whether files may be stored here."""
        return not self._only_known

    def cached_size(self, devid: int, path: str, identities: Mapping[int, str]) -> int | None:
        """Return what `size` would return without looking; None if it would look."""
        checked = self._checked.get(path)
        if checked is None or checked[1] != identities.get(devid) or time.monotonic() >= checked[2]:
            return None
        return checked[0]

    async def size(self, devid: int, path: str, identities: Mapping[int, str]) -> int:
        """Return the bytes of a file on `devid`, whose identity must be the one in `identities`; may be a second old.

        Raises NoSuchDevice, NoSuchFile, DeviceHangs, ForeignDisk, IdentityLost, DeviceFailed.
        """
        if (cached := self.cached_size(devid, path, identities)) is not None:
            return cached
        known = identities.get(devid)
        if known is None and self._only_known:
            raise NoSuchDevice
        # Not asyncio.timeout(), which needs a task: the gateway calls this outside of one, too.
        looking = asyncio.ensure_future(self._looks.run(f"dev{devid}", path))
        done, _ = await asyncio.wait([looking], timeout=self._timeout)
        if not done:
            looking.cancel()
            raise DeviceHangs
        size = looking.result()
        if known is not None and self._devices.identities.id_of(f"dev{devid}") != known:
            raise ForeignDisk
        if len(self._checked) >= _CHECKED:
            self._checked.clear()
        self._checked[path] = (size, known, time.monotonic() + _CHECKED_FOR)
        return size

    async def store(self, devid: int, path: str, source: Path, *, link: bool) -> None:
        """Store the finished file `source` on a device, durably; see `Devices.adopt`."""
        device = f"dev{devid}"
        steps = self._devices.adopt(path, source, link=link)
        try:
            while await self._storing.run(device, next, steps, None) is not None:
                pass
        finally:
            await self._storing.clean_up(device, steps.close)

    async def store_small(self, devid: int, path: str, body: bytes) -> None:
        """Store a small body on a device, durably, together with others that arrive at the same time."""
        await self._small.run(f"dev{devid}", SmallFile(path, body))

    async def assemble(self, devid: int, path: str, request: AssembleRequest) -> Assembled:
        """Make a file from ranges of fids on the same device, durably; see `disks.file_assembly`.

        Raises SourceMissing, SourceTooShort, OtherContent, DeviceFull and other errors of a device.
        """
        return await run_steps(FileAssembly(self._devices, path, request), self._storing, f"dev{devid}")

    async def close(self) -> None:
        """Accept no further work."""
        if self._listing is not None:
            await background.end([self._listing])
        self._looking.close()
        self._storing.close()

    async def _list(self) -> None:
        try:
            self._names = frozenset(await self._looking.run(DevicePools.ANY, self._devices.names))
        except TawaraError as error:
            log.warning("device_list_failed", docroot=str(self.docroot), reason=str(error.__cause__ or error))
        self._listed_at = time.monotonic()


def _sizes(devices: Devices, paths: Sequence[str]) -> list[int | Exception]:
    """Return the length of each file in bytes, or the error that prevents reading it. Blocks."""
    found: list[int | Exception] = []
    for path in paths:
        try:
            found.append(devices.size(path))
        except TawaraError as error:
            found.append(error)
    return found
