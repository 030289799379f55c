"""What the monitor's looks at a device mean: which state follows from which answer (docs/mogilefs.md 8.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tawara.model.cluster import Cluster, Device, DeviceState, Observation, Observed
from tawara.model.health import DiskHealth

WRITE_TEST_EVERY: Final = 30.0
"""Seconds between two test writes to a device that is well."""
ANXIOUS_FOR: Final = 60.0
"""Seconds for which all devices are looked at more often when one has gone, or returned."""
RECORD_EVERY: Final = 15
"""Seconds between two recordings of a device's usage that changed."""
RECORD_AT_LEAST_EVERY: Final = 60
"""Seconds between two recordings of a device's usage that did not change."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a device's usage file found."""

    usage: tuple[int, int] | None
    """MiB in all and used; None when there was no sensible answer."""
    health: DiskHealth | None = None
    """What the usage file says of the disk."""
    file_system: str | None = None
    disk: str | None = None
    """The ids of the file system and of the disk that the device is on, as far as the node tells."""
    trouble: str | None = None
    """Why the device cannot be used, for operators."""


def is_watched(cluster: Cluster, device: Device) -> bool:
    """Whether the monitor looks at the device at all: not if it, or its host, is configured as away
    (docs/mogilefs.md 8.1)."""
    return cluster.can_read_from(device.devid)


def may_be_tested(cluster: Cluster, device: Device) -> bool:
    """Whether a test file may be written to the device: if files on it may be deleted (docs/mogilefs.md 8.5)."""
    return cluster.can_delete_from(device.devid)


def wants_write_test(before: Observed | None, seconds_since: float | None) -> bool:
    """Whether it is time for a test write: by the clock, and at once on a device that was away."""
    return before in (None, Observed.UNREACHABLE) or seconds_since is None or seconds_since >= WRITE_TEST_EVERY


def is_anxious(cluster: Cluster, seconds_since_news: float) -> bool:
    """Whether to look at all devices, and sooner: one is not as it should be, and something has changed recently.

    One that has been away for long is looked at in every round; the others need not be on its account.
    """
    return seconds_since_news < ANXIOUS_FOR and not all_is_well(cluster)


def is_due(seen: Observation | None, place: int, number: int) -> bool:
    """Whether to look at a device in round `number`: in every second one if it is well, in every one if not.

    `place`: which of its host's devices it is. Neighbours take turns, so that each round sees something of every host
    with several devices.
    """
    return seen is None or seen.state is Observed.UNREACHABLE or (place + number) % 2 == 0


def judge(*, answered: bool, testable: bool, wrote: bool | None, before: Observed | None) -> Observed:
    """The state of a device of which the usage file was asked, and which was then written to (None: not this time)."""
    if not answered:
        return Observed.UNREACHABLE
    if not testable:
        return Observed.READABLE
    if wrote is None:
        return before or Observed.READABLE
    return Observed.WRITEABLE if wrote else Observed.READABLE


def worth_recording(device: Device, usage: tuple[int, int], now: int) -> bool:
    """Whether the device's row should be brought up to date. The row itself says when any monitor last did that."""
    if device.mb_asof is None or not now - RECORD_AT_LEAST_EVERY < device.mb_asof <= now + RECORD_EVERY:
        return True
    return usage != (device.mb_total, device.mb_used) and device.mb_asof <= now - RECORD_EVERY


def all_is_well(cluster: Cluster) -> bool:
    """Whether every device that should be writeable is: the monitor may then look less often."""
    return all(
        cluster.is_writeable(devid)
        for devid, device in cluster.devices.items()
        if device.state is DeviceState.ALIVE and may_be_tested(cluster, device)
    )
