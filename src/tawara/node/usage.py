"""The file `/devN/usage`, by which trackers know how full a device is (reference: section 18.2)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from tawara.model.errors import TawaraError
from tawara.node.devices import Devices, Usage
from tawara.node.errors import as_node_errors
from tawara.node.paths import INCOMING, USAGE

log = structlog.get_logger(__name__)

DiskNumber = tuple[int, int]
"""Major and minor number of a block device."""

PERIOD = 10.0
"""Seconds between two writings."""


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


def mount_of(place: Path, mounts: Iterable[Mount]) -> Mount:
    """The mount that `place` is on: a file system may be mounted more than once, in part too."""
    real = place.resolve()
    number = real.stat().st_dev
    disk = os.major(number), os.minor(number)
    fitting = [each for each in mounts if each.number == disk and real.is_relative_to(each.point)]
    return max(fitting, key=lambda each: len(each.point), default=Mount(disk, "-", str(place)))


def render(usage: Usage, mount: Mount, now: int) -> str:
    """The lines of the file, sorted by name; sizes in KiB, `use` rounded up as df does."""
    facts = {
        "available": usage.available,
        "device": mount.source,
        "disk": mount.point,
        "time": now,
        "total": usage.total,
        "use": f"{-(-100 * usage.used // usage.total)}%",
        "used": usage.used,
    }
    return "".join(f"{name}: {value}\n" for name, value in sorted(facts.items()))


def write(devices: Devices, device: str, mounts: Iterable[Mount], now: int) -> None:
    """Write the usage file of one device, whole. Not synced: after a power cut the next one is seconds away."""
    place = devices.docroot / device
    usage = devices.usage(device)
    with as_node_errors():
        mount = mount_of(place, mounts)
        temporary = place / INCOMING / f"{USAGE}.{os.getpid()}"
        temporary.parent.mkdir(0o700, exist_ok=True)
        temporary.write_text(render(usage, mount, now))
        temporary.rename(place / USAGE)


def write_all(devices: Devices, names: Iterable[str]) -> None:
    """Write the usage files of `names`; a device that fails is reported, and keeps its old file for monitors to see."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        mounts = parse_mounts(lines.read())
    for device in names:
        try:
            write(devices, device, mounts, int(time.time()))
        except TawaraError as error:
            log.warning("usage not written", device=device, reason=str(error.__cause__ or error))


def _unescape(field: str) -> str:
    return field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
