"""Files made of ranges of other files: which devices hold all of them, and which checksum follows without reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tawara.model.checksums import combine
from tawara.model.cluster import Checksum, HashType
from tawara.model.files import StoredFile

MOST_RANGES: Final = 10_000
"""Most ranges that one file may be made of."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of the bytes of a fid."""

    fid: int
    start: int
    """Offset of the first byte."""
    length: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class FileRange:
    """A range of the bytes of a stored file."""

    file: StoredFile
    start: int
    """Offset of the first byte."""
    length: int
    """Bytes."""

    @classmethod
    def whole(cls, file: StoredFile) -> FileRange:
        """Return the range of all bytes of a file."""
        return cls(file, 0, file.length)

    @property
    def is_whole(self) -> bool:
        """Whether these are all bytes of the file."""
        return self.start == 0 and self.length == self.file.length

    @property
    def byte_range(self) -> ByteRange:
        """The range without the facts about its file."""
        return ByteRange(self.file.fid, self.start, self.length)


def total_length(ranges: Iterable[ByteRange | FileRange]) -> int:
    """Return the bytes of the file that consists of `ranges`."""
    return sum(each.length for each in ranges)


def devices_of_all(ranges: Iterable[FileRange]) -> frozenset[int]:
    """Return the devices that hold the files of all ranges; none without a range."""
    held = [frozenset(each.file.devids) for each in ranges]
    return frozenset.intersection(*held) if held else frozenset()


def known_checksum(hashtype: HashType, ranges: Sequence[FileRange]) -> Checksum | None:
    """Return the checksum of the file that consists of `ranges`, if it follows from those of their files.

    None if it can only be computed from the bytes.
    """
    if not all(each.is_whole for each in ranges):
        return None
    if len(ranges) == 1 and (only := ranges[0].file.checksum) is not None and only.hashtype is hashtype:
        return only
    return combine(hashtype, [(each.file.checksum, each.length) for each in ranges])
