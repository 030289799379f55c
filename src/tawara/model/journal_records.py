"""What the devices know of the names of what they hold, and what follows when all that they know is put together.

Each device has a journal of records. A record says of one fid, on the journal's device, what was true when it was
written: which name the content has and that a replica is here; that no replica is here any more; or that the content
has no name any more. Records have versions, numbers from the database that grow with each change of a file. As a fid
is never given out again, one that has lost its name stays without for ever.

A generation is one life of the database: rebuilt or restored it begins another, greater one, whose versions are not
compared with those of the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from tawara.model.cluster import Checksum


class RecordState(StrEnum):
    """What a record says of its fid."""

    HERE = "here"
    """It has a name, and a replica on this device."""
    AWAY = "away"
    """It has no replica on this device (any more)."""
    GONE = "gone"
    """No key names it any more: deleted, or replaced."""


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """What is known of a content that has a name."""

    dmid: int
    key: bytes
    classid: int
    length: int
    stored_at: int | None = None
    content_type: str | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One line of a device's journal."""

    version: int
    fid: int
    standing: RecordState
    facts: FileMetadata | None = None
    """Given if, and only if, it is here."""


@dataclass(frozen=True, slots=True, order=True)
class SegmentPosition:
    """The round of a device's journal that a file of it belongs to; later ones are greater."""

    generation: int
    round: int


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file as it is found again."""

    fid: int
    facts: FileMetadata
    devids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """That a file has its name, and since when that is known."""

    file: NamedFile
    since: tuple[int, int]
    """Generation and version."""


@dataclass(frozen=True, slots=True)
class JournalEvidence:
    """What all journals together say, of all fids or of some."""

    files: Sequence[NamedFile]
    """At most one for each name, by fid."""
    gone: Mapping[int, tuple[int, ...]]
    """The fids that have no name any more, each with the devices that may still have its bytes."""
    rivals: Sequence[tuple[NamedFile, int]]
    """Files whose name a later one has, each with the fid of that: their own later change is not known."""


Name: TypeAlias = tuple[int, bytes]
"""A domain and a key."""
_Newest: TypeAlias = tuple[int, int, RecordState, FileMetadata | None]
"""Of the records of one fid in one journal: generation, version, and what it says."""


class JournalMerger:
    """Takes the records of some fids in any order, any number of times; what it says is the same whatever the order."""

    def __init__(self) -> None:
        self._newest: dict[int, dict[int, _Newest]] = {}
        """fid -> devid -> the newest record."""
        self._gone: dict[int, int] = {}
        """The fids that any journal says are gone, with the last generation in which one does."""

    def add(self, devid: int, generation: int, records: Iterable[JournalRecord]) -> None:
        """Take in records of a device's journal."""
        for record in records:
            if record.standing is RecordState.GONE:
                self._gone[record.fid] = max(generation, self._gone.get(record.fid, generation))
            newest = self._newest.setdefault(record.fid, {})
            seen = newest.get(devid)
            if seen is None or (generation, record.version) > seen[:2]:
                newest[devid] = (generation, record.version, record.standing, record.facts)

    def claims(self) -> tuple[list[KeyClaim], dict[int, tuple[int, ...]]]:
        """The files that have a name, by fid, though it may be a later one's; and the fids that have none any more."""
        gone: dict[int, tuple[int, ...]] = {}
        claims: list[KeyClaim] = []
        for fid, newest in sorted(self._newest.items()):
            places = {devid: each for devid, each in newest.items() if each[2] is not RecordState.AWAY}
            there = [each for each in places.values() if each[3] is not None]
            generation, version, _, facts = max(there, key=lambda each: each[:2], default=_NOTHING)
            if self._gone.get(fid, -1) >= generation:
                if fid in self._gone:
                    gone[fid] = tuple(sorted(places))
            elif facts is not None:
                claims.append(KeyClaim(NamedFile(fid, facts, tuple(sorted(places))), (generation, version)))
        return claims, gone


def name_of(file: NamedFile) -> Name:
    """What of a file no other may have."""
    return file.facts.dmid, file.facts.key


def evidence(
    claims: Iterable[KeyClaim], gone: Mapping[int, tuple[int, ...]], owner: Mapping[Name, int]
) -> JournalEvidence:
    """What follows when it is known to whom each name belongs."""
    files: list[NamedFile] = []
    rivals: list[tuple[NamedFile, int]] = []
    for file in (claim.file for claim in claims):
        if owner[name_of(file)] == file.fid:
            files.append(file)
        else:
            rivals.append((file, owner[name_of(file)]))
    return JournalEvidence(files, gone, rivals)


_NOTHING: _Newest = (-1, -1, RecordState.AWAY, None)


def to_read(rounds: Iterable[tuple[SegmentPosition, bool]]) -> SegmentPosition:
    """From which round on a device's journal is to be read, given its rounds and whether each is complete.

    A complete round has all that was true when it ended; older ones may have been deleted in part.
    """
    return max((place for place, whole in rounds if whole), default=SegmentPosition(0, 0))
