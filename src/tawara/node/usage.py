"""Writes the file `/devN/usage`, from which monitors read a device's free space (docs/mogilefs.md 18.2)."""

from __future__ import annotations

import os

from tawara.disks.devices import Devices, DiskUsage
from tawara.disks.disk_health import published
from tawara.disks.mounts import Mount, MountIds, mount_of, mounted, place_of, running_kernel
from tawara.disks.paths import INCOMING, USAGE
from tawara.model.node_errors import as_node_errors

PERIOD = 10.0
"""Seconds between two writings."""


def render(usage: DiskUsage, mount: Mount, place: MountIds, now: int, health: str = "") -> str:
    """The lines of the file, sorted by name; sizes in KiB, `use` rounded up as df does. Those of `health` come last."""
    facts: dict[str, int | str] = {
        "available": usage.available,
        "device": mount.source,
        "disk": mount.point,
        "time": now,
        "total": usage.total,
        "file_system": place.file_system,
        "whole_disk": place.disk,
        "use": f"{-(-100 * usage.used // usage.total)}%",
        "used": usage.used,
        "holds": "files" if usage.holds_files else "nothing",
    }
    if usage.identity is not None:
        facts["identity"] = usage.identity
    return "".join(f"{name}: {value}\n" for name, value in sorted(facts.items())) + health


def write(devices: Devices, device: str, now: int) -> DiskUsage:
    """Write the usage file of one device, whole, and return its usage.

    Not synced: after a power cut the next one is seconds away.

    Raises what `Devices.usage` raises.
    """
    place = devices.docroot / device
    usage = devices.usage(device)
    with as_node_errors():
        mount = mount_of(place, mounted())
        temporary = place / INCOMING / f"{USAGE}.{os.getpid()}"
        temporary.parent.mkdir(0o700, exist_ok=True)
        where = place_of(mount, running_kernel())
        temporary.write_text(render(usage, mount, where, now, published(place)))
        temporary.rename(place / USAGE)
    return usage
