"""Reads each disk's SMART health periodically and stores it in the device's `health` file.

If smartctl is installed, it is run with a time limit on the disks of the device's file system (found through
partitions, device mapper and RAID). The result is stored in the device's file `health`, so that it survives a restart
and several processes of one node query a disk once. Its lines are repeated in the usage file for monitors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
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
CHECK_PERIOD: Final = 30.0
"""Seconds between two checks for due disks and new devices."""
TIMEOUT: Final = 20.0
"""Seconds that smartctl may take."""
_PLACES: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where to look for smartctl if it is not in PATH, as for users other than root."""
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
    """Start a process; if cancelled meanwhile, kill it. Raises OSError."""
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
    """Kill a process and its children. A process stuck in the kernel is abandoned."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await process.communicate()


def published(device: Path) -> str:
    """Return the last written health lines of a device's disk; empty if missing or outdated."""
    try:
        text = (device / HEALTH).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = read_lines(text)
    if found is None or found.checked_at is None or time.time() - found.checked_at > 3 * PERIOD:
        return ""
    return found.lines()


def read_lines(text: str) -> DiskHealth | None:
    """Parse the text of a `health` file."""
    pairs = (line.partition(":") for line in text.splitlines())
    return DiskHealth.read({name.strip(): value.strip() for name, _, value in pairs})


class DiskHealthWatch:
    """Queries the health of all disks. Start and stop it once. A hanging disk does not delay the others."""

    def __init__(self, devices: Devices, pools: DevicePools, *, period: float = PERIOD) -> None:
        self._devices, self._pools = devices, pools
        self._period = period
        self._watching = Background("disk health")
        self._rounds = DeviceRounds(devices, pools, self._check_device, timeout=TIMEOUT + 1)
        self._attempted: dict[str, float] = {}
        """By device: monotonic time of the last query of its disk, successful or not."""
        self._asked: dict[str, asyncio.Task[DiskHealth]] = {}
        """By disk: its last query, shared by all devices on the disk."""

    def start(self) -> None:
        """Start watching."""
        self._watching.start(self._run())

    async def stop(self) -> None:
        """Stop; a running smartctl is killed."""
        await self._watching.stop()
        await self._rounds.stop()
        await background.end(self._asked.values())

    async def _run(self) -> None:
        while True:
            await self._check_devices()
            await asyncio.sleep(CHECK_PERIOD)

    async def _check_devices(self) -> None:
        try:
            found = await self._rounds.round()
        except TawaraError as error:
            log.warning("disk_health_unknown", reason=str(error.__cause__ or error))
            return
        for device, failure in found.items():
            if failure is not None:
                log.warning("disk_health_unknown", devid=int(device[3:]), reason=str(failure.__cause__ or failure))

    async def _check_device(self, device: str) -> None:
        """Query the disks of a device if due, and store the result. Raises DeviceHangs."""
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
            log.log(
                logging.WARNING if health.verdict is DiskVerdict.FAILING else logging.DEBUG,
                "disk_health_checked",
                devid=int(device[3:]),
                disks=disks,
                health=health.verdict.value,
                detail=health.detail,
            )

    async def _ask(self, disk: str) -> DiskHealth:
        """Query a disk, or wait for the result of a recent query."""
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
    return time.time() - (asked.result().checked_at or 0) < CHECK_PERIOD


def _disks_of(place: Path) -> list[str]:
    return disks_behind(mount_of(place, mounted()))


def _write(place: Path, health: DiskHealth) -> None:
    """Write the file atomically. Not synced: lost data is queried again."""
    temporary = place / INCOMING / f"{HEALTH}.{os.getpid()}"
    with contextlib.suppress(OSError):  # a disk that cannot be written is reported elsewhere
        temporary.parent.mkdir(0o700, exist_ok=True)
        temporary.write_text(health.lines(), encoding="utf-8")
        temporary.rename(place / HEALTH)
