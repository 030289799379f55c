"""How safe the files are: how many are one failure from loss, judged from the census and what is seen of the devices.

A copy is safe where it can be read now. One on a device that does not answer may come back, and is not counted on.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from tawara.model.census import Group
from tawara.model.cluster import Cluster
from tawara.model.errors import InvalidReplpolicy
from tawara.model.policy import Situation, is_content, parse


@dataclass(slots=True)
class Tally:
    """So many files, and the bytes of one copy of each."""

    files: int = 0
    bytes: int = 0

    def add(self, group: Group) -> None:
        """Count a group."""
        self.files += group.files
        self.bytes += group.bytes


@dataclass(slots=True)
class Safety:
    """How many files are in which danger. Each file is in at most one of `lost`, `unreadable`, `one_device`."""

    files: int = 0
    bytes: int = 0
    lost: Tally = field(default_factory=Tally)
    """No copy is left, but on dead devices."""
    unreadable: Tally = field(default_factory=Tally)
    """There are copies, and none can be read now."""
    one_device: Tally = field(default_factory=Tally)
    """One device more fails, and they are lost: exactly one copy can be read."""
    one_device_wanted: Tally = field(default_factory=Tally)
    """Those of `one_device` whose class wants no more than that."""
    one_host: Tally = field(default_factory=Tally)
    """One host more fails, and they are lost: all copies that can be read are on one host."""
    one_host_wanted: Tally = field(default_factory=Tally)
    """Those of `one_host` whose class is content with that."""
    discontent: Tally = field(default_factory=Tally)
    """Their class wants more copies, or others, than there are (those that only do not answer count as there)."""
    by_device: dict[int, int] = field(default_factory=dict)
    """Devid -> files that are lost if that device fails."""
    by_host: dict[int, int] = field(default_factory=dict)
    """Hostid -> files that are lost if that host fails."""


def judge(cluster: Cluster, groups: Iterable[Group]) -> Safety:
    """How safe the files of these groups are in this cluster."""
    safety = Safety()
    rng = random.Random(0)  # noqa: S311 - whether a policy is content does not depend on it
    for group in groups:
        _count(safety, cluster, group, rng)
    return safety


def _count(safety: Safety, cluster: Cluster, group: Group, rng: random.Random) -> None:
    safety.files += group.files
    safety.bytes += group.bytes
    there = [devid for devid in group.devids if not cluster.is_lost(devid)]
    readable = [devid for devid in there if cluster.should_read_from(devid)]
    content = wants_no_more(cluster, group, there, rng)
    if not content:
        safety.discontent.add(group)
    if not there:
        safety.lost.add(group)
        return
    if not readable:
        safety.unreadable.add(group)
        return
    as_wished = content and len(readable) == len(there)
    if len(readable) == 1:
        safety.one_device.add(group)
        safety.by_device[readable[0]] = safety.by_device.get(readable[0], 0) + group.files
        if as_wished:
            safety.one_device_wanted.add(group)
    host, *others = {cluster.devices[devid].hostid for devid in readable}
    if not others:
        safety.one_host.add(group)
        safety.by_host[host] = safety.by_host.get(host, 0) + group.files
        if as_wished:
            safety.one_host_wanted.add(group)


def wants_no_more(cluster: Cluster, group: Group, on: Iterable[int], rng: random.Random) -> bool:
    """Whether the class of a group is content with copies on these devices. One that is not known is content."""
    storage_class = cluster.storage_class(group.dmid, group.classid)
    if storage_class is None:
        return True
    try:
        policy = parse(storage_class.policy)
    except InvalidReplpolicy:
        return True
    return is_content(policy, Situation.of(cluster, on, storage_class.mindevcount), rng)
