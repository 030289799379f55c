"""Compares the files of the live database with those that a rebuild from some of the devices would restore."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from tawara.model.journal_records import NamedFile


@dataclass
class Differences:
    """Files that a rebuild would not restore correctly, by fid."""

    missing: dict[int, NamedFile] = field(default_factory=dict)
    """Existing files that would not be restored."""
    surplus: dict[int, NamedFile] = field(default_factory=dict)
    """Files that do not exist (any more) and would be restored."""
    other: dict[int, tuple[NamedFile, NamedFile]] = field(default_factory=dict)
    """Files that would be restored with another key, class, size, checksum or devices: (live, rebuilt)."""

    def __len__(self) -> int:
        return len(self.missing) + len(self.surplus) + len(self.other)

    @property
    def fids(self) -> set[int]:
        """The fids of all differences."""
        return self.missing.keys() | self.surplus.keys() | self.other.keys()

    def only(self, fids: Set[int]) -> Differences:
        """Return the differences of these fids."""
        return Differences(
            {fid: each for fid, each in self.missing.items() if fid in fids},
            {fid: each for fid, each in self.surplus.items() if fid in fids},
            {fid: each for fid, each in self.other.items() if fid in fids},
        )


def compare(live: Mapping[int, NamedFile], rebuilt: Mapping[int, NamedFile]) -> Differences:
    """Return the differences between the live and the rebuilt files."""
    found = Differences()
    for fid, file in live.items():
        there = rebuilt.get(fid)
        if there is None:
            found.missing[fid] = file
        elif there != file:
            found.other[fid] = (file, there)
    found.surplus = {fid: file for fid, file in rebuilt.items() if fid not in live}
    return found
