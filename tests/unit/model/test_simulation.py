"""The simulated effect of a loss: each kind of result, and for random clusters that the result is possible."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import MIB, Cluster, DeviceState, Domain, Observation, Observed, StorageClass
from tawara.model.placement_groups import PlacementGroup
from tawara.model.policy import Situation, is_content, parse
from tawara.model.safety import judge
from tawara.model.simulation import lose, without
from tests.unit.model.clusters import cluster, clusters
from tests.unit.model.test_safety import groups

CLASSES = {
    0: StorageClass(0, "default", 2),
    1: StorageClass(1, "one", 1),
    2: StorageClass(2, "three", 3, "MultipleDevices()"),
}


def with_domain(seen: Cluster) -> Cluster:
    """The same cluster with a domain 1."""
    return replace(seen, domains={"d": Domain(1, "d", CLASSES)})


def group(*devids: int, files: int = 100, mib: int = 100, classid: int = 0) -> PlacementGroup:
    return PlacementGroup(1, classid, devids, files, mib * MIB)


THREE = with_domain(cluster({1: [11, 12], 2: [21], 3: [31]}))
"""Each device has 1,000 MiB, half of them free, 100 of which are not to be used."""


def test_the_rest_has_enough_space() -> None:
    """The copies of a lost host are made on the third host, and all files are safe at the end."""
    outcome = lose(THREE, [group(11, 21), group(21, 31)], [11, 12])
    assert outcome.holds_all
    assert (outcome.copies, outcome.bytes) == (100, 100 * MIB)
    assert outcome.filled == {31: 100 * MIB}
    assert outcome.after.one_device.files == 100
    assert outcome.repaired.one_device.files == 0
    assert outcome.seconds(10) == 10
    assert outcome.seconds(1000, MIB) == 100
    assert outcome.seconds(None) is None


def test_files_with_no_other_copy_are_lost() -> None:
    """A file is lost if it had copies, and only on the lost devices."""
    outcome = lose(THREE, [group(11, 12), group(11, classid=1, files=7), group(files=9), group(11, 21)], [11, 12])
    assert outcome.total("lost").files == 107
    assert outcome.classes[1, 0].lost.files == 100
    assert outcome.classes[1, 1].lost.files == 7
    assert not outcome.holds_all


def test_not_enough_space() -> None:
    """Files that do not fit are counted by class, with the devices that would be full."""
    outcome = lose(THREE, [group(11, 21, mib=700), group(11, 31, mib=100, classid=2, files=10)], [11, 12])
    assert outcome.total("lost").files == 0
    assert outcome.total("short").files > 0
    assert not outcome.holds_all
    assert outcome.filled[31] <= 400 * MIB
    assert 31 in outcome.out_of_space


def test_too_few_hosts_are_left() -> None:
    """With one host left the policy is satisfied with it, and the files count as compromised."""
    outcome = lose(with_domain(cluster({1: [11, 12], 2: [21]})), [group(11, 21)], [21])
    assert outcome.holds_all
    assert outcome.total("compromised").files == 100
    assert outcome.filled == {12: 100 * MIB}
    assert outcome.repaired.one_host.files == 100


def test_copies_spread_over_the_devices_with_space() -> None:
    """Several devices share the copies, the emptier ones get more."""
    seen = with_domain(cluster({1: [11], 2: [21], 3: [31], 4: [41]}))
    outcome = lose(seen, [group(11, 21, files=1000, mib=300)], [11])
    assert set(outcome.filled) == {31, 41}
    assert abs(outcome.filled[31] - outcome.filled[41]) <= 2 * 300 * MIB // 200


def test_losing_nothing() -> None:
    """Losing no device, or an unknown one, changes nothing."""
    outcome = lose(THREE, [group(11, 21)], [99])
    assert outcome.lost_devices == ()
    assert (outcome.copies, outcome.holds_all) == (0, True)
    assert outcome.before == outcome.after == outcome.repaired


@given(clusters(), groups, st.sets(st.integers(1, 9), max_size=4))
def test_the_result_is_possible(seen: Cluster, all_groups: list[PlacementGroup], lost: set[int]) -> None:
    """No device gets more than its space, the number of files is constant, and no figure is too optimistic."""
    seen = with_domain(seen)
    outcome = lose(seen, all_groups, lost)
    rest = without(seen, lost)
    for devid, number in outcome.filled.items():
        assert rest.should_get_new_files(devid)
        assert number <= outcome.space.get(devid, number)
    assert sum(each.files for each in outcome.classes.values()) == sum(each.files for each in all_groups)
    assert outcome.repaired.files == outcome.after.files
    assert sum(outcome.filled.values()) == outcome.bytes
    assert outcome.after == judge(rest, all_groups)
    assert outcome.repaired.one_device.files <= outcome.after.one_device.files
    expected_lost = sum(
        each.files
        for each in all_groups
        if any(seen.counts_as_replica(devid) for devid in each.devids)
        and not any(rest.counts_as_replica(devid) for devid in each.devids)
    )
    assert outcome.total("lost").files == expected_lost
    was_lost = judge(seen, all_groups).lost.files
    if outcome.holds_all:
        assert outcome.repaired.unsatisfied.files == outcome.repaired.lost.files == was_lost


@given(clusters(), groups)
def test_losing_less_is_never_worse(seen: Cluster, all_groups: list[PlacementGroup]) -> None:
    """Of two losses the one that contains the other loses at least as many files."""
    seen = with_domain(seen)
    devids = sorted(seen.devices)
    fewer = lose(seen, all_groups, devids[:1]).total("lost").files
    assert fewer <= lose(seen, all_groups, devids[:2]).total("lost").files


@given(clusters(), groups, st.sampled_from(sorted(CLASSES)))
def test_satisfied_files_are_not_copied(seen: Cluster, all_groups: list[PlacementGroup], classid: int) -> None:
    """Files whose policy is satisfied without the lost devices are not copied."""
    seen = with_domain(seen)
    lost = sorted(seen.devices)[:1]
    rest = without(seen, lost)
    each_class = CLASSES[classid]
    policy, rng = parse(each_class.policy), random.Random(0)
    content = [
        replace(each, classid=classid)
        for each in all_groups
        if is_content(policy, Situation.of(rest, each.devids, each_class.mindevcount), rng)
    ]
    assert lose(seen, content, lost).copies == 0


def test_losing_a_dead_device() -> None:
    """A device that is dead already loses nothing more."""
    seen = with_domain(cluster({1: [11], 2: [21]}, dev11=DeviceState.DEAD))
    assert lose(seen, [group(11)], [11]).total("lost").files == 0


def test_shared_space_is_counted_once() -> None:
    """Data written to one device of a file system uses the space of the others, and is counted once."""
    seen = with_domain(cluster({1: [11], 2: [21, 22], 3: [31]}))
    on = {devid: Observation(Observed.WRITEABLE, file_system="f") for devid in (21, 22)}
    shared = seen.with_observations({**seen.observed, **on})
    files = [PlacementGroup(1, 0, (11, 31), 10, 10 * 60 * MIB)]
    apart, batched = (lose(each, files, [31]) for each in (seen, shared))
    assert (apart.space, apart.holds_all) == ({11: 400 * MIB, 21: 400 * MIB, 22: 400 * MIB}, True)
    assert (batched.space, batched.holds_all) == ({11: 400 * MIB, 21: 400 * MIB}, False)
    assert batched.total("short").files == 4
