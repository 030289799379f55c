"""Reads each disk's SMART health periodically and stores it in the device's `health` file.

smartctl is run where it is installed, on the disks behind the file system that the device is on (through partitions,
device mapper and RAID), with a time limit. The answer stands in the device's file `health`, so that it outlives the
process, and several processes of one node ask once; its lines are repeated in the usage file, where monitors see them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from tawara import background
from tawara.background import Background
from tawara.disks.devices import Devices
from tawara.disks.mounts import disks_behind, mount_of, mounted
from tawara.disks.paths import HEALTH, INCOMING
from tawara.disks.pools import DevicePools
from tawara.disks.rounds import DeviceRounds
from tawara.model.errors import TawaraError
from tawara.model.health import DiskHealth, DiskVerdict, worst
from tawara.wire import smartctl

log = structlog.get_logger(__name__)

PERIOD: Final = 1800.0
"""Seconds between two queries of a disk."""
LOOK_EVERY: Final = 30.0
"""Seconds between two checks for due disks and new devices."""
TIMEOUT: Final = 20.0
"""Seconds that smartctl may take."""
_PLACES: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where smartctl is if the path of those who are not root does not lead there."""
_LIMIT: Final = 1024 * 1024


async def ask(disk: str, *, now: Callable[[], float] = time.time, timeout: float = TIMEOUT) -> DiskHealth:
    """Run smartctl for one disk."""
    program = await asyncio.to_thread(_smartctl)
    if program is None:
        return DiskHealth(DiskVerdict.UNKNOWN, detail="smartctl is not installed", checked_at=int(now()))
    try:
        process = await _start(program, "--json", "-H", "-A", f"/dev/{disk}")
    except OSError as error:
        return DiskHealth(DiskVerdict.UNKNOWN, detail=f"smartctl: {error.strerror}", checked_at=int(now()))
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
    except TimeoutError:
        return DiskHealth(DiskVerdict.UNKNOWN, detail=f"smartctl took longer than {timeout:g} s", checked_at=int(now()))
    finally:
        if process.returncode is None:
            await _end(process)
    return smartctl.read(output, int(now()))


def _smartctl() -> str | None:
    return shutil.which("smartctl") or shutil.which("smartctl", path=_PLACES)


async def _start(*command: str) -> asyncio.subprocess.Process:
    """Start it; one that has just begun when this is cancelled is ended, too. Raises OSError."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LIMIT,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await starting)
        raise


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it, and what it has started. One that the kernel does not let go of is left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await process.communicate()


def published(device: Path) -> str:
    """The lines about a device's disk as they were last written; nothing if there are none, or they are old."""
    try:
        text = (device / HEALTH).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = read_lines(text)
    if found is None or found.checked_at is None or time.time() - found.checked_at > 3 * PERIOD:
        return ""
    return found.lines()


def read_lines(text: str) -> DiskHealth | None:
    """A `health` file's text."""
    pairs = (line.partition(":") for line in text.splitlines())
    return DiskHealth.read({name.strip(): value.strip() for name, _, value in pairs})


class DiskHealthWatch:
    """Watches the health of all disks. Start and stop it once. A hanging disk does not delay the others."""

    def __init__(self, devices: Devices, pools: DevicePools, *, period: float = PERIOD) -> None:
        self._devices, self._pools = devices, pools
        self._period = period
        self._watching = Background("disk health")
        self._rounds = DeviceRounds(devices, pools, self._look_at, timeout=TIMEOUT + 1)
        self._attempted: dict[str, float] = {}
        """By device: when its disk was last asked, by the monotonic clock, whatever came of it."""
        self._asked: dict[str, asyncio.Task[DiskHealth]] = {}
        """By disk: the last question to it, for all devices that are on it."""

    def start(self) -> None:
        """Start watching."""
        self._watching.start(self._keep())

    async def stop(self) -> None:
        """Stop; a running smartctl is killed."""
        await self._watching.stop()
        await self._rounds.stop()
        await background.end(self._asked.values())

    async def _keep(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self) -> None:
        try:
            found = await self._rounds.round()
        except TawaraError as error:
            log.warning("disk_health_unknown", reason=str(error.__cause__ or error))
            return
        for device, failure in found.items():
            if failure is not None:
                log.warning("disk_health_unknown", devid=int(device[3:]), reason=str(failure.__cause__ or failure))

    async def _look_at(self, device: str) -> None:
        """Ask the disks behind a device, if it is time to, and write down what they say. Raises DeviceHangs."""
        place = self._devices.docroot / device
        last = self._attempted.get(device)
        if last is not None and time.monotonic() - last < self._period:
            return
        if not await self._pools.run(device, self._due, place):
            return
        self._attempted[device] = time.monotonic()
        disks = await self._pools.run(device, _disks_of, place)
        health = worst([await self._ask(disk) for disk in disks])
        if health is not None:
            await self._pools.run(device, _write, place, health)
            say = log.warning if health.verdict is DiskVerdict.FAILING else log.debug
            say(
                "disk_health_checked",
                devid=int(device[3:]),
                disks=disks,
                health=health.verdict.value,
                detail=health.detail,
            )

    async def _ask(self, disk: str) -> DiskHealth:
        """Ask a disk, or wait for the answer to the last question, if that was a moment ago."""
        asked = self._asked.get(disk)
        if asked is None or (asked.done() and not _fresh(asked)):
            asked = self._asked[disk] = asyncio.create_task(ask(disk))
        return await asyncio.shield(asked)

    def _due(self, place: Path) -> bool:
        try:
            found = read_lines((place / HEALTH).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return True
        return found is None or found.checked_at is None or not 0 <= time.time() - found.checked_at < self._period


def _fresh(asked: asyncio.Task[DiskHealth]) -> bool:
    if asked.cancelled() or asked.exception() is not None:
        return False
    return time.time() - (asked.result().checked_at or 0) < LOOK_EVERY


def _disks_of(place: Path) -> list[str]:
    return disks_behind(mount_of(place, mounted()))


def _write(place: Path, health: DiskHealth) -> None:
    """Write the file whole. Not synced: what is lost is asked again."""
    temporary = place / INCOMING / f"{HEALTH}.{os.getpid()}"
    with contextlib.suppress(OSError):  # a disk that cannot be written says so elsewhere
        temporary.parent.mkdir(0o700, exist_ok=True)
        temporary.write_text(health.lines(), encoding="utf-8")
        temporary.rename(place / HEALTH)
