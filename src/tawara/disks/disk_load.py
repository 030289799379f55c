"""How busy the disks are, as iostat's %util says it, from /proc/diskstats (kernel: admin-guide/iostats)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tawara.disks.mounts import DiskNumber, mount_of, mounted

_DISKSTATS: Final = Path("/proc/diskstats")
_IO_TICKS: Final = 12
"""Column of the milliseconds in which the disk had something to do."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Milliseconds that each disk has been busy since the start of the machine, at monotonic second `at`."""

    at: float
    busy: Mapping[DiskNumber, int]


def parse(diskstats: str) -> dict[DiskNumber, int]:
    """Busy milliseconds by disk, from the text of /proc/diskstats."""
    found = {}
    for line in diskstats.splitlines():
        columns = line.split()
        if len(columns) > _IO_TICKS:
            found[int(columns[0]), int(columns[1])] = int(columns[_IO_TICKS])
    return found


def percent(before: Sample, after: Sample, disk: DiskNumber | None) -> float | None:
    """Part of the time between two samples in which `disk` was busy, 0 to 100; None when that is not known."""
    if disk is None or disk not in before.busy or disk not in after.busy or after.at <= before.at:
        return None
    # The counter has 32 bits on some kernels and wraps; a disk that was pulled out and put back starts at 0.
    busy = max(0, after.busy[disk] - before.busy[disk])
    return min(100.0, busy / (after.at - before.at) / 10)


def sample() -> Sample:
    """Read the counters now. Raises OSError where the system has none."""
    return Sample(time.monotonic(), parse(_DISKSTATS.read_text()))


def disk_of(place: Path) -> DiskNumber | None:
    """The whole disk under the device at `place`; None where there is none, as for network file systems. Blocks.

    Raises OSError.
    """
    number = place.stat().st_dev
    disk = os.major(number), os.minor(number)
    if disk[0] == 0:  # btrfs and the like number themselves; their source is a disk
        source = Path(mount_of(place, mounted()).source)
        if source.is_block_device():
            number = source.stat().st_rdev
            disk = os.major(number), os.minor(number)
    return _whole(disk) if disk[0] else None


def _whole(disk: DiskNumber) -> DiskNumber:
    """The disk of which `disk` is a partition, or itself."""
    place = Path(f"/sys/dev/block/{disk[0]}:{disk[1]}")
    if not (place / "partition").exists():
        return disk
    major, _, minor = (place.resolve().parent / "dev").read_text().strip().partition(":")
    return int(major), int(minor)
