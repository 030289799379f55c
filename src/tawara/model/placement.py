"""Chooses the devices for a new file, and the order in which a file's replicas are read (docs/mogilefs.md 9).

All decisions depend on one `Cluster` and a `random.Random` only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import log
from operator import itemgetter
from random import Random
from typing import TypeVar

from tawara.model.cluster import Cluster, Device, DeviceState, Host
from tawara.model.errors import NoDevices
from tawara.model.limits import DESTINATIONS
from tawara.model.zones import Zones

T = TypeVar("T")

EMPTIEST_COUNT = 20
"""Number of the emptiest devices that new files are distributed to."""


_time = itemgetter(0)


def weighted_shuffle(weighted: Iterable[tuple[T, float]], rng: Random) -> list[T]:
    """Shuffle items with a probability proportional to their weight; items of weight 0 or less are left out.

    Each item gets an exponentially distributed time with its weight as the rate. Sorting by this time gives the same
    distribution as drawing the items one by one.
    """
    draw = rng.random
    arrivals = [(-log(1.0 - draw()) / weight, item) for item, weight in weighted if weight > 0]
    arrivals.sort(key=_time)
    return [item for _, item in arrivals]


# --- writing ----------------------------------------------------------------------------------------------------------


def spread_over_hosts(devices: Iterable[Device], count: int) -> list[Device]:
    """Return the first `count` devices, one of each host before a second of any."""
    first: list[Device] = []
    others: list[Device] = []
    used: set[int] = set()
    for device in devices:
        (others if device.hostid in used else first).append(device)
        used.add(device.hostid)
    return [*first, *others][:count]


def choose_destinations(
    cluster: Cluster,
    rng: Random,
    *,
    count: int = DESTINATIONS,
    size: int | None = None,
    preferred: Collection[int] = (),
) -> tuple[int, ...]:
    """Return up to `count` devices for a new file, best first (docs/mogilefs.md 9.1). Raises NoDevices.

    With `size` (bytes) only devices with more free space are used. Devices of unknown size are the last resort. Those
    of the `preferred` devices that can take the file come first: they hold what it is made of.
    """
    free = cluster.free_bytes
    first = _accepting_among(cluster, preferred, size)
    with_space = (each for each in cluster.accepting if each.mb_total and (size is None or free[each.devid] > size))
    freest = [(each, each.percent_free) for each in islice(with_space, EMPTIEST_COUNT)]
    unknown = cluster.accepting_of_unknown_size
    order = weighted_shuffle(freest, rng) or weighted_shuffle([(each, 1) for each in unknown], rng)
    if not order and not first:
        raise NoDevices
    rng.shuffle(first)
    others = [device for device in order if device.devid not in preferred]
    return tuple(device.devid for device in [*first, *spread_over_hosts(others, count)][:count])


def _accepting_among(cluster: Cluster, devids: Collection[int], size: int | None) -> list[Device]:
    """Return those of the devices that may get a new file of `size` bytes now."""
    return [
        device
        for devid, device in cluster.devices.items()
        if devid in devids
        and cluster.should_get_new_files(devid)
        and (size is None or devid not in cluster.free_bytes or cluster.free_bytes[devid] > size)
    ]


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadOrder:
    """The order in which to read from the devices of a file."""

    preferred: Sequence[int]
    """Devices to read from."""
    draining: Sequence[int] = ()
    """Devices to read from only if the preferred ones do not suffice."""
    backup: int | None = None
    """A device that probably does not respond, used if there is no other."""


def read_weight(cluster: Cluster, devid: int) -> float:
    """Return the share of reads of a device: the idle time of its disk if known, else its configured weight
    (docs/mogilefs.md 9.2)."""
    seen = cluster.observed.get(devid)
    if seen is not None and seen.utilization is not None:
        return max(1.0, 102.0 - seen.utilization)
    device = cluster.devices.get(devid)
    return (device.weight if device else 0) or 100


def nearest_first(cluster: Cluster, devids: Iterable[int], destination: int) -> list[int]:
    """Sort devices: those on the destination's host first, then those in its zone, else in the given order."""
    return sorted(devids, key=_distance_to(cluster, destination))


def as_near_as_first(cluster: Cluster, devids: Sequence[int], destination: int) -> list[int]:
    """Return the first of some devices, and those that are as near to the destination; see `nearest_first`."""
    distance = _distance_to(cluster, destination)
    return [devid for devid in devids if distance(devid) == distance(devids[0])]


def _distance_to(cluster: Cluster, destination: int) -> Callable[[int], int]:
    """Return the function by which a device is on the destination's host (0), in its zone (1), or elsewhere (2)."""
    zones = Zones.of(cluster.settings)

    def host(devid: int) -> Host | None:
        device = cluster.devices.get(devid)
        return cluster.host_of(device) if device else None

    there = host(destination)

    def distance(devid: int) -> int:
        here = host(devid)
        if here is None or there is None:
            return 2
        return 0 if here == there else int(zones.zone_of(here.ip) != zones.zone_of(there.ip)) + 1

    return distance


def order_for_reading(cluster: Cluster, devids: Iterable[int], rng: Random) -> ReadOrder:
    """Return the order of a file's devices for get_paths; unknown devices are left out."""
    preferred: list[int] = []
    draining: list[int] = []
    silent: list[int] = []
    for devid in devids:
        device = cluster.devices.get(devid)
        if device is None or device.hostid not in cluster.hosts:
            continue
        if not cluster.should_read_from(devid):
            silent.append(devid)
        elif device.state is DeviceState.DRAIN:
            draining.append(devid)
        else:
            preferred.append(devid)
    return ReadOrder(
        _shuffle_for_reading(cluster, preferred, rng),
        _shuffle_for_reading(cluster, draining, rng),
        _pick_fallback(cluster, silent, rng) if silent else None,
    )


def _shuffle_for_reading(cluster: Cluster, devids: list[int], rng: Random) -> Sequence[int]:
    if len(devids) < 2:
        return devids
    return weighted_shuffle([(devid, read_weight(cluster, devid)) for devid in devids], rng)


def _pick_fallback(cluster: Cluster, silent: Sequence[int], rng: Random) -> int:
    """Choose a fallback among devices that should not be read now, by reachability: a dead one last."""

    def reachability(devid: int) -> tuple[bool, bool, float]:
        return cluster.can_read_from(devid), not cluster.is_lost(devid), rng.random()

    return max(silent, key=reachability)
