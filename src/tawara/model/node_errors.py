"""What can go wrong on a storage node, each with the HTTP status that says so.

docs/mogilefs.md 18.1. The tracker tells 400 and 501 (do not ask again) and 404 from everything else; the rest is for
people.
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
    """A path is /devN/NAME..., of letters, digits, underscores, dots and hyphens, without .."""


class MalformedRequest(UsageError):
    """The request is not understood"""


class LengthRequired(UsageError):
    """A PUT needs Content-Length or Transfer-Encoding: chunked"""

    http = 411


class TooLarge(UsageError):
    """The file is larger than this node accepts"""

    http = 413


class Stalled(UsageError):
    """The body stood still for too long"""

    http = 408


class NoSuchFile(NotFoundError):
    """There is no such file"""


class NoSuchDevice(NotFoundError):
    """Base directory does not exist"""


class Reserved(DeniedError):
    """This name belongs to the node itself"""

    http = 403
    hint = "The node writes it by itself."


class PathConflict(ConflictError):
    """Something that is not a file, or not a directory, has that name already"""


class OtherContent(ConflictError):
    """The device holds other content under this fid; a fid's bytes never change"""

    hint = "Two databases may give out the same fids: see docs/recovery.md. Nothing was replaced."


class DirectoryInstead(PathConflict):
    """There is a directory of that name, not a file"""


class WrongDigest(CorruptError):
    """The body does not have the digest that Content-MD5 names; nothing was kept"""

    http = 400


class WrongSize(CorruptError):
    """The body does not have the length that was announced; nothing was kept"""

    http = 400


class DeviceFull(UnavailableError):
    """The device is full"""

    http = 507
    hint = "Delete something, or add a device."


class Exhausted(UnavailableError):
    """The node has too many files open; try again"""


class IdentityLost(UnavailableError):
    """The device has lost its identity file: is its disk mounted?"""

    hint = "To use the directory as a new device, remove what the document root keeps of it in .tawara."


class ForeignDisk(UnavailableError):
    """The device shows another identity than it had: have disks been swapped?"""

    hint = IdentityLost.hint


class DeviceFailed(TawaraError):
    """The device answers with an error"""


class DeviceHangs(UnavailableError):
    """The device does not answer"""

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
    """Turn an OSError of the body into the error above that fits; what no case names is the device's failure."""
    try:
        yield
    except OSError as error:
        raise _BY_ERRNO.get(error.errno or 0, DeviceFailed)() from error
