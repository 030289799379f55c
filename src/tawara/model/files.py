"""Values of the database about files: stored contents, open uploads and queued tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from tawara.model.cluster import Checksum


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The immutable content of a key (schema: `file`, `file_on`, `tawara_file`)."""

    fid: int
    dmid: int
    key: bytes
    length: int
    """Bytes."""
    classid: int
    devcount: int
    """The stored column `devcount`, which may lag behind `devids`."""
    devids: tuple[int, ...] = ()
    """The devices that have a replica, in no particular order."""
    stored_at: int | None = None
    """When the key got this content, unix seconds; None for files stored by MogileFS."""
    content_type: str | None = None
    """The media type given by the uploader."""
    checksum: Checksum | None = None
    etag: str | None = None
    """The entity tag of an object without quotes, if it is not the MD5 of the checksum."""
    attributes: bytes | None = None
    """Header fields stored with an object, encoded (wire.s3.attribute_record)."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A content that is complete and fsynced on its devices, and the key to assign it to.

    Passed to the database to close an upload; see `metadata.files.close_upload`.
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
    """The media type given by the uploader."""
    mtime_ns: int | None = None
    """Modification time of the uploaded file, unix time in nanoseconds."""
    etag: str | None = None
    """See StoredFile."""
    attributes: bytes | None = None
    """See StoredFile."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file between create_open and create_close (schema: `tempfile`)."""

    fid: int
    dmid: int
    key: bytes
    classid: int
    devids: tuple[int, ...]
    """The devices offered to the client."""
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
    """A fid without a key, whose bytes are to be deleted (schema: `file_to_delete2`)."""

    fid: int
    nexttry: int
    failcount: int


class CopyReservation(NamedTuple):
    """A reserved replica that is being written or cleaned up (schema: `tawara_copy`).

    A later reservation starts only after an earlier one has expired, so leases are unique: a worker that finds another
    lease in the row has lost its reservation.
    """

    fid: int
    devid: int
    lease: int
    """Expiry, unix seconds; negative while it is being cleaned up."""


class TaskType(IntEnum):
    """Type of a task in `file_to_queue` (schema: `type`)."""

    CHECK = 1
    """To be checked (fsck)."""
    MOVE = 2
    """To be moved to another device (rebalance)."""
    SCRUB = 3
    """To be read completely by the continuous scrub; unknown to MogileFS."""
    DRAIN = 4
    """To be moved away from a draining device; unknown to MogileFS."""


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """A fid with a queued task (schema: `file_to_queue`)."""

    fid: int
    task_type: TaskType
    nexttry: int
    failcount: int
    devid: int | None = None
    """For a move: the source device."""
    arg: str = ""
    """For a move: the target devices, separated by commas."""
