"""Which file system, on which disk, a directory is on."""

from __future__ import annotations

import os
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


def _unescape(field: str) -> str:
    return field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
