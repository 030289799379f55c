"""Which devices new files are placed on, and in which order replicas are read."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import Cluster, Device, DeviceState, Host, HostState, Observation, Observed
from tawara.model.errors import NoDevices
from tawara.model.placement import (
    choose_destinations,
    nearest_first,
    order_for_reading,
    read_weight,
    weighted_shuffle,
)
from tawara.model.zones import Zones
from tests.unit.model.clusters import clusters


def cluster(*devices: Device, seen: dict[int, Observation] | None = None, **kwargs: object) -> Cluster:
    """A cluster of these devices, all writeable, on hosts that are alive."""
    observed = {device.devid: Observation(Observed.WRITEABLE) for device in devices} | (seen or {})
    hosts = {device.hostid: Host(device.hostid, f"h{device.hostid}", HostState.ALIVE, "::1") for device in devices}
    return Cluster(hosts=hosts, devices={device.devid: device for device in devices}, observed=observed)


def device(devid: int, hostid: int = 1, **fields: object) -> Device:
    """A device, half full by default."""
    defaults: dict[str, object] = {"state": DeviceState.ALIVE, "mb_total": 1000, "mb_used": 500}
    return Device(devid, hostid, **(defaults | fields))  # type: ignore[arg-type] # fields of Device


@given(st.lists(st.floats(-1, 100, allow_nan=False)), st.integers())
def test_the_shuffle_keeps_positive_weights(weights: list[float], seed: int) -> None:
    """Every item of positive weight occurs once, and no other."""
    shuffled = weighted_shuffle(list(enumerate(weights)), Random(seed))
    assert sorted(shuffled) == [index for index, weight in enumerate(weights) if weight > 0]


def test_the_shuffle_prefers_weight() -> None:
    """An item of three times the weight comes first three times as often."""
    rng = Random(1)
    firsts = Counter(weighted_shuffle([("a", 300), ("b", 100)], rng)[0] for _ in range(4000))
    assert 2.6 < firsts["a"] / firsts["b"] < 3.4


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 1000)), min_size=1, max_size=30), st.integers())
def test_hosts_are_used_once_before_any_is_used_twice(shapes: list[tuple[int, int]], seed: int) -> None:
    """Destinations use as many hosts as there are, and no device twice."""
    devices = [device(devid, hostid, mb_used=used) for devid, (hostid, used) in enumerate(shapes, 1)]
    known = cluster(*devices)
    writable = [each for each in devices if known.should_get_new_files(each.devid)]
    if not writable:
        with pytest.raises(NoDevices):
            choose_destinations(known, Random(seed))
        return
    chosen = choose_destinations(known, Random(seed))
    assert len(chosen) == len(set(chosen)) == min(3, len(writable))
    assert set(chosen) <= {each.devid for each in writable}
    # more than 20 candidates: only the hosts of the 20 emptiest take part
    if len(writable) <= 20:
        hosts = {known.devices[devid].hostid for devid in chosen}
        assert len(hosts) == min(3, len({each.hostid for each in writable}))


def test_one_destination_without_multi_dest() -> None:
    """As many destinations as asked for, no more."""
    assert len(choose_destinations(cluster(device(1), device(2, 2)), Random(1), count=1)) == 1


def test_space_is_free_bytes() -> None:
    """With a size, only devices with enough free bytes are taken; a file of exactly that size still fits."""
    known = cluster(device(1, mb_total=1000, mb_used=100), device(2, 2, mb_total=1000, mb_used=800))
    assert choose_destinations(known, Random(1), size=200 * 2**20) == (1,)
    assert set(choose_destinations(known, Random(1), size=200 * 2**20 - 1)) == {1, 2}
    with pytest.raises(NoDevices):
        choose_destinations(known, Random(1), size=900 * 2**20)


def test_unknown_size_is_the_last_resort() -> None:
    """A device of unknown size gets files only when no other does."""
    unknown = device(2, 2, mb_total=None, mb_used=None)
    assert choose_destinations(cluster(device(1), unknown), Random(1)) == (1,)
    assert choose_destinations(cluster(device(1), unknown), Random(1), size=2**40) == (2,)
    assert choose_destinations(cluster(unknown), Random(1)) == (2,)


@pytest.mark.parametrize("state", [each for each in DeviceState if each is not DeviceState.ALIVE])
def test_only_alive_devices_get_files(state: DeviceState) -> None:
    """A device in any other state is no destination."""
    with pytest.raises(NoDevices):
        choose_destinations(cluster(device(1, state=state)), Random(1))


def test_the_twenty_emptiest_share_the_files() -> None:
    """The twenty-first by free space gets nothing."""
    known = cluster(*(device(devid, devid, mb_used=10 * devid) for devid in range(1, 23)))
    rng = Random(1)
    chosen = {devid for _ in range(500) for devid in choose_destinations(known, rng)}
    assert chosen == set(range(1, 21))


def test_weight_for_reading() -> None:
    """Utilisation counts if it is known, with decimals; otherwise the device's weight, of which 0 means 100."""
    seen = {1: Observation(Observed.WRITEABLE, 0.4), 2: Observation(Observed.WRITEABLE, 140.0)}
    known = cluster(device(1), device(2), device(3, weight=0), device(4, weight=30), seen=seen)
    assert [read_weight(known, devid) for devid in (1, 2, 3, 4)] == [pytest.approx(101.6), 1.0, 100, 30]


def test_the_order_of_reading() -> None:
    """Draining devices come after the others, silent ones are the backup, unknown ones are left out."""
    known = cluster(
        device(1),
        device(2, 2, state=DeviceState.DRAIN),
        device(3, 3),
        device(4, 4, state=DeviceState.DEAD),
        device(5, 5, state=DeviceState.DOWN),
        seen={3: Observation(Observed.UNREACHABLE)},
    )
    order = order_for_reading(known, (1, 2, 3, 4, 5, 99), Random(1))
    assert (list(order.preferred), list(order.draining), order.backup) == ([1], [2], 3)
    assert order_for_reading(known, (4, 5), Random(1)).backup == 5
    assert order_for_reading(known, (4,), Random(1)).backup == 4
    assert order_for_reading(known, (99,), Random(1)).backup is None
    assert order_for_reading(known, (), Random(1)).backup is None


@given(clusters(), st.sets(st.integers(1, 9)), st.integers(1, 9))
def test_the_nearest_comes_first(where: Cluster, devids: set[int], destination: int) -> None:
    """No device is left out; those on the destination's host come first, then those in its zone."""
    order = nearest_first(where, sorted(devids), destination)
    assert sorted(order) == sorted(devids)
    if destination not in where.devices:
        return
    there = where.devices[destination].hostid
    zones = Zones.of(where.settings)
    ranks = []
    for devid in order:
        hostid = where.devices[devid].hostid if devid in where.devices else None
        if hostid is None:
            ranks.append(2)
        elif hostid == there:
            ranks.append(0)
        else:
            ranks.append(1 if zones.zone_of(where.hosts[hostid].ip) == zones.zone_of(where.hosts[there].ip) else 2)
    assert ranks == sorted(ranks)


def test_preferred_devices_come_first() -> None:
    """Devices that hold what the file is made of are offered first, however full, unless they cannot take it."""
    known = cluster(
        *(device(devid, devid) for devid in range(1, 40)),
        device(50, 50, mb_used=890),
        device(51, 51, state=DeviceState.DRAIN),
        device(52, 52, mb_used=None, mb_total=None),
    )
    for seed in range(20):
        chosen = choose_destinations(known, Random(seed), size=2**20, preferred={50, 51, 52, 99})
        assert {50, 52} == set(chosen[:2])
        assert len(set(chosen)) == 3
        assert 50 not in choose_destinations(known, Random(seed), size=2**30, preferred={50})
    assert choose_destinations(cluster(device(1)), Random(1), preferred={1}) == (1,)
    assert choose_destinations(known, Random(1), count=1, preferred={50}) == (50,)
