"""Placement counts: number of files by class and set of devices, kept for ranges of fids.

A range with few sets keeps them (`groups`), so that the effect of a failure is computed on request. A range with many
sets, as with hundreds of devices, is evaluated when it is counted; it keeps the result with the devices' states at that
time (`JudgedView`). For devices whose state has changed since, `corrected` replaces their part of the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Final

from tawara.model.cluster import Cluster, DeviceState, Observation, Observed
from tawara.model.placement_groups import PlacementGroup, merged
from tawara.model.safety import Safety, Tally, judge

MOST_GROUPS: Final = 1500
"""Most groups kept for a range; a range with more is evaluated when it is counted."""


@dataclass(frozen=True, slots=True)
class JudgedView:
    """The device states that an evaluation depends on."""

    unreadable: frozenset[int] = frozenset()
    """Devices that could not be read at that time, but may return."""
    lost: frozenset[int] = frozenset()
    """Devices that were dead."""

    @classmethod
    def of(cls, cluster: Cluster) -> JudgedView:
        """Return the device states of a cluster."""
        lost = frozenset(filter(cluster.is_lost, cluster.devices))
        return cls(frozenset(d for d in cluster.devices if not cluster.should_read_from(d)) - lost, lost)

    def differs_at(self, other: JudgedView) -> frozenset[int]:
        """Return the devices whose state differs."""
        return (self.unreadable ^ other.unreadable) | (self.lost ^ other.lost)

    def applied(self, cluster: Cluster) -> Cluster:
        """Return the cluster with its devices in these states."""
        devices = {
            devid: replace(
                device,
                state=DeviceState.DEAD
                if devid in self.lost
                else DeviceState.ALIVE
                if cluster.is_lost(devid) or not cluster.can_read_from(devid)
                else device.state,
            )
            for devid, device in cluster.devices.items()
        }
        readable = Observation(Observed.READABLE)
        observed = {
            devid: Observation(Observed.UNREACHABLE)
            if devid in self.unreadable
            else seen
            if (seen := cluster.observed.get(devid)) and seen.state is not Observed.UNREACHABLE
            else readable
            for devid in cluster.devices
        }
        return replace(cluster, devices=devices, observed=observed)


@dataclass(frozen=True, slots=True)
class CountedRange:
    """The files with fids greater than `after`, up to and including `up_to`."""

    after: int
    up_to: int
    counted_at: int
    """Unix seconds."""
    took: float
    """Duration of the count in seconds."""
    files: int
    groups: tuple[PlacementGroup, ...] | None
    """None if there were too many to keep."""
    safety: Safety | None = None
    """The evaluation, if `groups` is None."""
    view: JudgedView = JudgedView()
    """Device states at the evaluation."""

    @classmethod
    def of(
        cls,
        after: int,
        up_to: int,
        groups: Sequence[PlacementGroup],
        cluster: Cluster,
        *,
        counted_at: int,
        took: float = 0.0,
        most: int = MOST_GROUPS,
    ) -> CountedRange:
        """Make a range that was just counted; evaluate it with `cluster` if it has more than `most` groups."""
        files = sum(each.files for each in groups)
        if len(groups) <= most:
            return cls(after, up_to, counted_at, took, files, tuple(groups))
        return cls(after, up_to, counted_at, took, files, None, judge(cluster, groups), JudgedView.of(cluster))


@dataclass(frozen=True)
class PlacementCounts:
    """The counts of all ranges, in order."""

    at: int
    """When they were last known to be correct, unix seconds."""
    took: float
    """Seconds to count all of them."""
    ranges: tuple[CountedRange, ...] = ()
    complete: bool = True
    """Whether all files are included; False until the first count is finished."""

    @property
    def files(self) -> int:
        """Number of files."""
        return sum(each.files for each in self.ranges)

    @cached_property
    def groups(self) -> tuple[PlacementGroup, ...] | None:
        """All groups; None if some range had too many to keep."""
        if any(each.groups is None for each in self.ranges):
            return None
        return merged(group for each in self.ranges for group in each.groups or ())

    @cached_property
    def kept(self) -> tuple[PlacementGroup, ...]:
        """The groups of the ranges that keep them."""
        return merged(group for each in self.ranges for group in each.groups or ())

    def judged(self) -> Mapping[JudgedView, Sequence[CountedRange]]:
        """The ranges that were evaluated when they were counted, by the device states at that time."""
        found: dict[JudgedView, list[CountedRange]] = {}
        for each in self.ranges:
            if each.groups is None:
                found.setdefault(each.view, []).append(each)
        return found

    def changed(self, cluster: Cluster) -> frozenset[int]:
        """Return the devices whose state has changed since some range was evaluated."""
        now = JudgedView.of(cluster)
        return frozenset().union(*(view.differs_at(now) for view in self.judged()))

    def safety(self, cluster: Cluster) -> Safety:
        """Return the safety of all files; ranges evaluated earlier are not updated."""
        found = judge(cluster, self.kept)
        for each in self.ranges:
            if each.safety is not None:
                add(found, each.safety)
        return found

    def corrected(self, cluster: Cluster, touched: Iterable[tuple[int, PlacementGroup]]) -> Safety:
        """Return the current safety; `touched` has fid and group of each file on a device in `changed`."""
        found = self.safety(cluster)
        now = JudgedView.of(cluster)
        files = list(touched)
        for view, ranges in self.judged().items():
            devids = view.differs_at(now)
            if not devids:
                continue
            spans = _Spans(ranges)
            about = merged(group for fid, group in files if fid in spans and not devids.isdisjoint(group.devids))
            add(found, judge(view.applied(cluster), about), sign=-1)
            add(found, judge(cluster, about))
        return found


class _Spans:
    """Membership test for the fids of some ranges; queried in ascending order."""

    def __init__(self, ranges: Sequence[CountedRange]) -> None:
        from bisect import bisect_left

        self._bisect = bisect_left
        self._ranges = sorted(ranges, key=lambda each: each.up_to)
        self._ends = [each.up_to for each in self._ranges]

    def __contains__(self, fid: int) -> bool:
        place = self._bisect(self._ends, fid)
        return place < len(self._ends) and self._ranges[place].after < fid


def add(total: Safety, more: Safety, *, sign: int = 1) -> None:
    """Add the figures `more` to `total`, or subtract them (`sign` -1)."""
    for each in fields(Safety):
        mine, theirs = getattr(total, each.name), getattr(more, each.name)
        if isinstance(mine, Tally):
            mine.files += sign * theirs.files
            mine.bytes += sign * theirs.bytes
        elif isinstance(mine, dict):
            for number, files in theirs.items():
                mine[number] = mine.get(number, 0) + sign * files
                if not mine[number]:
                    del mine[number]
        else:
            setattr(total, each.name, mine + sign * theirs)


def dumped(safety: Safety) -> dict[str, object]:
    """Convert to JSON values."""
    found: dict[str, object] = {}
    for each in fields(Safety):
        value = getattr(safety, each.name)
        found[each.name] = [value.files, value.bytes] if isinstance(value, Tally) else value
    return found


def loaded(found: Mapping[str, object]) -> Safety:
    """Convert the output of `dumped` back. Raises ValueError if a figure is missing."""
    safety = Safety()
    for each in fields(Safety):
        value, default = found.get(each.name), getattr(safety, each.name)
        match default, value:
            case Tally(), [int(files), int(size)]:
                setattr(safety, each.name, Tally(files, size))
            case dict(), dict():
                setattr(safety, each.name, {int(number): files for number, files in value.items()})
            case int(), int(number):
                setattr(safety, each.name, number)
            case _:
                raise ValueError(f"{each.name} is missing")
    return safety
