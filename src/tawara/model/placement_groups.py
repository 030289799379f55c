"""Counts of files by the set of devices that hold them: a few hundred groups for millions of files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlacementGroup:
    """All files of one class whose replicas are on exactly these devices."""

    dmid: int
    classid: int
    devids: tuple[int, ...]
    """In order; empty for files without replicas."""
    files: int
    bytes: int
    """Total bytes of one copy of each file."""


@dataclass(frozen=True, slots=True)
class PlacementGroups:
    """The result of a count."""

    at: int
    """When it was last correct, unix seconds."""
    took: float
    """Duration of the count in seconds."""
    mark: str
    """See `metadata.placement_counts.change_mark`."""
    groups: tuple[PlacementGroup, ...]

    @property
    def files(self) -> int:
        """Number of files."""
        return sum(each.files for each in self.groups)


def merged(groups: Iterable[PlacementGroup]) -> tuple[PlacementGroup, ...]:
    """Merge groups of the same class and set of devices; return them in order."""
    totals: dict[tuple[int, int, tuple[int, ...]], tuple[int, int]] = {}
    for each in groups:
        name = each.dmid, each.classid, each.devids
        files, size = totals.get(name, (0, 0))
        totals[name] = files + each.files, size + each.bytes
    return tuple(PlacementGroup(*name, *total) for name, total in sorted(totals.items()))
