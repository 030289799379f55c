"""Simulates the loss of devices: which files would be lost, and whether the other devices could hold the rest.

Computed from placement groups, so that a few hundred represent millions of files. The copies that the policies require
are distributed over the devices with free space in the workers' order: files with the fewest copies first, emptiest
device first. A result that fits is reliable; an optimal order might fit more.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from tawara.model.cluster import MIB, Cluster, DeviceState
from tawara.model.errors import InvalidReplpolicy
from tawara.model.placement_groups import PlacementGroup
from tawara.model.policy import Copy, OverReplicated, Policy, Satisfied, Situation, parse
from tawara.model.policy.ideal import is_ideal
from tawara.model.safety import Safety, Tally, judge

PORTIONS = 200
"""Least number of portions into which all copies are divided, so that they spread over the devices."""


@dataclass(slots=True)
class ClassOutcome:
    """Effect of the loss on the files of one class."""

    files: int = 0
    lost: Tally = field(default_factory=Tally)
    """Files lost permanently, without those lost before."""
    waiting: Tally = field(default_factory=Tally)
    """Files whose remaining copies are on devices that cannot be read now."""
    short: Tally = field(default_factory=Tally)
    """Files without the copies that their policy requires, after all possible repairs."""
    compromised: Tally = field(default_factory=Tally)
    """Files whose policy is satisfied only because there are few hosts, networks or devices."""
    copies: int = 0
    """Copies to be made."""
    bytes: int = 0
    """Bytes of these copies."""


@dataclass(slots=True)
class LossOutcome:
    """Effect of a loss."""

    lost_devices: tuple[int, ...]
    classes: dict[tuple[int, int], ClassOutcome]
    """By dmid and classid."""
    before: Safety
    after: Safety
    """Right after the loss, before any repair."""
    repaired: Safety
    """After all possible repairs."""
    filled: dict[int, int]
    """Devid -> bytes of new copies."""
    space: dict[int, int]
    """Devid -> free bytes before the repair, without devices of unknown size."""
    out_of_space: tuple[int, ...]
    """The devices that would become full."""
    elsewhere: int = 0
    """Files one failure from loss that were not simulated because they are on none of the lost devices."""

    def total(self, name: str) -> Tally:
        """Sum one of the tallies of `ClassOutcome` over all classes."""
        tallies = [getattr(each, name) for each in self.classes.values()]
        return Tally(sum(each.files for each in tallies), sum(each.bytes for each in tallies))

    def one_failure(self, when: str) -> int:
        """Return the files that one failing disk would lose `before` the loss, `after` it, or when `repaired`."""
        safety: Safety = getattr(self, when)
        return self.elsewhere + safety.one_disk.files

    @property
    def copies(self) -> int:
        """Copies to be made."""
        return sum(each.copies for each in self.classes.values())

    @property
    def bytes(self) -> int:
        """Bytes of these copies."""
        return sum(each.bytes for each in self.classes.values())

    @property
    def holds_all(self) -> bool:
        """Whether no file is lost and every policy can be satisfied again."""
        return not (self.total("lost").files or self.total("short").files or self.total("waiting").files)

    def seconds(self, files_a_second: float | None, bytes_a_second: float | None = None) -> float | None:
        """Estimate the repair time at these rates, the slower one deciding; None if neither is known."""
        times = [
            amount / rate
            for amount, rate in ((self.copies, files_a_second), (self.bytes, bytes_a_second))
            if rate is not None and rate > 0
        ]
        return max(times, default=None)


def without(cluster: Cluster, lost: Iterable[int]) -> Cluster:
    """Return the cluster with these devices dead."""
    gone = set(lost)
    devices = {
        devid: replace(device, state=DeviceState.DEAD) if devid in gone else device
        for devid, device in cluster.devices.items()
    }
    observed = {devid: seen for devid, seen in cluster.observed.items() if devid not in gone}
    return replace(cluster, devices=devices, observed=observed)


def lose(cluster: Cluster, groups: Sequence[PlacementGroup], lost: Iterable[int]) -> LossOutcome:
    """Simulate the simultaneous and permanent loss of these devices."""
    gone = tuple(sorted(set(lost) & cluster.devices.keys()))
    rest = without(cluster, gone)
    simulated = _CopySimulation(rest)
    classes: dict[tuple[int, int], ClassOutcome] = {}
    settled: list[PlacementGroup] = []
    to_repair: list[tuple[PlacementGroup, Policy, int]] = []
    for group in groups:
        outcome = classes.setdefault((group.dmid, group.classid), ClassOutcome())
        outcome.files += group.files
        left = [devid for devid in group.devids if rest.counts_as_replica(devid)]
        rule = _rule(cluster, group)
        if not left:
            if any(cluster.counts_as_replica(devid) for devid in group.devids):
                outcome.lost.add(group)
            settled.append(group)
        elif not any(rest.should_read_from(devid) for devid in left):
            outcome.waiting.add(group)
            settled.append(group)
        elif rule is None:
            settled.append(group)
        else:
            to_repair.append((replace(group, devids=tuple(left)), *rule))
    to_repair.sort(key=lambda each: len(each[0].devids))
    simulated.portion = max(1, sum(group.files for group, _, _ in to_repair) // PORTIONS)
    for group, policy, mindevcount in to_repair:
        settled += simulated.make_copies(group, policy, mindevcount, classes[group.dmid, group.classid])
    return LossOutcome(
        lost_devices=gone,
        classes=classes,
        before=judge(cluster, groups),
        after=judge(rest, groups),
        repaired=judge(rest, settled),
        filled={devid: number for devid, number in simulated.filled.items() if number},
        space=simulated.counted_once,
        out_of_space=tuple(sorted(simulated.exhausted)),
    )


def _rule(cluster: Cluster, group: PlacementGroup) -> tuple[Policy, int] | None:
    storage_class = cluster.storage_class(group.dmid, group.classid)
    if storage_class is None:
        return None
    try:
        return parse(storage_class.policy), storage_class.mindevcount
    except InvalidReplpolicy:
        return None


class _CopySimulation:
    """The free space of the devices, filled step by step."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._rng = random.Random(0)  # noqa: S311 - the order within a policy's result is not used
        self._answers: dict[tuple[object, ...], frozenset[int] | None] = {}
        self._ideal: dict[tuple[object, ...], bool] = {}
        self.portion = 1
        self.space = {
            devid: max(0, (device.mb_free - cluster.min_free_mb) * MIB)
            for devid, device in cluster.devices.items()
            if device.mb_free is not None and cluster.should_get_new_files(devid)
        }
        self.filled = dict.fromkeys(cluster.devices, 0)
        self._space = {devid: cluster.file_systems.get(devid, devid) for devid in cluster.devices}
        """Lowest devid on the file system of each device; devices on one file system share their space."""
        self._taken = dict.fromkeys(self._space.values(), 0)
        self.exhausted: set[int] = set()

    @property
    def counted_once(self) -> dict[int, int]:
        """Return the free space of each file system, by its first device with any."""
        found: dict[int, tuple[int, int]] = {}
        for devid, space in sorted(self.space.items()):
            found.setdefault(self._space[devid], (devid, space))
        return dict(found.values())

    def make_copies(
        self, group: PlacementGroup, policy: Policy, mindevcount: int, outcome: ClassOutcome
    ) -> list[PlacementGroup]:
        """Make the possible copies of a group; return the resulting groups."""
        done: list[PlacementGroup] = []
        waiting = [group]
        full: set[int] = set()
        while waiting:
            part = waiting.pop()
            places = self._places(part, policy, mindevcount, frozenset(full))
            if places is None:
                if not self._is_ideal(part, policy, mindevcount):
                    outcome.compromised.add(part)
                done.append(part)
            elif not places:
                outcome.short.add(part)
                done.append(part)
            else:
                chosen = max(places, key=lambda devid: (self._left(devid), devid))
                copied = self._copy(part, chosen, outcome)
                waiting += copied or [part]
                if not copied:
                    full.add(chosen)
        self.exhausted |= full
        return done

    def _copy(self, part: PlacementGroup, devid: int, outcome: ClassOutcome) -> list[PlacementGroup]:
        """Copy one portion, or as much as fits; return the copied group and the rest."""
        size = -(-part.bytes // part.files) if part.files else 0
        fitting = part.files if not size else int(min(part.files, self._left(devid) // size))
        files = min(fitting, max(self.portion, 1))
        if files <= 0:
            return []
        number = part.bytes if files == part.files else files * part.bytes // part.files
        self.filled[devid] += number
        self._taken[self._space[devid]] += number
        outcome.copies += files
        outcome.bytes += number
        copied = replace(part, devids=tuple(sorted((*part.devids, devid))), files=files, bytes=number)
        rest = replace(part, files=part.files - files, bytes=part.bytes - number)
        return [rest, copied] if rest.files else [copied]

    def _is_ideal(self, part: PlacementGroup, policy: Policy, mindevcount: int) -> bool:
        """See `policy.ideal`. Policies depend only on a device's host."""
        situation = Situation.of(self._cluster, part.devids, mindevcount)
        asked = policy, mindevcount, tuple(sorted(map(situation.host, situation.on)))
        if asked not in self._ideal:
            self._ideal[asked] = is_ideal(policy, situation, self._rng)
        return self._ideal[asked]

    def _left(self, devid: int) -> float:
        space = self.space.get(devid)
        return float("inf") if space is None else space - self._taken[self._space[devid]]

    def _places(
        self, part: PlacementGroup, policy: Policy, mindevcount: int, full: frozenset[int]
    ) -> frozenset[int] | None:
        """Return the devices for the next copy: none if no device is possible, None if the policy is satisfied."""
        asked = policy, mindevcount, part.devids, full
        if asked not in self._answers:
            situation = Situation.of(self._cluster, part.devids, mindevcount, failed=full)
            answer = policy.decide(situation, self._rng)
            if isinstance(answer, Satisfied | OverReplicated):
                self._answers[asked] = None
            else:
                choices = answer.ideal or answer.desperate if isinstance(answer, Copy) else ()
                self._answers[asked] = frozenset(choices)
        return self._answers[asked]
