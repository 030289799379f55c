"""What the database knows of files: stored contents, uploads under way, and the work that is queued for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from tawara.model.cluster import Checksum


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One immutable content that a key names (schema: `file`, `file_on`, `tawara_file`)."""

    fid: int
    dmid: int
    key: bytes
    length: int
    """Bytes."""
    classid: int
    devcount: int
    """The stored column, which may lag behind `devids`."""
    devids: tuple[int, ...] = ()
    """The devices that have a replica, in no particular order."""
    stored_at: int | None = None
    """When the key was given this content, unix seconds; None for files that MogileFS stored."""
    content_type: str | None = None
    """The media type that the uploader gave."""
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class NewFile:
    """A content that is whole and fsynced on its devices, and the key that will name it.

    What a writer passes to the database to close an upload; see `metadata.files.close_upload`.
    """

    fid: int
    dmid: int
    key: bytes
    length: int
    """Bytes."""
    classid: int
    devids: Sequence[int]
    """The devices that have a replica."""
    checksum: Checksum | None = None
    content_type: str | None = None
    """The media type that the uploader gave."""
    mtime_ns: int | None = None
    """When the uploader's own file was last changed, unix time in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file between create_open and create_close (schema: `tempfile`)."""

    fid: int
    dmid: int
    key: bytes
    classid: int
    devids: tuple[int, ...]
    """The devices that were offered to the client."""
    created_at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Replication:
    """A fid that may need more (or fewer) replicas (schema: `file_to_replicate`)."""

    fid: int
    nexttry: int
    from_devid: int | None
    failcount: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Deletion:
    """A fid that no key names any more, and whose bytes are to go (schema: `file_to_delete2`)."""

    fid: int
    nexttry: int
    failcount: int


class CopyReservation(NamedTuple):
    """A reserved replica that is being written or cleaned up, as its holder knows it (schema: `tawara_copy`).

    No two holders of one place ever have the same lease, for a later one begins when an earlier one has run out: who
    finds another lease in the row knows that the place is not his any more.
    """

    fid: int
    devid: int
    lease: int
    """Until when, unix seconds; negative while it is being swept."""


class TaskType(IntEnum):
    """What a fid waits for in `file_to_queue` (schema: `type`)."""

    CHECK = 1
    """To be looked at by a check (fsck)."""
    MOVE = 2
    """To be moved to another device (rebalance)."""
    SCRUB = 3
    """To be read whole by the continuous scrub; ours, unknown to MogileFS."""
    DRAIN = 4
    """To be moved away from a device that is being emptied; ours."""


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """A fid with a queued task (schema: `file_to_queue`)."""

    fid: int
    task_type: TaskType
    nexttry: int
    failcount: int
    devid: int | None = None
    """For a move: from where."""
    arg: str = ""
    """For a move: to which devices, with commas between."""
