"""Finds the file system and the disks that a directory is on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DiskNumber = tuple[int, int]
"""Major and minor number of a block device."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system: its number, `source` (`/dev/sda1`) and the directory `point` where it is mounted."""

    number: DiskNumber
    source: str
    point: str


def parse_mounts(mountinfo: str) -> list[Mount]:
    """What is mounted, from the text of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(rest) < 2:
            continue
        major, _, minor = fields[2].partition(":")
        found.append(Mount((int(major), int(minor)), _unescape(rest[1]), _unescape(fields[4])))
    return found


def mounted() -> list[Mount]:
    """What is mounted now."""
    return parse_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))


def mount_of(place: Path, mounts: Iterable[Mount]) -> Mount:
    """The mount that `place` is on: a file system may be mounted more than once, in part too."""
    real = place.resolve()
    number = real.stat().st_dev
    disk = os.major(number), os.minor(number)
    fitting = [each for each in mounts if each.number == disk and real.is_relative_to(each.point)]
    return max(fitting, key=lambda each: len(each.point), default=Mount(disk, "-", str(place)))


def disks_behind(mount: Mount, sys: Path = Path("/sys")) -> list[str]:
    """The names of the whole disks that a file system lies on (`sda`, `nvme0n1`); none if it is on no disk."""
    number = mount.number
    if number[0] == 0:  # a file system of several disks, or of none, has a number of its own
        with contextlib.suppress(OSError):
            source = Path(mount.source).stat()
            if stat.S_ISBLK(source.st_mode):
                number = os.major(source.st_rdev), os.minor(source.st_rdev)
    block = sys / "dev" / "block" / f"{number[0]}:{number[1]}"
    return sorted(set(_whole(block.resolve()))) if block.exists() else []


def _whole(block: Path) -> list[str]:
    slaves = block / "slaves"
    below = sorted(slaves.iterdir()) if slaves.is_dir() else []
    if below:
        return [name for each in below for name in _whole(each.resolve())]
    return [block.parent.name if (block / "partition").exists() else block.name]


@dataclass(frozen=True, slots=True)
class MountIds:
    """Ids, which no other machine has, of the file system and of the disk that a mount is on."""

    file_system: str
    """Devices of one id share their space."""
    disk: str
    """Devices of one id are lost together."""


def place_of(mount: Mount, boot: str, sys: Path = Path("/sys")) -> MountIds:
    """Where a mount is.

    A file system on no disk, or on several, counts as a disk of its own. `boot` is the id of the running kernel: the
    numbers of devices mean something until the next one.
    """
    own = mount.source if mount.number[0] == 0 and mount.source.startswith("/") else f"{mount.number}"
    disks = disks_behind(mount, sys)
    return MountIds(_id(boot, "file system", own), _id(boot, "disk", disks[0] if len(disks) == 1 else own))


def running_kernel() -> str:
    """Return the boot id of the running kernel, which changes at each boot; empty if unknown."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def _unescape(field: str) -> str:
    return field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
