"""Computes disk utilization, like iostat's %util, from /proc/diskstats (kernel: admin-guide/iostats)."""

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
"""Column of the milliseconds during which the disk was busy."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Busy milliseconds of each disk since boot, at monotonic second `at`."""

    at: float
    busy: Mapping[DiskNumber, int]


def parse(diskstats: str) -> dict[DiskNumber, int]:
    """Parse /proc/diskstats into busy milliseconds by disk."""
    found = {}
    for line in diskstats.splitlines():
        columns = line.split()
        if len(columns) > _IO_TICKS:
            found[int(columns[0]), int(columns[1])] = int(columns[_IO_TICKS])
    return found


def percent(before: Sample, after: Sample, disk: DiskNumber | None) -> float | None:
    """Return the percentage of time that `disk` was busy between two samples; None if unknown."""
    if disk is None or disk not in before.busy or disk not in after.busy or after.at <= before.at:
        return None
    # The counter has 32 bits on some kernels and wraps; a disk that was replugged starts at 0.
    busy = max(0, after.busy[disk] - before.busy[disk])
    return min(100.0, busy / (after.at - before.at) / 10)


def sample() -> Sample:
    """Read the counters. Raises OSError if the system has none."""
    return Sample(time.monotonic(), parse(_DISKSTATS.read_text()))


def disk_of(place: Path) -> DiskNumber | None:
    """Return the whole disk of the device at `place`; None without one, as on network file systems. Blocks.

    Raises OSError.
    """
    number = place.stat().st_dev
    disk = os.major(number), os.minor(number)
    if disk[0] == 0:  # btrfs and others have their own numbers; their source is a disk
        source = Path(mount_of(place, mounted()).source)
        if source.is_block_device():
            number = source.stat().st_rdev
            disk = os.major(number), os.minor(number)
    return _whole(disk) if disk[0] else None


def _whole(disk: DiskNumber) -> DiskNumber:
    """Return the disk that has the partition `disk`, or `disk` itself."""
    place = Path(f"/sys/dev/block/{disk[0]}:{disk[1]}")
    if not (place / "partition").exists():
        return disk
    major, _, minor = (place.resolve().parent / "dev").read_text().strip().partition(":")
    return int(major), int(minor)
