"""The results of the policies: the tables of docs/mogilefs.md 10.2 to 10.5, and invariants for every cluster."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tawara.model.cluster import MIB, Cluster, DeviceState, Observation, Observed, StorageClass
from tawara.model.errors import NoDevices
from tawara.model.policy import (
    Copy,
    HostsPerNetwork,
    MultipleDevices,
    MultipleHosts,
    MultipleNetworks,
    NoAnswer,
    OverReplicated,
    Policy,
    PolicyResult,
    Satisfied,
    Situation,
    Union,
    can_place,
    is_content,
    parse,
    pick_surplus,
    plan_destinations,
)
from tawara.model.zones import Zones
from tests.unit.model.clusters import cluster, clusters

RNG = Random(7)
ZONES = {"network_zones": "near far", "zone_near": "10.1.0.0/16", "zone_far": "10.2.0.0/16, 10.3.0.0/16"}


def ask(policy: str, where: Cluster, on: set[int], minimum: int = 2, failed: Iterable[int] = ()) -> PolicyResult:
    return parse(policy).decide(Situation.of(where, on, minimum, failed=failed), RNG)


@given(clusters(), st.frozensets(st.integers(1, 9), max_size=3), st.frozensets(st.integers(10, 39)), st.booleans())
def test_candidates_are_found_without_looking_at_every_device(
    where: Cluster, on: frozenset[int], hosts: frozenset[int], large: bool
) -> None:
    """The candidates on some hosts, and those elsewhere, are all that may take the file, the emptiest first."""
    size = 2_000 * MIB if large else 0
    situation = Situation.of(where, on & where.devices.keys(), 2, failed={9}, size=size)
    may_take = [
        device
        for devid, device in where.devices.items()
        if where.should_get_new_files(devid)
        and devid not in situation.on
        and devid != 9
        and (device.mb_free is None or device.mb_free * MIB > size)
    ]
    found = [where.devices[devid] for devid in situation.candidates]
    assert {each.devid for each in found} == {each.devid for each in may_take}
    assert sorted(found, key=lambda each: -each.percent_free) == found
    on_hosts, elsewhere = situation.best_on(hosts), situation.best_elsewhere(hosts)
    assert set(on_hosts) == {each.devid for each in may_take if each.hostid in hosts}
    assert set(elsewhere) == {each.devid for each in may_take if each.hostid not in hosts}
    assert can_place(where, StorageClass(0, "default", 2), RNG) is any(map(where.should_get_new_files, where.devices))


def places(answer: PolicyResult) -> tuple[set[int], set[int]]:
    assert isinstance(answer, Copy), answer
    return set(answer.ideal), set(answer.desperate)


TWO_HOSTS = cluster({1: [1, 2], 2: [3, 4]})
THREE_HOSTS = cluster({1: [1, 2], 2: [3, 4], 3: [5]})


@pytest.mark.parametrize(
    ("where", "on", "minimum", "answer"),
    [
        (TWO_HOSTS, {1}, 1, Satisfied()),
        (TWO_HOSTS, {1, 3}, 2, Satisfied()),
        (TWO_HOSTS, {1, 3, 4}, 2, OverReplicated()),
        (TWO_HOSTS, {1, 2, 3}, 3, Satisfied()),
        (TWO_HOSTS, {1, 3}, 1, OverReplicated()),
        (THREE_HOSTS, {1, 3, 5}, 2, OverReplicated()),
        (cluster({1: [1, 2]}), {1, 2}, 2, Satisfied()),
        (cluster({1: [1, 2]}), {1, 2}, 3, Satisfied()),
        (cluster({1: [1]}), {1}, 2, NoAnswer()),
        (cluster({1: [1, 2], 2: [3]}, dev3=DeviceState.DOWN), {1, 3}, 2, Satisfied()),
        (cluster({1: [1, 2], 2: [3]}, dev3=DeviceState.READONLY), {1}, 1, Satisfied()),
    ],
)
def test_multiple_hosts(where: Cluster, on: set[int], minimum: int, answer: PolicyResult) -> None:
    """MultipleHosts is satisfied, over-replicated or has no candidate as in docs/mogilefs.md 10.2."""
    assert ask("MultipleHosts()", where, on, minimum) == answer


def test_multiple_hosts_prefers_other_hosts() -> None:
    """A host without a copy is ideal, one that has a copy is the second choice (docs/mogilefs.md 10.2, 6)."""
    assert places(ask("MultipleHosts()", TWO_HOSTS, {1})) == ({3, 4}, {2})
    assert places(ask("MultipleHosts(3)", TWO_HOSTS, {1, 3})) == ({2, 4}, set())
    assert places(ask("MultipleHosts()", TWO_HOSTS, {1}, failed={3, 4})) == (set(), {2})


def test_multiple_hosts_waits_for_another_host() -> None:
    """Two copies on one host are not enough if there is a second; a third copy there would not help (docs/mogilefs.md
    10.2, 7)."""
    away = cluster({1: [1, 2, 5], 2: [3]})
    assert ask("MultipleHosts()", away, {1, 2}, failed={3}) == NoAnswer()
    assert places(ask("MultipleHosts()", away, {1, 2})) == ({3}, {5})


def test_too_many_on_one_host_are_spread_before_they_are_trimmed() -> None:
    """Three copies on one host are no safer than one: the next step is a copy elsewhere."""
    assert places(ask("MultipleHosts()", TWO_HOSTS, {1, 2})) == ({3, 4}, set())
    assert places(ask("MultipleHosts()", cluster({1: [1, 2, 5], 2: [3]}), {1, 2, 5})) == ({3}, set())


def test_copies_on_dead_devices_do_not_count() -> None:
    """A replica on a dead or unknown device does not count."""
    where = cluster({1: [1, 2], 2: [3]}, dev3=DeviceState.DEAD)
    assert places(ask("MultipleHosts()", where, {1, 3, 99})) == ({2}, set())


@pytest.mark.parametrize(
    ("on", "minimum", "answer"),
    [({1, 2}, 2, Satisfied()), ({1, 2, 3}, 2, OverReplicated()), ({1, 2, 3, 4}, 5, Satisfied())],
)
def test_multiple_devices(on: set[int], minimum: int, answer: PolicyResult) -> None:
    """MultipleDevices only counts devices (docs/mogilefs.md 10.3)."""
    assert ask("MultipleDevices()", TWO_HOSTS, on, minimum) == answer


def test_multiple_devices_takes_any() -> None:
    """For MultipleDevices every device without a copy is ideal (docs/mogilefs.md 10.3)."""
    assert places(ask("MultipleDevices()", TWO_HOSTS, {1})) == ({2, 3, 4}, set())


NETWORKS = cluster({11: [1, 2], 12: [3], 21: [4], 31: [5]}, settings=ZONES)


def test_multiple_networks() -> None:
    """MultipleNetworks spreads over zones first, then over hosts (docs/mogilefs.md 10.4)."""
    assert places(ask("MultipleNetworks()", NETWORKS, {1})) == ({4, 5}, {2, 3})
    assert ask("MultipleNetworks()", NETWORKS, {1, 4}) == Satisfied()
    assert ask("MultipleNetworks()", NETWORKS, {4, 5}, failed={1, 2, 3}) == NoAnswer()
    assert places(ask("MultipleNetworks(3)", NETWORKS, {1, 4})) == ({3, 5}, {2})
    assert ask("MultipleNetworks(3)", NETWORKS, {1, 4, 5}) == Satisfied()
    assert ask("MultipleNetworks()", NETWORKS, {1, 4, 5}) == OverReplicated()
    assert ask("MultipleNetworks(1)", NETWORKS, {1, 4}) == Satisfied()


def test_networks_without_settings_are_the_16s() -> None:
    """An address in no zone counts as its /16 (docs/mogilefs.md 10.4)."""
    bare = cluster({11: [1], 12: [2], 21: [3], 31: [4]})
    assert places(ask("MultipleNetworks()", bare, {1})) == ({3, 4}, {2})


def test_hosts_per_network() -> None:
    """HostsPerNetwork requires hosts in each zone, or devices if the zone has too few hosts (docs/mogilefs.md 10.5)."""
    policy = "HostsPerNetwork(near=2,far=1)"
    assert places(ask(policy, NETWORKS, {1})) == ({3, 4, 5}, {2})
    assert places(ask(policy, NETWORKS, {1, 2})) == ({3, 4, 5}, set())
    assert ask(policy, NETWORKS, {1, 3, 4}) == Satisfied()
    assert ask(policy, NETWORKS, {1, 3, 4, 5}) == OverReplicated()
    assert ask(policy, NETWORKS, {1, 2, 3, 4}) == OverReplicated()
    small = cluster({11: [1, 2], 21: [4]}, settings=ZONES)
    assert ask(policy, small, {1, 2, 4}) == Satisfied()
    assert ask("HostsPerNetwork(elsewhere=1)", NETWORKS, {1}) == NoAnswer()


def test_union_satisfies_every_part() -> None:
    """A union is satisfied only if all its parts are, and removes only what none of them needs."""
    policy = "Union(HostsPerNetwork(near=2),HostsPerNetwork(far=1))"
    assert places(ask(policy, NETWORKS, {1})) == ({3, 4, 5}, {2})
    assert places(ask(policy, NETWORKS, {1, 3})) == ({4, 5}, set())
    assert ask(policy, NETWORKS, {1, 3, 4}) == Satisfied()
    assert ask(policy, NETWORKS, {1, 3, 4, 5}) == OverReplicated()
    assert pick_surplus(parse(policy), Situation.of(NETWORKS, {1, 3, 4, 5}, 2), RNG) in {4, 5}


def test_union_prefers_what_helps_most_parts() -> None:
    """A device that is ideal for two parts comes before one that is ideal for one."""
    answer = ask("Union(MultipleHosts(2),HostsPerNetwork(near=1,far=1))", NETWORKS, {1})
    assert isinstance(answer, Copy)
    assert set(answer.ideal[:2]) == {4, 5}


def test_surplus_comes_from_the_crowded_host() -> None:
    """Of three copies on two hosts one of the two that share a host is removed."""
    situation = Situation.of(TWO_HOSTS, {1, 2, 3}, 2)
    assert pick_surplus(MultipleHosts(), situation, RNG) in {1, 2}


def test_surplus_of_draining_device_goes_first() -> None:
    """The copy on a draining device is removed first."""
    where = cluster({1: [1, 2, 3]}, dev2=DeviceState.DRAIN)
    assert pick_surplus(MultipleDevices(), Situation.of(where, {1, 2, 3}, 2), RNG) == 2


def test_unreadable_copies_are_not_kept_instead_of_readable_ones() -> None:
    """Copies on an unavailable device count, but are not kept instead of readable ones."""
    where = cluster({1: [1], 2: [2], 3: [3]}, dev1=DeviceState.DOWN)
    situation = Situation.of(where, {1, 2, 3}, 2)
    assert MultipleHosts().decide(situation, RNG) == OverReplicated()
    assert pick_surplus(MultipleHosts(), situation, RNG) is None


@pytest.mark.parametrize("state", [DeviceState.READONLY, DeviceState.DOWN, DeviceState.DEAD])
def test_surplus_is_never_picked_on_a_device_in_another_state_than_alive_or_drain(state: DeviceState) -> None:
    """The replica to delete is on a device from which deleting is allowed, or none is picked."""
    where = cluster({1: [1, 2, 3]}, dev1=state, dev2=state)
    assert pick_surplus(MultipleDevices(), Situation.of(where, {1, 2, 3}, 1), RNG) in (None, 3)
    where = cluster({1: [1, 2, 3]}, dev1=state, dev2=state, dev3=state)
    assert pick_surplus(MultipleDevices(), Situation.of(where, {1, 2, 3}, 1), RNG) is None


def test_surplus_is_never_picked_on_a_device_that_failed_the_write_test() -> None:
    """A device on which the monitor's write test failed keeps its replica, even if its copy is surplus."""
    where = cluster({1: [1, 2, 3]})
    where = where.with_observations({devid: Observation(Observed.READABLE) for devid in (1, 2, 3)})
    assert pick_surplus(MultipleDevices(), Situation.of(where, {1, 2, 3}, 2), RNG) is None


def test_a_file_needs_space() -> None:
    """A device with less space than the file needs is no candidate, though it may be one for smaller files."""
    small = Situation.of(TWO_HOSTS, {1}, 2, size=400 * 1024 * 1024)
    large = Situation.of(TWO_HOSTS, {1}, 2, size=600 * 1024 * 1024)
    assert isinstance(MultipleHosts().decide(small, RNG), Copy)
    assert MultipleHosts().decide(large, RNG) == NoAnswer()


# --- planning the devices of a new file -------------------------------------------------------------------------------


def test_plans_as_many_as_the_class_wants() -> None:
    """A new file is placed on so many devices at once that its class is satisfied, each on its own host."""
    chosen = plan_destinations(THREE_HOSTS, StorageClass(0, "default", 3), 1, RNG)
    assert {THREE_HOSTS.devices[devid].hostid for devid in chosen} == {1, 2, 3}


def test_plans_what_is_available() -> None:
    """With one device left the file is written there; a worker makes the other copies later."""
    assert plan_destinations(cluster({1: [1]}), StorageClass(0, "default", 3), 1, RNG) == (1,)


def test_plans_again_after_a_failure() -> None:
    """When a device failed during a write, another one is planned in its place, and none if there are enough."""
    again = plan_destinations(THREE_HOSTS, StorageClass(0, "default", 2), 1, RNG, on={1}, failed={3})
    assert len(again) == 1
    assert again[0] in {4, 5}
    assert plan_destinations(THREE_HOSTS, StorageClass(0, "default", 2), 1, RNG, on={1, 3}) == ()


def test_plans_nothing_on_full_devices() -> None:
    """When no device can take the file the plan raises an error."""
    with pytest.raises(NoDevices):
        plan_destinations(TWO_HOSTS, StorageClass(0, "default", 2), 1 << 40, RNG)


# --- in every cluster -------------------------------------------------------------------------------------------------

counted = st.builds(
    lambda kind, copies: kind(copies),
    st.sampled_from([MultipleHosts, MultipleDevices, MultipleNetworks]),
    st.none() | st.integers(1, 5),
)
per_network: st.SearchStrategy[HostsPerNetwork] = st.builds(
    HostsPerNetwork, st.sampled_from([(("near", 2), ("far", 1)), (("near", 1),), (("gone", 1),)])
)
single: st.SearchStrategy[Policy] = counted | per_network
policies: st.SearchStrategy[Policy] = single | st.builds(Union, st.lists(single, min_size=1, max_size=3).map(tuple))
replicas = st.sets(st.integers(1, 11), max_size=6)
seeds = st.integers(0, 1000).map(Random)


@given(counted, clusters(), replicas, st.integers(1, 5), seeds)
def test_never_satisfied_with_too_few(policy: Policy, where: Cluster, on: set[int], minimum: int, rng: Random) -> None:
    """While another device could take a copy, a policy is not satisfied with fewer copies than wanted."""
    situation = Situation.of(where, on, minimum)
    wanted = getattr(policy, "copies", None) or minimum
    if is_content(policy, situation, rng) and len(situation.on) < wanted:
        assert not situation.candidates
        assert len(situation.on) == situation.total_disks


@given(counted, clusters(), replicas, st.integers(1, 5), seeds)
def test_never_satisfied_on_too_few_hosts_or_networks(
    policy: Policy, where: Cluster, on: set[int], minimum: int, rng: Random
) -> None:
    """Two or more copies in one place are not enough while another place of the wanted kind has a usable device."""
    situation = Situation.of(where, on, minimum)
    wanted = getattr(policy, "copies", None) or minimum
    if not is_content(policy, situation, rng) or wanted == 1 or len(situation.on) == situation.total_disks:
        return
    alive = [devid for devid, device in where.devices.items() if device.state is DeviceState.ALIVE]
    if not isinstance(policy, MultipleDevices):
        hosts = {where.devices[devid].hostid for devid in situation.on}
        assert len(hosts) >= min(wanted, len({where.devices[devid].hostid for devid in alive}))
    if isinstance(policy, MultipleNetworks):
        zones = Zones.of(where.settings)

        def zones_of(devids: Iterable[int]) -> set[str]:
            return {zones.zone_of(where.hosts[where.devices[devid].hostid].ip) for devid in devids}

        assert len(zones_of(situation.on)) >= min(wanted, len(zones_of(alive)))


@given(per_network, clusters(), replicas, seeds)
def test_never_satisfied_with_a_network_lacking(
    policy: HostsPerNetwork, where: Cluster, on: set[int], rng: Random
) -> None:
    """Each named network needs its number of copies, on as many hosts as it has, regardless of the others."""
    situation = Situation.of(where, on, 1)
    if not is_content(policy, situation, rng):
        return
    zones = Zones.of(where.settings)

    def hosts_in(zone: str, devids: Iterable[int]) -> list[int]:
        found = [where.devices[devid].hostid for devid in devids]
        return [hostid for hostid in found if zones.zone_of(where.hosts[hostid].ip) == zone]

    alive = [devid for devid, device in where.devices.items() if device.state is DeviceState.ALIVE]
    for zone, number in policy.wanted:
        there = hosts_in(zone, situation.on)
        assert len(there) >= number
        assert len(set(there)) >= min(number, len(set(hosts_in(zone, alive))))


@given(st.lists(single, min_size=1, max_size=3).map(tuple), clusters(), replicas, st.integers(1, 5), seeds)
def test_a_union_is_satisfied_only_when_all_parts_are(
    parts: tuple[Policy, ...], where: Cluster, on: set[int], minimum: int, rng: Random
) -> None:
    """What is enough for a union is enough for each of its parts."""
    situation = Situation.of(where, on, minimum)
    if is_content(Union(parts), situation, rng):
        assert all(is_content(part, situation, rng) for part in parts)


@given(policies, clusters(), replicas, st.sets(st.integers(1, 9)), st.integers(1, 5), seeds)
def test_candidates_can_take_the_copy(
    policy: Policy, where: Cluster, on: set[int], failed: set[int], minimum: int, rng: Random
) -> None:
    """A candidate has no copy yet, has not failed, and may be written."""
    answer = policy.decide(Situation.of(where, on, minimum, failed=failed, size=1024), rng)
    if isinstance(answer, Copy):
        assert answer.choices
        assert len(set(answer.choices)) == len(answer.choices)
        for devid in answer.choices:
            assert devid not in on | failed
            assert where.should_get_new_files(devid)
            free = where.devices[devid].mb_free
            assert free is None or free >= where.min_free_mb


@settings(max_examples=300)
@given(policies, clusters(), replicas, st.integers(1, 5), seeds, st.data())
def test_convergence(
    policy: Policy, where: Cluster, on: set[int], minimum: int, rng: Random, data: st.DataObject
) -> None:
    """Following the results by copying, failing and removing ends, and never returns to a state in which more is
    wanted."""
    situation = Situation.of(where, on, minimum)
    once_content = False
    for _ in range(4 * len(where.devices) + 4):
        answer = policy.decide(situation, rng)
        once_content = once_content or isinstance(answer, Satisfied | OverReplicated)
        if isinstance(answer, Copy):
            assert not once_content
            tried = answer.choices[0]
            if data.draw(st.booleans()):
                situation = situation.with_copy(tried)
            else:
                situation = Situation(where, situation.on, minimum, situation.failed | {tried})
        elif isinstance(answer, OverReplicated):
            surplus = pick_surplus(policy, situation, rng)
            if surplus is None:
                return
            situation = situation.without_copy(surplus)
        else:
            return
    pytest.fail("the advice goes in circles")


@given(policies, clusters(), replicas, st.integers(1, 5), seeds)
def test_surplus_can_be_removed(policy: Policy, where: Cluster, on: set[int], minimum: int, rng: Random) -> None:
    """A surplus copy is deletable, and the policy is satisfied with the others, also with only the readable ones."""
    situation = Situation.of(where, on, minimum)
    surplus = pick_surplus(policy, situation, rng)
    if surplus is not None:
        assert where.can_delete_from(surplus)
        left = situation.without_copy(surplus)
        readable = {devid for devid in left.on if where.should_read_from(devid)}
        assert readable
        assert is_content(policy, Situation.of(where, readable, minimum), rng)


def test_preferred_devices_are_planned_where_they_help() -> None:
    """A plan uses the devices that hold what the file is made of, as long as the policy gains as much by them."""
    two = StorageClass(0, "default", 2)
    wide = cluster({host: [10 * host, 10 * host + 1] for host in range(1, 40)})
    for seed in range(10):
        rng = Random(seed)
        assert set(plan_destinations(wide, two, 1, rng, preferred=(390, 11))) == {390, 11}
        one_host = plan_destinations(wide, two, 1, rng, preferred=(390, 391))
        assert len(set(one_host) & {390, 391}) == 1
        assert len(one_host) == 2
        assert 390 not in plan_destinations(wide, two, 1, rng, preferred=(390,), failed={390})
