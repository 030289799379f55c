"""Selects the devices to drain because their disks report that they are failing."""

from __future__ import annotations

from typing import Final

from tawara.model.cluster import Cluster, DeviceState, HostState
from tawara.model.health import DiskVerdict

DRAIN_FAILING: Final = "tawara_drain_failing"
"""Setting: whether a device whose disk is failing is drained automatically."""
DRAINED_AT_ONCE: Final = 0.25
"""Largest share of the devices that may be drained for this: faulty firmware must not condemn all disks."""


def to_drain(cluster: Cluster) -> tuple[int, ...]:
    """Return the devices to drain now because their disks are failing; none unless the setting allows it.

    Never drains more than a quarter of the devices that accept, or accepted before the drain, new files, and never the
    last device that accepts files.
    """
    if cluster.settings.get(DRAIN_FAILING, "") not in ("1",):
        return ()
    failing = [
        devid
        for devid, device in sorted(cluster.devices.items())
        if device.state is DeviceState.ALIVE and _on_living_host(cluster, devid) and is_failing(cluster, devid)
    ]
    in_service = [
        devid
        for devid, device in cluster.devices.items()
        if device.state in (DeviceState.ALIVE, DeviceState.DRAIN) and _on_living_host(cluster, devid)
    ]
    drained = sum(cluster.devices[devid].state is DeviceState.DRAIN for devid in in_service)
    space = max(1, int(len(in_service) * DRAINED_AT_ONCE)) - drained
    chosen: list[int] = []
    for devid in failing[: max(0, space)]:
        if any(cluster.should_get_new_files(other) for other in cluster.devices if other not in (*chosen, devid)):
            chosen.append(devid)
    return tuple(chosen)


def is_failing(cluster: Cluster, devid: int) -> bool:
    """Whether the device's disk reports that it is failing."""
    seen = cluster.observed.get(devid)
    return seen is not None and seen.health is not None and seen.health.verdict is DiskVerdict.FAILING


def _on_living_host(cluster: Cluster, devid: int) -> bool:
    host = cluster.hosts.get(cluster.devices[devid].hostid)
    return host is not None and host.state is HostState.ALIVE
