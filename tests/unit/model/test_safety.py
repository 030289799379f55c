"""The number of files that are one failure from loss."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import Cluster, DeviceState, Domain, Observation, Observed, StorageClass
from tawara.model.placement_groups import PlacementGroup, merged
from tawara.model.safety import Safety, judge
from tests.unit.model.clusters import cluster, clusters

CLASSES = {0: StorageClass(0, "default", 2), 1: StorageClass(1, "one", 1), 2: StorageClass(2, "bad", 2, "Nonsense(")}


def with_domain(seen: Cluster) -> Cluster:
    """The same cluster with a domain 1."""
    return replace(seen, domains={"d": Domain(1, "d", CLASSES)})


def group(*devids: int, files: int = 10, classid: int = 0) -> PlacementGroup:
    return PlacementGroup(1, classid, devids, files, files * 100)


def test_each_risk_is_counted_separately() -> None:
    """Each file counts as lost, unreadable, one device or one host from loss, independent of what its class wants."""
    seen = with_domain(cluster({1: [11, 12], 2: [21], 3: [31]}, dev31=DeviceState.DEAD))
    seen = seen.with_observations({**seen.observed, 21: Observation(Observed.UNREACHABLE)})
    safety = judge(
        seen,
        [
            group(files=1),
            group(31, files=2),
            group(21, files=4),
            group(11, 21, files=8),
            group(11, 12, files=16),
            group(12, 31, files=32),
            group(11, classid=1, files=64),
            group(21, classid=1, files=128),
        ],
    )
    assert safety.files == 255
    assert (safety.lost.files, safety.lost.bytes) == (1 + 2, 300)
    assert safety.unreadable.files == 4 + 128
    assert safety.one_device.files == 8 + 32 + 64
    assert safety.one_device_wanted.files == 64
    assert safety.one_host.files == 8 + 16 + 32 + 64
    assert safety.by_device == {11: 8 + 64, 12: 32}
    assert safety.by_host == {1: 8 + 16 + 32 + 64}
    assert safety.unsatisfied.files == 1 + 2 + 4 + 16 + 32


def test_two_copies_on_the_only_host() -> None:
    """Two copies on the only host are one host's failure from loss, but satisfy their class."""
    safety = judge(with_domain(cluster({1: [11, 12]})), [group(11, 12)])
    assert (safety.one_host.files, safety.one_host_wanted.files, safety.unsatisfied.files) == (10, 10, 0)
    assert safety.one_device.files == 0


def test_a_disk_with_too_few_copies_is_not_as_wished() -> None:
    """Files on one disk whose class requires more count as one failure from loss, but not as wanted so."""
    seen = with_domain(cluster({1: [11, 12], 2: [21]}))
    on = {devid: Observation(Observed.WRITEABLE, file_system="f", disk="sda") for devid in (11, 12)}
    seen = seen.with_observations({**seen.observed, **on})
    safety = judge(seen, [group(11, 12, files=4), group(11, files=8), group(11, classid=1, files=16)])
    assert safety.one_disk.files == 4 + 8 + 16
    assert safety.one_disk_wanted.files == 16
    assert safety.one_host_wanted.files == 16


def test_devices_on_one_disk_fail_together() -> None:
    """Copies on several devices of one disk are one failure from loss; the other figures are unchanged."""
    seen = with_domain(cluster({1: [11, 12, 13], 2: [21, 22]}))
    on = {devid: Observation(Observed.WRITEABLE, file_system="f", disk="sda") for devid in (11, 12, 21)}
    shared = seen.with_observations({**seen.observed, **on})
    files = [group(11, 12), group(11, 21, files=4), group(11, 22), group(13, files=2), group(12, 13)]
    apart, batched = judge(seen, files), judge(shared, files)
    assert (apart.one_disk, apart.by_disk) == (apart.one_device, {13: 2})
    assert batched.one_disk.files == 10 + 4 + 2
    assert batched.by_disk == {11: 10 + 4, 13: 2}
    assert (batched.one_device, batched.one_host) == (apart.one_device, apart.one_host)
    assert batched.one_disk_wanted.files == 4, "a class that is content with two hosts"


def test_unknown_classes() -> None:
    """Files of a deleted class, or one with an invalid policy, are evaluated by their copies alone."""
    seen = with_domain(cluster({1: [11], 2: [21]}))
    safety = judge(seen, [group(11, classid=9), group(11, 21, classid=2)])
    assert (safety.one_device.files, safety.unsatisfied.files) == (10, 0)


groups = st.lists(
    st.builds(
        PlacementGroup,
        st.just(1),
        st.integers(0, 2),
        st.sets(st.integers(1, 9), max_size=4).map(lambda devids: tuple(sorted(devids))),
        st.integers(1, 50),
        st.integers(0, 10**9),
    ),
    max_size=12,
)


def loss(seen: Cluster, all_groups: list[PlacementGroup], devids: set[int]) -> int:
    """The number of readable files that become unreadable when these devices fail."""

    def readable(failed: set[int]) -> int:
        return sum(
            each.files
            for each in all_groups
            if any(seen.should_read_from(devid) for devid in each.devids if devid not in failed)
        )

    return readable(set()) - readable(devids)


@given(clusters(), groups)
def test_the_figures_match_simulated_failures(seen: Cluster, all_groups: list[PlacementGroup]) -> None:
    """The failure of any one device, or host, loses exactly the files counted for it; merging groups changes
    nothing."""
    seen = with_domain(seen)
    safety: Safety = judge(seen, all_groups)
    for devid in seen.devices:
        assert loss(seen, all_groups, {devid}) == safety.by_device.get(devid, 0)
    for hostid in seen.hosts:
        devids = {devid for devid, device in seen.devices.items() if device.hostid == hostid}
        assert loss(seen, all_groups, devids) == safety.by_host.get(hostid, 0)
    assert sum(safety.by_device.values()) == safety.one_device.files
    assert sum(safety.by_host.values()) == safety.one_host.files
    assert safety.one_device_wanted.files <= safety.one_device.files <= safety.one_host.files
    assert safety.lost.files + safety.unreadable.files + safety.one_device.files <= safety.files
    assert judge(seen, merged(all_groups)) == safety
