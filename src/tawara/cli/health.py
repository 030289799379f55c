"""What is wrong with a cluster: a pure judgement of what its trackers tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tawara.client.answers import DeviceInfo
from tawara.model.cluster import DeviceState, Host, HostState, Observed

FULL: Final = 0.95
"""Share of a device that may be used before it is worth a word."""


def problems(trackers: Mapping[str, str | None], hosts: Sequence[Host], devices: Sequence[DeviceInfo]) -> list[str]:
    """One sentence for each thing that is not as it should be. `trackers`: address -> what is wrong with it, or None.

    What people have taken out of service (dead devices, and what is in hosts that are not alive) is said once.
    """
    found = [f"Tracker {address}: {trouble}" for address, trouble in trackers.items() if trouble]
    by_id = {host.hostid: host for host in hosts}
    found += [f"Host {host.name} is {host.state}" for host in hosts if host.state is not HostState.ALIVE]
    for device in devices:
        host = by_id.get(device.hostid)
        if host is None or host.state is not HostState.ALIVE:
            continue
        trouble = _trouble(device)
        if trouble:
            found.append(f"Device dev{device.devid} on {host.name} {trouble}")
    if not any(_takes_files(device, by_id) for device in devices):
        found.append("No device takes new files")
    return found


def _trouble(device: DeviceInfo) -> str | None:
    if device.state is not DeviceState.ALIVE:
        return f"is {device.state}"
    if device.observed is None:
        return "has not been looked at yet"
    if device.observed is not Observed.WRITEABLE:
        return f"is alive, but {device.observed}"
    used = used_share(device)
    return f"is {used:.0%} full" if used is not None and used >= FULL else None


def _takes_files(device: DeviceInfo, hosts: Mapping[int, Host]) -> bool:
    host = hosts.get(device.hostid)
    return (
        host is not None
        and host.state is HostState.ALIVE
        and device.state is DeviceState.ALIVE
        and device.observed is Observed.WRITEABLE
    )


def used_share(device: DeviceInfo) -> float | None:
    """The used share of a device, 0.0 to 1.0; None if it is not known."""
    if not device.mb_total or device.mb_used is None:
        return None
    return min(1.0, device.mb_used / device.mb_total)
