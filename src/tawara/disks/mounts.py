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
    """Parse the text of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
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
    """Return the current mounts."""
    return parse_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))


def mount_of(place: Path, mounts: Iterable[Mount]) -> Mount:
    """Return the mount that `place` is on; a file system may be mounted several times, also in part."""
    real = place.resolve()
    number = real.stat().st_dev
    disk = os.major(number), os.minor(number)
    fitting = [each for each in mounts if each.number == disk and real.is_relative_to(each.point)]
    return max(fitting, key=lambda each: len(each.point), default=Mount(disk, "-", str(place)))


def disks_behind(mount: Mount, sys: Path = Path("/sys")) -> list[str]:
    """Return the names of the whole disks of a file system (`sda`, `nvme0n1`); empty without a disk."""
    number = mount.number
    if number[0] == 0:  # a file system on several disks, or on none, has its own number
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
    """Globally unique ids of the file system and the disk of a mount."""

    file_system: str
    """Id of the file system; devices with the same id share their space."""
    disk: str
    """Id of the disk; devices with the same id are lost together."""


def place_of(mount: Mount, boot: str, sys: Path = Path("/sys")) -> MountIds:
    """Return the ids of a mount's file system and disk.

    A file system on no disk, or on several, counts as its own disk. `boot` is the boot id of the kernel: device numbers
    are valid until the next boot.
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
