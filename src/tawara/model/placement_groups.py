"""Counts of files by the set of devices that hold them: a few hundred groups for millions of files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlacementGroup:
    """All files of one class that lie on exactly these devices."""

    dmid: int
    classid: int
    devids: tuple[int, ...]
    """In order; none for files that have no replica."""
    files: int
    bytes: int
    """Of one copy each."""


@dataclass(frozen=True, slots=True)
class PlacementGroups:
    """All groups, as they were counted."""

    at: int
    """When it was last true, unix seconds."""
    took: float
    """Seconds that the counting took."""
    mark: str
    """See `metadata.placement_counts.change_mark`."""
    groups: tuple[PlacementGroup, ...]

    @property
    def files(self) -> int:
        """How many files there are."""
        return sum(each.files for each in self.groups)


def merged(groups: Iterable[PlacementGroup]) -> tuple[PlacementGroup, ...]:
    """The same files with one group for each class and set of devices, in order."""
    totals: dict[tuple[int, int, tuple[int, ...]], tuple[int, int]] = {}
    for each in groups:
        name = each.dmid, each.classid, each.devids
        files, size = totals.get(name, (0, 0))
        totals[name] = files + each.files, size + each.bytes
    return tuple(PlacementGroup(*name, *total) for name, total in sorted(totals.items()))
