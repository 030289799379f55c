"""Counts the files that are one failure from loss, from the placement counts and the observed devices.

Only copies that can be read now are counted; a copy on an unreachable device may return, but is not relied on.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tawara.model.cluster import Cluster
from tawara.model.errors import InvalidReplpolicy
from tawara.model.placement_groups import PlacementGroup
from tawara.model.policy import Situation, is_content, parse


@dataclass(slots=True)
class Tally:
    """A number of files, and the total bytes of one copy of each."""

    files: int = 0
    bytes: int = 0

    def add(self, group: PlacementGroup) -> None:
        """Add a group."""
        self.files += group.files
        self.bytes += group.bytes


@dataclass(slots=True)
class Safety:
    """Number of files by risk. Each file is in at most one of `lost`, `unreadable`, `one_device`."""

    files: int = 0
    bytes: int = 0
    lost: Tally = field(default_factory=Tally)
    """Files without a copy except on dead devices."""
    unreadable: Tally = field(default_factory=Tally)
    """Files with copies, none of which can be read now."""
    one_device: Tally = field(default_factory=Tally)
    """Files lost if one more device fails: exactly one copy can be read."""
    one_device_wanted: Tally = field(default_factory=Tally)
    """Those of `one_device` whose class requires only one copy."""
    one_disk: Tally = field(default_factory=Tally)
    """Files lost if one more disk fails: all readable copies are on one disk. Includes those of `one_device`."""
    one_disk_wanted: Tally = field(default_factory=Tally)
    """Those of `one_disk` whose class is satisfied with that."""
    one_host: Tally = field(default_factory=Tally)
    """Files lost if one more host fails: all readable copies are on one host."""
    one_host_wanted: Tally = field(default_factory=Tally)
    """Those of `one_host` whose class is satisfied with that."""
    unsatisfied: Tally = field(default_factory=Tally)
    """Files whose class requires more or other copies; copies on unreachable devices count."""
    by_device: dict[int, int] = field(default_factory=dict)
    """Devid -> files lost if that device fails."""
    by_disk: dict[int, int] = field(default_factory=dict)
    """Lowest devid on a disk -> files lost if that disk fails with all its devices."""
    by_host: dict[int, int] = field(default_factory=dict)
    """Hostid -> files lost if that host fails."""


def judge(cluster: Cluster, groups: Iterable[PlacementGroup]) -> Safety:
    """Evaluate the safety of the files of these groups. The time is proportional to the number of groups."""
    counter = _RiskCounter(cluster)
    for group in groups:
        counter.count(group)
    return counter.safety


class _RiskCounter:
    """Accumulates the figures, with the cluster's data needed for each group."""

    def __init__(self, cluster: Cluster) -> None:
        self.safety = Safety()
        self._cluster = cluster
        self._there = frozenset(devid for devid in cluster.devices if not cluster.is_lost(devid))
        self._readable = frozenset(filter(cluster.should_read_from, self._there))
        self._hosts = {devid: device.hostid for devid, device in cluster.devices.items()}
        self._disks = cluster.disks
        self._rng = random.Random(0)  # noqa: S311 - a policy's verdict does not depend on it
        self._content: dict[tuple[int, int, tuple[int, ...]], bool] = {}

    def count(self, group: PlacementGroup) -> None:
        """Add the files of a group."""
        safety = self.safety
        safety.files += group.files
        safety.bytes += group.bytes
        there = [devid for devid in group.devids if devid in self._there]
        readable = [devid for devid in there if devid in self._readable]
        content = self._is_content(group, there)
        if not content:
            safety.unsatisfied.add(group)
        if not there:
            safety.lost.add(group)
            return
        if not readable:
            safety.unreadable.add(group)
            return
        as_wished = content and len(readable) == len(there)
        if len(readable) == 1:
            safety.one_device.add(group)
            _add(safety.by_device, readable[0], group.files)
            if as_wished:
                safety.one_device_wanted.add(group)
        host = self._hosts[readable[0]]
        if any(self._hosts[devid] != host for devid in readable) and not self._disks:
            return
        disk, *other_disks = {self._disks.get(devid, devid) for devid in readable}
        if not other_disks:
            safety.one_disk.add(group)
            _add(safety.by_disk, disk, group.files)
            if as_wished:
                safety.one_disk_wanted.add(group)
        if all(self._hosts[devid] == host for devid in readable):
            safety.one_host.add(group)
            _add(safety.by_host, host, group.files)
            if as_wished:
                safety.one_host_wanted.add(group)

    def _is_content(self, group: PlacementGroup, there: Sequence[int]) -> bool:
        """Whether the class requires no more copies. Policies depend only on a device's host and whether it counts."""
        cluster = self._cluster
        counting = [devid for devid in there if not cluster.is_presumed_dead(devid)] if cluster.absences else there
        shape = group.dmid, group.classid, tuple(sorted([self._hosts[devid] for devid in counting]))
        known = self._content.get(shape)
        if known is None:
            if len(self._content) > _REMEMBERED:
                self._content.clear()
            known = self._content[shape] = is_satisfied_with(cluster, group, there, self._rng)
        return known


_REMEMBERED = 100_000
"""Most combinations of hosts for which a policy's verdict is cached."""


def _add(totals: dict[int, int], number: int, files: int) -> None:
    totals[number] = totals.get(number, 0) + files


def is_satisfied_with(cluster: Cluster, group: PlacementGroup, on: Iterable[int], rng: random.Random) -> bool:
    """Whether the class of a group is satisfied with copies on these devices; an unknown class is satisfied."""
    storage_class = cluster.storage_class(group.dmid, group.classid)
    if storage_class is None:
        return True
    try:
        policy = parse(storage_class.policy)
    except InvalidReplpolicy:
        return True
    return is_content(policy, Situation.of(cluster, on, storage_class.mindevcount), rng)
