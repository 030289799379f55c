"""When unreachable devices are presumed dead, and the safety limits that prevent it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import Cluster, DeviceAbsence, DeviceState, HostState, Liveness, Observation, Observed
from tawara.model.liveness import LONGEST_STEP, LivenessRules, judge, majority_is_silent, safety_limit, worth_reporting
from tests.unit.model.clusters import cluster, clusters

GONE = Observation(Observed.UNREACHABLE)
RULES = LivenessRules(after=60, hosts=0.34, bytes=0.5)
FIVE_HOSTS = {1: [1, 2], 2: [3, 4], 3: [5, 6], 4: [7, 8], 5: [9, 10]}


def unseen(whole: Cluster, *devids: int) -> Cluster:
    """The cluster with these devices unreachable."""
    return whole.with_observations({**whole.observed, **dict.fromkeys(devids, GONE)})


def after(whole: Cluster, changes: Mapping[int, DeviceAbsence | None]) -> Cluster:
    """The cluster with the changes applied."""
    now = {**whole.absences, **changes}
    return replace(whole, absences={devid: each for devid, each in now.items() if each is not None})


def watch(whole: Cluster, seconds: int, *, step: int = 5, rules: LivenessRules = RULES) -> Cluster:
    """The cluster after so much time of observation without a change."""
    for _ in range(0, seconds, step):
        whole = after(whole, judge(whole, dict.fromkeys(whole.absences, step), rules))
    return whole


def dead(whole: Cluster) -> set[int]:
    """The devices that are presumed dead."""
    return {devid for devid in whole.devices if whole.is_presumed_dead(devid)}


def test_suspect_at_once_and_presumed_dead_in_time() -> None:
    """An unreachable device is suspect in the first round, and presumed dead after the delay, not before."""
    whole = unseen(cluster(FIVE_HOSTS), 1, 2)
    first = watch(whole, 5)
    assert {each.liveness for each in first.absences.values()} == {Liveness.SUSPECT}
    assert first.counts_as_replica(1)
    assert dead(watch(first, 55)) == set()
    later = watch(first, 60)
    assert dead(later) == {1, 2}
    assert later.absences[1].to_queue
    assert not later.counts_as_replica(1)
    assert not later.is_lost(1)


def test_zero_means_never() -> None:
    """With a delay of 0 no device is ever presumed dead."""
    assert dead(watch(unseen(cluster(FIVE_HOSTS), 1), 1000, rules=replace(RULES, after=0))) == set()


def test_a_clock_jump_counts_little() -> None:
    """One observation counts a few seconds at most, whatever the clock says, and never a negative time."""
    whole = watch(unseen(cluster(FIVE_HOSTS), 1), 5)
    assert after(whole, judge(whole, {1: 3600}, RULES)).absences[1].seconds == LONGEST_STEP
    assert after(whole, judge(whole, {1: -3600}, RULES)).absences[1].seconds == 0


def test_one_observer_clears_it() -> None:
    """It is enough that one process reaches a suspect device, whatever others have counted."""
    whole = watch(unseen(cluster(FIVE_HOSTS), 1), 50)
    assert whole.absences[1].seconds
    assert after(whole, judge(cluster(FIVE_HOSTS).with_observations({}), {}, RULES)).absences == whole.absences
    elsewhere = replace(cluster(FIVE_HOSTS), absences=whole.absences)
    assert after(elsewhere, judge(elsewhere, {1: 5}, RULES)).absences == {}


def test_returned() -> None:
    """A returned device counts again at once, and its files are queued for one more check."""
    back = watch(unseen(cluster(FIVE_HOSTS), 1), 70).with_observations(cluster(FIVE_HOSTS).observed)
    assert not back.should_get_new_files(1)
    now = watch(back, 5)
    assert now.absences == {1: DeviceAbsence(Liveness.RETURNED, 0, to_queue=True)}
    assert now.counts_as_replica(1)
    assert now.should_get_new_files(1)
    gone_again = watch(unseen(now, 1), 70)
    assert dead(gone_again) == {1}


def test_trusted() -> None:
    """A device that an operator trusts is not presumed dead, however long it is absent."""
    whole = unseen(replace(cluster(FIVE_HOSTS), absences={1: DeviceAbsence(Liveness.TRUSTED)}), 1)
    assert dead(watch(whole, 1000)) == set()
    assert safety_limit(whole, replace(RULES, bytes=0.0)) is None


def test_many_hosts_at_once_are_not_presumed_dead() -> None:
    """If more hosts vanish at once than the limit allows, none is presumed dead, and the reason is given."""
    whole = watch(unseen(cluster(FIVE_HOSTS), 1, 2, 3, 4), 1000)
    assert dead(whole) == set()
    assert "2 of 5 hosts" in (safety_limit(whole, RULES) or "")
    one_is_back = whole.with_observations({**whole.observed, **dict.fromkeys((1, 2), cluster(FIVE_HOSTS).observed[1])})
    assert dead(watch(one_is_back, 10)) == {3, 4}


def test_nothing_is_written_while_a_safety_limit_applies() -> None:
    """The time of devices held back by a safety limit is not counted further until the limit no longer applies."""
    held = watch(unseen(cluster(FIVE_HOSTS), 1, 2, 3, 4), 100)
    assert not worth_reporting(held, RULES)
    assert worth_reporting(held, replace(RULES, hosts=0.5))
    assert not worth_reporting(watch(held, 5, rules=replace(RULES, after=0)), replace(RULES, after=0))


def test_the_limit_on_bytes() -> None:
    """Many disks on many hosts: no host is absent, but the limit on the share of bytes applies."""
    whole = watch(unseen(cluster(FIVE_HOSTS), 1, 3, 5), 1000, rules=replace(RULES, bytes=0.25))
    assert dead(whole) == set()
    assert "30% of the bytes" in (safety_limit(whole, replace(RULES, bytes=0.25)) or "")


def test_nothing_is_counted_while_most_hosts_are_silent() -> None:
    """A process that is disconnected from most hosts counts nothing."""
    whole = unseen(cluster(FIVE_HOSTS), *range(1, 7))
    assert majority_is_silent(whole)
    assert not worth_reporting(whole, RULES)
    assert judge(whole, {}, LivenessRules(after=1, hosts=1.0, bytes=1.0)) == {}
    assert "3 of 5 hosts" in (safety_limit(whole, RULES) or "")


@pytest.mark.parametrize("state", [DeviceState.DOWN, DeviceState.DEAD])
def test_the_operators_state_takes_precedence(state: DeviceState) -> None:
    """A device that is declared down or dead is neither suspect nor presumed dead."""
    whole = watch(unseen(cluster(FIVE_HOSTS), 1), 70)
    declared = replace(whole, devices={**whole.devices, 1: replace(whole.devices[1], state=state)})
    assert dead(declared) == set()
    assert declared.counts_as_replica(1) is (state is DeviceState.DOWN)
    assert worth_reporting(declared, RULES)
    assert after(declared, judge(declared, {}, RULES)).absences == {}


# --- for every history ------------------------------------------------------------------------------------------------

_looks = st.lists(
    st.tuples(st.sets(st.integers(1, 9)), st.integers(-5, 3600), st.one_of(st.none(), st.integers(1, 9))), max_size=25
)


@given(
    clusters(),
    _looks,
    st.builds(LivenessRules, st.integers(0, 40), st.floats(0, 1), st.floats(0, 1)),
)
def test_every_history(whole: Cluster, history: list[tuple[set[int], int, int | None]], rules: LivenessRules) -> None:
    """For any observations and decisions of operators, no more devices are presumed dead than the safety limits
    allow."""
    whole = replace(whole, observed={devid: Observation(Observed.WRITEABLE) for devid in whole.devices})
    total = {device.hostid for device in whole.devices.values() if whole.can_read_from(device.devid)}
    for missing, elapsed, trusted in history:
        seen = unseen(replace(whole, observed=dict(whole.observed)), *(missing & whole.devices.keys()))
        if trusted in seen.absences:
            assert trusted is not None
            seen = replace(seen, absences={**seen.absences, trusted: DeviceAbsence(Liveness.TRUSTED)})
        changes = judge(seen, dict.fromkeys(seen.absences, elapsed), rules)
        assert worth_reporting(seen, rules) or not changes
        now = after(seen, changes)
        new = dead(now) - dead(seen)
        if new:
            assert rules.after
            assert not majority_is_silent(seen)
            assert safety_limit(now, rules) is None
            assert all(seen.absences[devid].seconds + LONGEST_STEP >= rules.after for devid in new)
            assert new <= missing
            wholly = {
                hostid
                for hostid in total
                if all(
                    devid in dead(now)
                    for devid, device in now.devices.items()
                    if device.hostid == hostid and now.can_read_from(devid)
                )
            }
            assert len(wholly) <= rules.hosts * len(total) + 1e-6
        for devid, device in now.devices.items():
            if device.state in (DeviceState.DOWN, DeviceState.DEAD) or now.hosts[device.hostid].state in (
                HostState.DOWN,
                HostState.DEAD,
            ):
                assert devid not in now.absences
                assert now.counts_as_replica(devid) is (device.state is not DeviceState.DEAD)
            elif devid not in missing:
                assert now.counts_as_replica(devid)
        whole = replace(now, observed=whole.observed)
