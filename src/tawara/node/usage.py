"""The file `/devN/usage`, by which trackers know how full a device is (reference: section 18.2)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import structlog

from tawara.model.errors import TawaraError
from tawara.node.devices import Devices, Usage
from tawara.node.errors import as_node_errors
from tawara.node.mounts import Mount, mount_of, parse_mounts
from tawara.node.paths import INCOMING, USAGE

log = structlog.get_logger(__name__)

PERIOD = 10.0
"""Seconds between two writings."""


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
