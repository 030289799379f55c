"""The question that a replication policy is asked, and its four possible answers (docs/mogilefs.md 10.1)."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from tawara.model.cluster import Cluster, DeviceState
from tawara.model.placement import MIB, by_free_space


@dataclass(frozen=True, slots=True)
class Happy:
    """Enough copies, in the right places."""


@dataclass(frozen=True, slots=True)
class TooHappy:
    """More copies than were asked for; see `pick_surplus`."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """More copies are wanted, and no device can take one now."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Make one more copy on the first device that takes it, of `ideal` if any, else of `desperate`; then ask again."""

    ideal: tuple[int, ...]
    """Device ids, best first: a copy there brings the policy nearer to being happy."""
    desperate: tuple[int, ...] = ()
    """Device ids, best first: better than no further copy at all."""

    @property
    def choices(self) -> tuple[int, ...]:
        """All of them, in the order in which to try them."""
        return self.ideal + self.desperate


Answer: TypeAlias = Happy | TooHappy | NoAnswer | Copy


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
    """Bytes of the file; a device with less room is no candidate."""

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
        return replace(self, on=self.on | {devid})

    def without_copy(self, devid: int) -> Situation:
        """The same with one copy less."""
        return replace(self, on=self.on - {devid})

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
        return sum(map(self.cluster.counts_as_replica, self.cluster.devices))

    @property
    def hosts_alive(self) -> frozenset[int]:
        """The hosts of the devices in state alive."""
        return frozenset(map(self.host, self.alive))

    @property
    def alive(self) -> list[int]:
        """The devices in state alive that are not presumed dead."""
        cluster = self.cluster
        return [
            devid
            for devid, device in cluster.devices.items()
            if device.state is DeviceState.ALIVE and not cluster.is_presumed_dead(devid)
        ]

    @property
    def candidates(self) -> list[int]:
        """The devices that can take a copy now, in no order."""
        return [devid for devid in self.cluster.devices if self._may_take(devid)]

    def _may_take(self, devid: int) -> bool:
        if devid in self.on or devid in self.failed or not self.cluster.should_get_new_files(devid):
            return False
        free = self.cluster.devices[devid].mb_free
        return free is None or free * MIB > self.size


def in_order(situation: Situation, devids: Iterable[int], rng: random.Random) -> tuple[int, ...]:
    """The devices as they should be tried: the emptier the likelier in front, those of unknown size last
    (docs/mogilefs.md 10.2)."""
    devices = [situation.cluster.devices[devid] for devid in devids]
    known = by_free_space((device for device in devices if device.mb_free is not None), rng)
    unknown = [device for device in devices if device.mb_free is None]
    rng.shuffle(unknown)
    return tuple(device.devid for device in (*known, *unknown))


class Policy(Protocol):
    """Decides how many copies a file should have, and where."""

    def decide(self, situation: Situation, rng: random.Random) -> Answer:
        """What to do next for a file. Asked again after every copy; `rng` spreads the choice over the devices."""
        ...


def is_content(policy: Policy, situation: Situation, rng: random.Random) -> bool:
    """Whether the policy wants no further copy."""
    return isinstance(policy.decide(situation, rng), Happy | TooHappy)
