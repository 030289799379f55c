"""The input of a replication policy and its four possible results (docs/mogilefs.md 10.1)."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeAlias

from tawara.model.cluster import Cluster, Device
from tawara.model.placement import EMPTIEST_COUNT, weighted_shuffle


@dataclass(frozen=True, slots=True)
class Satisfied:
    """Enough copies, in the right places."""


@dataclass(frozen=True, slots=True)
class OverReplicated:
    """More copies than required; see `pick_surplus`."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """More copies are required, but no device can take one now."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Make one more copy on the first device that accepts it, of `ideal`, else of `desperate`; then decide again."""

    ideal: tuple[int, ...]
    """Devids, best first, where a copy helps to satisfy the policy."""
    desperate: tuple[int, ...] = ()
    """Devids, best first, where a copy is only better than none."""

    @property
    def choices(self) -> tuple[int, ...]:
        """All devices, in the order in which to try them."""
        return self.ideal + self.desperate


PolicyResult: TypeAlias = Satisfied | OverReplicated | NoAnswer | Copy


@dataclass(frozen=True)
class Situation:
    """The input of a policy for one fid. Create it with `of`."""

    cluster: Cluster
    on: frozenset[int]
    """The devices whose copies count."""
    mindevcount: int
    """Number of copies that the class requires, unless the policy has its own number."""
    failed: frozenset[int] = frozenset()
    """Devices to avoid: they failed in this attempt, or are draining."""
    size: int = 0
    """Bytes of the file; a device with less space is no candidate."""

    @classmethod
    def of(
        cls, cluster: Cluster, devids: Iterable[int], mindevcount: int, *, failed: Iterable[int] = (), size: int = 0
    ) -> Situation:
        """Return the situation of a fid with replicas on `devids`; devices that do not count are ignored
        (docs/mogilefs.md 8.1)."""
        on = frozenset(devid for devid in devids if cluster.counts_as_replica(devid))
        return cls(cluster, on, mindevcount, frozenset(failed), size)

    def with_copy(self, devid: int) -> Situation:
        """Return the situation with one more copy."""
        return Situation(self.cluster, self.on | {devid}, self.mindevcount, self.failed, self.size)

    def without_copy(self, devid: int) -> Situation:
        """Return the situation with one copy less."""
        return Situation(self.cluster, self.on - {devid}, self.mindevcount, self.failed, self.size)

    def host(self, devid: int) -> int:
        """Return the hostid of a device."""
        return self.cluster.devices[devid].hostid

    @property
    def hosts_on(self) -> frozenset[int]:
        """The hosts with a copy."""
        return frozenset(map(self.host, self.on))

    @property
    def total_disks(self) -> int:
        """Number of devices that are neither dead nor presumed dead."""
        return self.cluster.total_disks

    @property
    def hosts_alive(self) -> frozenset[int]:
        """The hosts of the devices in state alive."""
        return self.cluster.hosts_alive

    @property
    def alive(self) -> tuple[int, ...]:
        """The devices in state alive that are not presumed dead."""
        return self.cluster.alive

    @property
    def candidates(self) -> list[int]:
        """The devices that can take a copy now, emptiest first."""
        cluster = self.cluster
        return [each.devid for each in cluster.accepting + cluster.accepting_of_unknown_size if self._may_take(each)]

    def best_elsewhere(self, hosts: Collection[int]) -> list[int]:
        """Return the emptiest candidates on other hosts, as many as `in_order` considers."""
        cluster = self.cluster
        known = (each.devid for each in cluster.accepting if each.hostid not in hosts and self._may_take(each))
        found = list(islice(known, EMPTIEST_COUNT))
        if cluster.accepting_of_unknown_size:
            unknown = cluster.accepting_of_unknown_size
            found += [each.devid for each in unknown if each.hostid not in hosts and self._may_take(each)]
        return found

    def best_on(self, hosts: Collection[int]) -> list[int]:
        """Return the candidates on these hosts, emptiest first."""
        by_host = self.cluster.accepting_by_host
        found = [each for hostid in hosts for each in by_host.get(hostid, ()) if self._may_take(each)]
        if len(hosts) > 1:
            found.sort(key=lambda device: device.percent_free, reverse=True)
        return [each.devid for each in found]

    def _may_take(self, device: Device) -> bool:
        devid = device.devid
        if devid in self.on or devid in self.failed:
            return False
        free = self.cluster.free_bytes.get(devid)
        return free is None or free > self.size


def in_order(situation: Situation, devids: Sequence[int], rng: random.Random) -> tuple[int, ...]:
    """Return the candidates `devids`, given emptiest first, in the order to try them (docs/mogilefs.md 10.2).

    The `EMPTIEST_COUNT` emptiest are shuffled, weighted by free space; devices of unknown size follow in random order.
    """
    if not devids:
        return ()
    shares = situation.cluster.free_shares
    known = [(devid, shares[devid]) for devid in devids if devid in shares]
    unknown = [devid for devid in devids if devid not in shares] if len(known) < len(devids) else []
    rng.shuffle(unknown)
    return (*weighted_shuffle(known[:EMPTIEST_COUNT], rng), *unknown)


class Policy(Protocol):
    """Decides how many copies a file should have, and where."""

    def decide(self, situation: Situation, rng: random.Random) -> PolicyResult:
        """Decide the next action for a file; called again after each copy. `rng` spreads the load over the devices."""
        ...


def is_content(policy: Policy, situation: Situation, rng: random.Random) -> bool:
    """Whether the policy requires no further copy."""
    return isinstance(policy.decide(situation, rng), Satisfied | OverReplicated)
