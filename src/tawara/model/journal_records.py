"""Records of the metadata journals on the devices, and their merge into the current state of each file.

Each device has a journal. A record states the condition of one fid on that device at the time of writing: the file's
key and that a replica is on the device; that no replica is on the device any more; or that the fid has no key any more.
Records have versions: numbers from the database that increase with each change of a file. Since fids are never reused,
a fid that has lost its key never gets one again.

A rebuilt or restored database starts a new, greater generation; versions of different generations are not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from tawara.model.cluster import Checksum


class RecordState(StrEnum):
    """State of a fid in a record."""

    HERE = "here"
    """It has a key, and a replica on this device."""
    AWAY = "away"
    """It has no replica on this device (any more)."""
    GONE = "gone"
    """It has no key any more: deleted or replaced."""


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """Metadata of a file in a journal."""

    dmid: int
    key: bytes
    classid: int
    length: int
    stored_at: int | None = None
    content_type: str | None = None
    checksum: Checksum | None = None
    etag: str | None = None
    attributes: bytes | None = None


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One record of a device's journal."""

    version: int
    fid: int
    state: RecordState
    facts: FileMetadata | None = None
    """Present if and only if the state is HERE."""


@dataclass(frozen=True, slots=True, order=True)
class SegmentPosition:
    """Generation and round of a journal file; later ones compare greater."""

    generation: int
    round: int


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file found in the journals."""

    fid: int
    facts: FileMetadata
    devids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """A file's claim to its key, with the version of the record."""

    file: NamedFile
    since: tuple[int, int]
    """Generation and version of the record."""


@dataclass(frozen=True, slots=True)
class JournalEvidence:
    """The merged content of all journals, for all fids or a range."""

    files: Sequence[NamedFile]
    """At most one for each key, in order of fid."""
    gone: Mapping[int, tuple[int, ...]]
    """Fids without a key, with the devices that may still hold their bytes."""
    rivals: Sequence[tuple[NamedFile, int]]
    """Files whose key belongs to a later file, with its fid; the record of their replacement is missing."""


Name: TypeAlias = tuple[int, bytes]
"""A domain and a key."""
_Newest: TypeAlias = tuple[int, int, RecordState, FileMetadata | None]
"""The newest record of one fid in one journal: generation, version, state, metadata."""


class JournalMerger:
    """Merges records of some fids; the result does not depend on their order or repetition."""

    def __init__(self) -> None:
        self._newest: dict[int, dict[int, _Newest]] = {}
        """fid -> devid -> the newest record."""
        self._gone: dict[int, int] = {}
        """Fids that are GONE in any journal, with the greatest generation of such a record."""

    def add(self, devid: int, generation: int, records: Iterable[JournalRecord]) -> None:
        """Add records of a device's journal."""
        for record in records:
            if record.state is RecordState.GONE:
                self._gone[record.fid] = max(generation, self._gone.get(record.fid, generation))
            newest = self._newest.setdefault(record.fid, {})
            seen = newest.get(devid)
            if seen is None or (generation, record.version) > seen[:2]:
                newest[devid] = (generation, record.version, record.state, record.facts)

    def claims(self) -> tuple[list[KeyClaim], dict[int, tuple[int, ...]]]:
        """Return the claims of the files to their keys, by fid (several may claim one key), and the deleted fids."""
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
    """Return the domain and key of a file, which are unique."""
    return file.facts.dmid, file.facts.key


def evidence(
    claims: Iterable[KeyClaim], gone: Mapping[int, tuple[int, ...]], owner: Mapping[Name, int]
) -> JournalEvidence:
    """Return the merged evidence, given the owner of each key."""
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
    """Return the first round of a device's journal to read, given its rounds and whether each is complete.

    A complete round has the full state at its end; older rounds may have been partly deleted.
    """
    return max((place for place, whole in rounds if whole), default=SegmentPosition(0, 0))
