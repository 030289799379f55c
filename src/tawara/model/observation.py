"""Decides a device's observed state from the monitor's checks, and when to check it (docs/mogilefs.md 8.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tawara.model.cluster import Cluster, Device, DeviceState, Observation, Observed
from tawara.model.health import DiskHealth

WRITE_TEST_EVERY: Final = 30.0
"""Seconds between two write tests of a healthy device."""
FREQUENT_CHECK_SECONDS: Final = 60.0
"""Seconds for which all devices are checked more often after one has failed or returned."""
RECORD_EVERY: Final = 15
"""Seconds between two updates of a device's usage row if the usage changed."""
RECORD_AT_LEAST_EVERY: Final = 60
"""Seconds between two updates of a device's usage row if the usage did not change."""


@dataclass(frozen=True, slots=True)
class UsageResult:
    """Result of reading a device's usage file."""

    usage: tuple[int, int] | None
    """Total and used MiB; None without a valid reply."""
    health: DiskHealth | None = None
    """Disk health from the usage file."""
    file_system: str | None = None
    disk: str | None = None
    """Ids of the device's file system and disk, if reported by the node."""
    trouble: str | None = None
    """Reason why the device cannot be used, for operators."""


def is_watched(cluster: Cluster, device: Device) -> bool:
    """Whether the monitor checks the device; not if the device or its host is configured as down or dead
    (docs/mogilefs.md 8.1)."""
    return cluster.can_read_from(device.devid)


def may_be_tested(cluster: Cluster, device: Device) -> bool:
    """Whether the device may be write-tested: only if files on it may be deleted (docs/mogilefs.md 8.5)."""
    return cluster.can_delete_from(device.devid)


def wants_write_test(before: Observed | None, seconds_since: float | None) -> bool:
    """Whether a write test is due: periodically, and at once on a device that was unreachable."""
    return before in (None, Observed.UNREACHABLE) or seconds_since is None or seconds_since >= WRITE_TEST_EVERY


def needs_frequent_checks(cluster: Cluster, seconds_since_change: float) -> bool:
    """Whether to check all devices more often: one is not healthy, and a state has changed recently.

    A device that has been unreachable for long does not count; it is checked in every round anyway.
    """
    return seconds_since_change < FREQUENT_CHECK_SECONDS and not is_all_healthy(cluster)


def is_due(seen: Observation | None, place: int, number: int) -> bool:
    """Whether to check a device in round `number`: a healthy one in every second round, others in every round.

    `place`: index of the device on its host. Devices of a host alternate, so that each round checks every host with
    several devices.
    """
    return seen is None or seen.state is Observed.UNREACHABLE or (place + number) % 2 == 0


def judge(*, answered: bool, testable: bool, wrote: bool | None, before: Observed | None) -> Observed:
    """Return the state of a device after reading its usage file and a write test (`wrote` None: not tested)."""
    if not answered:
        return Observed.UNREACHABLE
    if not testable:
        return Observed.READABLE
    if wrote is None:
        return before or Observed.READABLE
    return Observed.WRITEABLE if wrote else Observed.READABLE


def worth_recording(device: Device, usage: tuple[int, int], now: int) -> bool:
    """Whether to update the device's row; the row has the time of the last update by any monitor."""
    if device.mb_asof is None or not now - RECORD_AT_LEAST_EVERY < device.mb_asof <= now + RECORD_EVERY:
        return True
    return usage != (device.mb_total, device.mb_used) and device.mb_asof <= now - RECORD_EVERY


def is_all_healthy(cluster: Cluster) -> bool:
    """Whether every device that should be writeable is, so that the monitor may check less often."""
    return all(
        cluster.is_writeable(devid)
        for devid, device in cluster.devices.items()
        if device.state is DeviceState.ALIVE and may_be_tested(cluster, device)
    )
