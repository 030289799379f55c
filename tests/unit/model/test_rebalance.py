"""The text of rebalance policies, the devices that they select, and the state of a run."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model import rebalance
from tawara.model.cluster import Cluster, Device, DeviceState
from tawara.model.errors import BadRebalPol
from tawara.model.rebalance import (
    RebalancePolicy,
    RebalanceState,
    UsageBound,
    balancing_policy,
    begin,
    choose,
    left_to_queue,
    next_source,
    parse,
    sources,
    targets,
)
from tests.unit.model.clusters import cluster, clusters

FOUR = cluster({10: [1, 2], 20: [3, 4]})


def with_usage(one: Cluster, **used: int) -> Cluster:
    """The same cluster with so many of devN's 1000 MiB used."""
    devices = {devid: replace(each, mb_used=used.get(f"dev{devid}", 500)) for devid, each in one.devices.items()}
    return replace(one, devices=devices)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("from_all_devs=1 to_all_devs=1", RebalancePolicy()),
        ("from_hosts=1,2 from_devices=3", RebalancePolicy(from_hosts=frozenset({1, 2}), from_devices=frozenset({3}))),
        ("from_percent_used=80 from_space_free=5", RebalancePolicy(source=UsageBound(percent_used=80, space_free=5))),
        (
            "from_percent_free=12.5 from_space_used=5",
            RebalancePolicy(source=UsageBound(percent_free=12.5, space_used=5)),
        ),
        ("to_percent_free=10% to_space_free=7", RebalancePolicy(target=UsageBound(percent_free=10, space_free=7))),
        ("to_percent_used=1 to_space_used=2", RebalancePolicy(target=UsageBound(percent_used=1, space_used=2))),
        ("to_hosts=1 to_devices=2", RebalancePolicy(to_hosts=frozenset({1}), to_devices=frozenset({2}))),
        (
            "not_to_hosts=1 not_to_devices=2,",
            RebalancePolicy(not_to_hosts=frozenset({1}), not_to_devices=frozenset({2})),
        ),
        ("fid_age=new limit_type=global", RebalancePolicy(newest_first=True, limit_whole_run=True)),
        ("fid_age=old limit_type=device limit_by=none limit=9", RebalancePolicy()),
        ("limit_by=count limit=5000", RebalancePolicy(limit_by="count", limit=5000)),
        ("limit_by=size limit=100g", RebalancePolicy(limit_by="size", limit=100 * 1024**3)),
        ("limit_by=size limit=7", RebalancePolicy(limit_by="size", limit=7)),
        ("limit_by=size limit=2K", RebalancePolicy(limit_by="size", limit=2048)),
        ("use_dest_devs=all", RebalancePolicy()),
        ("use_dest_devs=3\tleave_in_drain_mode=1", RebalancePolicy(use_dest_devs=3, leave_in_drain_mode=True)),
    ],
)
def test_a_policy_is_parsed(text: str, policy: RebalancePolicy) -> None:
    """Every key of docs/mogilefs.md has its documented meaning."""
    assert parse(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "from_device=1", "from_devices", "from_devices=", "from_devices=a", "from_percent_used=101",
        "from_space_used=-1", "fid_age=young", "limit_type=all", "limit_by=percent limit=10", "limit_by=count",
        "limit_by=count limit=5g", "limit_by=size limit=5x", "use_dest_devs=0", "leave_in_drain_mode=yes", "=1",
        "to_percent_free=nan",
    ],
)  # fmt: skip
def test_an_invalid_policy_is_refused(text: str) -> None:
    """Each invalid policy is refused with its own message."""
    with pytest.raises(BadRebalPol) as refused:
        parse(text)
    assert refused.value.specific


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text causes another exception."""
    try:
        parse(text)
    except BadRebalPol as error:
        assert error.specific


@given(clusters(), st.sampled_from(["from_devices=1,2,3", "from_percent_used=40 to_percent_free=10", "to_hosts=11,12"]))
def test_sources_and_targets_are_allowed_and_differ(one: Cluster, text: str) -> None:
    """Sources allow deletions, targets may get new files, and no device is both."""
    policy = parse(text)
    from_devices = sources(policy, one)
    to_devices = targets(policy, one, from_devices)
    assert all(map(one.can_delete_from, from_devices))
    assert all(map(one.should_get_new_files, to_devices))
    assert not set(from_devices) & set(to_devices)


def test_devices_are_selected() -> None:
    """Devices are selected by number, by host, and by how full they are beyond the bound."""
    assert sources(parse("from_all_devs=1"), FOUR) == (1, 2, 3, 4)
    assert sources(parse("from_devices=2,9"), FOUR) == (2,)
    assert sources(parse("from_hosts=20"), FOUR) == (3, 4)
    uneven = with_usage(FOUR, dev1=800, dev2=801)
    assert sources(parse("from_percent_used=80"), uneven) == (2,)
    assert sources(parse("from_space_used=700"), uneven) == (1, 2)
    assert sources(parse("from_percent_free=30"), uneven) == (3, 4)
    assert sources(parse("from_space_free=199"), uneven) == (1, 3, 4)
    assert targets(parse("to_percent_free=30"), uneven, [4]) == (3,)
    assert targets(parse("to_hosts=10 not_to_devices=1"), uneven, []) == (2,)
    assert targets(parse("not_to_hosts=10"), uneven, []) == (3, 4)
    drained = cluster({10: [1, 2]}, dev1=DeviceState.DRAIN, dev2=DeviceState.READONLY)
    assert sources(parse("from_all_devs=1"), drained) == (1,)
    assert targets(parse("from_all_devs=1"), drained, []) == ()


def test_a_device_of_unknown_size_exceeds_no_bound() -> None:
    """Without a known size a device is never full enough."""
    assert not UsageBound(percent_free=0).admits(Device(1, 1, DeviceState.ALIVE))
    assert UsageBound().admits(Device(1, 1, DeviceState.ALIVE))


numbers = st.integers(0, 2**40)
states = st.builds(
    RebalanceState,
    st.lists(st.integers(1, 99), max_size=3).map(tuple),
    st.lists(st.integers(1, 99), max_size=3).map(tuple),
    numbers, numbers, st.none() | numbers, st.none() | numbers, *[numbers] * 8,
)  # fmt: skip


@given(states)
def test_a_state_round_trips(state: RebalanceState) -> None:
    """The text of a state parses to an equal state."""
    assert RebalanceState.parse(str(state)) == state


def test_a_state_of_mogilefs_is_read() -> None:
    """Keys in any order, missing keys, and empty values have the same meaning as in a tracker of MogileFS."""
    text = "time_started=5 source_devs=3,4 sdev_current=2 sdev_limit=none completed_devs= fids_queued=7"
    assert RebalanceState.parse(text) == RebalanceState(
        source_devs=(3, 4), sdev_current=2, fids_queued=7, time_started=5
    )


FILES = [(fid, 1000 * fid) for fid in range(1, 11)]


def run(text: str, files: list[tuple[int, int]] = FILES) -> tuple[RebalanceState, list[int]]:
    """The first tick of a run away from device 1."""
    policy = parse("from_devices=1 " + text)
    state = next_source(policy, begin(policy, FOUR, now=5))
    assert state is not None
    state, moves = choose(policy, state, files, targets(policy, FOUR, state.all_sources), Random(1), now=6)
    assert all(move.source == 1 for move in moves)
    assert all(set(move.targets) <= {2, 3, 4} for move in moves)
    return state, [move.fid for move in moves]


def test_limits() -> None:
    """The limits on files and bytes are exact, for each source and for the whole run."""
    assert run("")[1] == list(range(1, 11))
    state, moved = run("limit_by=count limit=3")
    assert (moved, state.sdev_limit, state.limit, state.sdev_lastfid) == ([1, 2, 3], 0, None, 3)
    state, moved = run("limit_by=count limit=3 limit_type=global")
    assert (moved, state.sdev_limit, state.limit) == ([1, 2, 3], None, 0)
    assert next_source(parse("limit_by=count limit=3 limit_type=global"), replace(state, source_devs=(2,))) is None
    state, moved = run("limit_by=size limit=8k", [(1, 3000), (2, 6000), (3, 5000), (4, 100)])
    assert (moved, state.sdev_limit, state.bytes_queued, state.fids_queued) == ([1, 3], 192, 8000, 2)


@given(
    st.lists(st.integers(0, 5000), max_size=30),
    st.sampled_from(["limit_by=count limit=7", "limit_by=size limit=9k", "limit_by=none"]),
    st.booleans(),
)
def test_a_limit_is_never_exceeded(lengths: list[int], limit: str, whole_run: bool) -> None:
    """For any files the limits hold, and the counters equal what was queued."""
    files = list(enumerate(lengths, 1))
    text = limit + (" limit_type=global" if whole_run else "")
    state, moved = run(text, files)
    size = sum(lengths[fid - 1] for fid in moved)
    assert (state.fids_queued, state.bytes_queued) == (len(moved), size)
    most = parse(text).limit
    if most is None:
        assert len(moved) == len(lengths)
    else:
        assert (len(moved) if "count" in limit else size) <= most
        assert (state.limit if whole_run else state.sdev_limit) == most - (len(moved) if "count" in limit else size)


def test_the_number_of_targets() -> None:
    """use_dest_devs limits the targets from which each file may choose."""
    policy = parse("from_devices=1 use_dest_devs=2")
    state = next_source(policy, begin(policy, FOUR, now=5))
    assert state is not None
    _, moves = choose(policy, state, FILES, [2, 3, 4], Random(1), now=6)
    assert {len(move.targets) for move in moves} == {2}
    assert len({move.targets for move in moves}) > 2


def test_cancelled_moves_are_chosen_again() -> None:
    """A run that is stopped and restarted chooses again what had been queued and not begun."""
    policy = parse("from_devices=1 limit_by=size limit=100k")
    state, moved = run("limit_by=size limit=100k")
    assert moved == list(range(1, 11))
    back = rebalance.cancel_moves(policy, state, FILES[4:])
    assert (back.sdev_lastfid, back.fids_queued, back.bytes_queued) == (4, 4, 10_000)
    assert back.sdev_limit == 102_400 - 10_000
    newest = parse("from_devices=1 fid_age=new")
    assert rebalance.cancel_moves(newest, state, FILES[:3]).sdev_lastfid == 4
    assert rebalance.cancel_moves(policy, state, []) == state


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8))
def test_balancing_never_overshoots(used: list[int]) -> None:
    """The policy takes only from the fuller half, and never more than brings a device to the mean."""
    devices = [Device(n, n, DeviceState.ALIVE, mb_total=1000, mb_used=each) for n, each in enumerate(used, 1)]
    mean = sum(used) / len(used)
    text = balancing_policy(devices)
    if text is None:
        assert max(used) - mean <= 20 or mean - min(used) <= 20
        return
    policy = parse(text)
    assert policy.limit is not None
    assert not policy.from_devices & policy.to_devices
    for devid in policy.from_devices:
        assert used[devid - 1] - policy.limit / 2**20 >= mean - 1
    for devid in policy.to_devices:
        assert used[devid - 1] < mean


def test_a_balanced_store_needs_no_policy() -> None:
    """Nothing is moved if all devices are about equally full, or their sizes are unknown."""
    assert balancing_policy(FOUR.devices.values()) is None
    assert balancing_policy([]) is None
    assert balancing_policy([Device(1, 1, DeviceState.ALIVE)]) is None


def test_the_number_left_to_queue() -> None:
    """A limit for each source also counts for waiting sources; one for the whole run does not; without a limit it is
    unknown."""
    state = RebalanceState(source_devs=(2, 3), sdev_current=1, sdev_limit=7, limit=4)
    assert left_to_queue(parse("limit_by=count limit=10"), state) == 27
    assert left_to_queue(parse("limit_by=size limit=1k limit_type=global"), state) == 4
    assert left_to_queue(parse("from_devices=1"), state) is None
