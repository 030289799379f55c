"""Errors of a storage node, each with its HTTP status (docs/mogilefs.md 18.1).

The tracker distinguishes 400 and 501 (do not retry) and 404 from all others; the other codes are for operators.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from tawara.model.errors import (
    ConflictError,
    CorruptError,
    DeniedError,
    NotFoundError,
    TawaraError,
    UnavailableError,
    UsageError,
)


class InvalidPath(UsageError):
    """The path of a request or file is not valid on a storage node."""

    code = "invalid_path"
    message = "Invalid path: /devN/NAME..., of letters, digits, underscores, dots and hyphens, without .."
    hint = None


class MalformedRequest(UsageError):
    """The request is not valid HTTP."""

    code = "malformed_request"
    message = "Malformed request"
    hint = None


class LengthRequired(UsageError):
    """A PUT has neither Content-Length nor a chunked body."""

    code = "length_required"
    message = "A PUT needs Content-Length or Transfer-Encoding: chunked"
    hint = None
    http = 411


class TooLarge(UsageError):
    """The file exceeds the node's limit."""

    code = "too_large"
    message = "The file is larger than this node accepts"
    hint = None
    http = 413


class Stalled(UsageError):
    """No byte of the body arrived for too long."""

    code = "stalled"
    message = "The body did not arrive in time"
    hint = "Send it again."
    http = 408


class NoSuchFile(NotFoundError):
    """The device has no such file."""

    code = "no_such_file"
    message = "Not found"
    hint = None


class NoSuchDevice(NotFoundError):
    """The document root has no such device."""

    code = "no_such_device"
    message = "Base directory does not exist"
    hint = "Create the directory devN, or mount its disk."


class SourceMissing(NotFoundError):
    """A file cannot be assembled, because the device does not hold one of its sources."""

    code = "source_missing"
    message = "The device does not hold a source of this file; nothing was stored"
    hint = "Read the sources, and PUT the file."


class SourceTooShort(UsageError):
    """A file cannot be assembled, because a range reaches beyond the end of its source."""

    code = "source_too_short"
    message = "A range reaches beyond the end of its source; nothing was stored"
    hint = None
    http = 416


class Reserved(DeniedError):
    """The name is reserved for the node's own files."""

    code = "reserved"
    message = "This name is reserved for the node"
    hint = None
    http = 403


class PathConflict(ConflictError):
    """A file exists where a directory is needed, or the reverse."""

    code = "path_conflict"
    message = "A file or directory of another kind has that name already"
    hint = None


class OtherContent(ConflictError):
    """The device holds other content under this fid."""

    code = "other_content"
    message = "The device holds other content under this fid; a fid's bytes never change"
    hint = "Two databases may give out the same fids: see docs/recovery.md. Nothing was replaced."


class DirectoryInstead(PathConflict):
    """The path is that of a directory."""

    code = "directory_instead"
    message = "That name is a directory, not a file"
    hint = None


class WrongDigest(CorruptError):
    """The body does not match Content-MD5."""

    code = "wrong_digest"
    message = "The body does not have the digest that Content-MD5 names; nothing was stored"
    hint = "Send it again."
    http = 400


class WrongSize(CorruptError):
    """The body does not have the announced length."""

    code = "wrong_size"
    message = "The body does not have the length that was announced; nothing was stored"
    hint = "Send it again."
    http = 400


class DeviceFull(UnavailableError):
    """The device is full."""

    code = "device_full"
    message = "The device is full"
    hint = "Delete files, or add a device."
    http = 507


class Exhausted(UnavailableError):
    """The process has too many open files."""

    code = "exhausted"
    message = "The node has too many files open; try again"
    hint = None


class IdentityLost(UnavailableError):
    """The device has lost its identity file."""

    code = "identity_lost"
    message = "The device has lost its identity file: is its disk mounted?"
    hint = "To use the directory as a new device, remove what the document root keeps of it in .tawara."


class ForeignDisk(UnavailableError):
    """The device has another identity than before."""

    code = "foreign_disk"
    message = "The device shows another identity than it had: have disks been swapped?"
    hint = IdentityLost.hint


class DeviceFailed(TawaraError):
    """An operation on the device failed with an error."""

    code = "device_failed"
    message = "The device reported an error"
    hint = "Look at its disk and at the kernel's log."


class DeviceHangs(UnavailableError):
    """The device does not respond."""

    code = "device_hangs"
    message = "The device does not answer"
    hint = "Look at its disk and at the kernel's log; it is used again as soon as it answers."


_BY_ERRNO: dict[int, type[TawaraError]] = {
    errno.ENOENT: NoSuchFile,
    errno.ENOTDIR: NoSuchFile,
    errno.ELOOP: NoSuchFile,
    errno.ENXIO: NoSuchFile,
    errno.ENAMETOOLONG: InvalidPath,
    errno.EISDIR: PathConflict,
    errno.ENOTEMPTY: PathConflict,
    errno.EEXIST: PathConflict,
    errno.ENOSPC: DeviceFull,
    errno.EDQUOT: DeviceFull,
    errno.EFBIG: TooLarge,
    errno.EMFILE: Exhausted,
    errno.ENFILE: Exhausted,
}


@contextmanager
def as_node_errors() -> Iterator[None]:
    """Convert an OSError of the body to the matching error above; DeviceFailed if none matches."""
    try:
        yield
    except OSError as error:
        raise _BY_ERRNO.get(error.errno or 0, DeviceFailed)() from error
