"""Whether what would be rebuilt is what there is: the difference of two sets of names on some of the devices."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from tawara.model.journal_records import NamedFile


@dataclass
class Differences:
    """Files that would not come back as they are, by fid."""

    missing: dict[int, NamedFile] = field(default_factory=dict)
    """There are, and would not be rebuilt."""
    surplus: dict[int, NamedFile] = field(default_factory=dict)
    """Are not (any more), and would be rebuilt."""
    other: dict[int, tuple[NamedFile, NamedFile]] = field(default_factory=dict)
    """Would be rebuilt with another name, class, size, checksum, or on other devices: (as it is, as it would be)."""

    def __len__(self) -> int:
        return len(self.missing) + len(self.surplus) + len(self.other)

    @property
    def fids(self) -> set[int]:
        """Whom they are about."""
        return self.missing.keys() | self.surplus.keys() | self.other.keys()

    def only(self, fids: Set[int]) -> Differences:
        """Those about these fids."""
        return Differences(
            {fid: each for fid, each in self.missing.items() if fid in fids},
            {fid: each for fid, each in self.surplus.items() if fid in fids},
            {fid: each for fid, each in self.other.items() if fid in fids},
        )


def compare(live: Mapping[int, NamedFile], rebuilt: Mapping[int, NamedFile]) -> Differences:
    """What differs."""
    found = Differences()
    for fid, file in live.items():
        there = rebuilt.get(fid)
        if there is None:
            found.missing[fid] = file
        elif there != file:
            found.other[fid] = (file, there)
    found.surplus = {fid: file for fid, file in rebuilt.items() if fid not in live}
    return found
