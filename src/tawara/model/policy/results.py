"""The input of a replication policy and its four possible results (docs/mogilefs.md 10.1)."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeAlias

from tawara.model.cluster import Cluster, Device
from tawara.model.placement import FREEST, weighted_shuffle


@dataclass(frozen=True, slots=True)
class Satisfied:
    """Enough copies, in the right places."""


@dataclass(frozen=True, slots=True)
class OverReplicated:
    """More copies than were asked for; see `pick_surplus`."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """More copies are wanted, and no device can take one now."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Make one more copy on the first device that takes it, of `ideal` if any, else of `desperate`; then ask again."""

    ideal: tuple[int, ...]
    """Device ids, best first: a copy there brings the policy nearer to being satisfied."""
    desperate: tuple[int, ...] = ()
    """Device ids, best first: better than no further copy at all."""

    @property
    def choices(self) -> tuple[int, ...]:
        """All of them, in the order in which to try them."""
        return self.ideal + self.desperate


PolicyResult: TypeAlias = Satisfied | OverReplicated | NoAnswer | Copy


@dataclass(frozen=True)
class Situation:
    """One fid as its policy sees it. Make it with `of`."""

    cluster: Cluster
    on: frozenset[int]
    """The devices whose copies count."""
    mindevcount: int
    """What the class asks for, unless the policy names a number itself."""
    failed: frozenset[int] = frozenset()
    """Devices to leave alone: they failed this round, or are to be emptied."""
    size: int = 0
    """Bytes of the file; a device with less space is no candidate."""

    @classmethod
    def of(
        cls, cluster: Cluster, devids: Iterable[int], mindevcount: int, *, failed: Iterable[int] = (), size: int = 0
    ) -> Situation:
        """What is known of a fid with replicas on `devids`; only those on devices that count as replicas do
        (docs/mogilefs.md 8.1)."""
        on = frozenset(devid for devid in devids if cluster.counts_as_replica(devid))
        return cls(cluster, on, mindevcount, frozenset(failed), size)

    def with_copy(self, devid: int) -> Situation:
        """The same with one copy more."""
        return Situation(self.cluster, self.on | {devid}, self.mindevcount, self.failed, self.size)

    def without_copy(self, devid: int) -> Situation:
        """The same with one copy less."""
        return Situation(self.cluster, self.on - {devid}, self.mindevcount, self.failed, self.size)

    def host(self, devid: int) -> int:
        """The id of the device's host."""
        return self.cluster.devices[devid].hostid

    @property
    def hosts_on(self) -> frozenset[int]:
        """The hosts with a copy."""
        return frozenset(map(self.host, self.on))

    @property
    def total_disks(self) -> int:
        """How many devices could have a copy: those that are not dead, nor presumed so."""
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
        """The devices that can take a copy now, the emptiest first."""
        cluster = self.cluster
        return [each.devid for each in cluster.accepting + cluster.accepting_of_unknown_size if self._may_take(each)]

    def best_elsewhere(self, hosts: Collection[int]) -> list[int]:
        """The emptiest candidates that are on none of these hosts, as many as `in_order` looks at."""
        cluster = self.cluster
        known = (each.devid for each in cluster.accepting if each.hostid not in hosts and self._may_take(each))
        found = list(islice(known, FREEST))
        if cluster.accepting_of_unknown_size:
            unknown = cluster.accepting_of_unknown_size
            found += [each.devid for each in unknown if each.hostid not in hosts and self._may_take(each)]
        return found

    def best_on(self, hosts: Collection[int]) -> list[int]:
        """The candidates on these hosts, the emptiest first."""
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
    """The candidates `devids`, the emptiest first, as they should be tried (10.2).

    Of the `FREEST` emptiest, the emptier the likelier in front; then those of unknown size in random order.
    """
    if not devids:
        return ()
    shares = situation.cluster.free_shares
    known = [(devid, shares[devid]) for devid in devids if devid in shares]
    unknown = [devid for devid in devids if devid not in shares] if len(known) < len(devids) else []
    rng.shuffle(unknown)
    return (*weighted_shuffle(known[:FREEST], rng), *unknown)


class Policy(Protocol):
    """Decides how many copies a file should have, and where."""

    def decide(self, situation: Situation, rng: random.Random) -> PolicyResult:
        """What to do next for a file. Asked again after every copy; `rng` spreads the choice over the devices."""
        ...


def is_content(policy: Policy, situation: Situation, rng: random.Random) -> bool:
    """Whether the policy wants no further copy."""
    return isinstance(policy.decide(situation, rng), Satisfied | OverReplicated)
