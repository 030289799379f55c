"""A file being received: it gets its name only when all of its bytes are durable.

The bytes are written to an unnamed file in the target directory (O_TMPFILE), which is linked to its name after fsync: a
crash before that leaves nothing to clean up. On file systems without O_TMPFILE, and for files that replace another, a
temporary name in the device's `~incoming` directory and a rename are used. Such a file is locked (flock) as long as its
writer runs, so that cleanup can distinguish a leftover from another process's upload.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from tawara.disks.paths import INCOMING
from tawara.model.node_errors import DeviceFull, OtherContent, PathConflict, WrongDigest, WrongSize, as_node_errors

SYNC_EVERY: Final = 64 * 1024 * 1024
"""Bytes between two syncs of a long upload, so that the last sync does not exceed the client's timeout."""

_NO_UNNAMED_FILES: Final = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}
"""Errors of kernels and file systems without O_TMPFILE (open(2))."""


_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
"""Errors of file systems without hard links (link(2))."""
_COMPARED: Final = 1024 * 1024
"""Bytes compared at a time."""


class TargetDirectory:
    """The target directory of a file, and the top directory of its device, as open descriptors."""

    __slots__ = ("device", "directory")

    def __init__(self, *, directory: int, device: int) -> None:
        self.directory, self.device = directory, device

    def check_space(self, size: int) -> None:
        """Check that `size` bytes fit on the device. Raises DeviceFull."""
        with as_node_errors():
            facts = os.fstatvfs(self.device)
        if size > facts.f_bavail * facts.f_frsize:
            raise DeviceFull

    def sync(self) -> None:
        """Make the names in the directory durable. Raises DeviceFailed."""
        with as_node_errors():
            os.fsync(self.directory)

    def close(self) -> None:
        """Close both descriptors; further calls do nothing."""
        for descriptor in (self.directory, self.device):
            if descriptor >= 0:
                os.close(descriptor)
        self.directory = self.device = -1


class IncomingFile:
    """A file being received. Not visible before `commit`; `abort` or the end of the context discards it.

    Blocks; for one thread at a time. `size` and `md5` (raw digest) are the expected values, if known, and verified by
    `commit`.
    """

    def __init__(
        self,
        place: TargetDirectory,
        name: str,
        *,
        size: int | None = None,
        md5: bytes | None = None,
        unnamed: bool = True,
        shared: bool = False,
        immutable: bool = False,
    ) -> None:
        """Close `place` at the end, unless it is `shared`: then the caller closes it.

        `immutable`: an existing file of that name is not replaced by other content.
        """
        self._place, self._name, self._shared, self._immutable = place, name, shared, immutable
        self._temporary: str | None = None
        self._expected_size, self._expected_md5 = size, md5
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 is not None else None
        self._unsynced = 0
        self.size = 0
        self._file = -1
        try:
            with as_node_errors():
                self._file = self._unnamed() if unnamed else self._named()
        except BaseException:
            self.abort()
            raise

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append `chunk`. Raises DeviceFull, DeviceFailed, WrongSize."""
        view = memoryview(chunk)
        if self._expected_size is not None and self.size + len(view) > self._expected_size:
            raise WrongSize
        if self._md5 is not None:
            self._md5.update(view)
        with as_node_errors():
            while view:
                written = os.write(self._file, view)
                view = view[written:]
                self._grew(written)

    def copy(self, source: int, offset: int, count: int = SYNC_EVERY) -> None:
        """Append up to `count` bytes of the file open as `source`, from `offset`; the kernel copies them.

        Extents are shared if the file system supports it. Raises WrongSize if there is nothing to copy.
        """
        with as_node_errors():
            copied = self._copy_some(source, offset, count)
            if not copied:
                raise WrongSize
            self._grew(copied)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` of the bytes received so far, from `offset`. Raises DeviceFailed."""
        with as_node_errors():
            return os.pread(self._file, count, offset)

    def become(self, source: int) -> None:
        """Become a hard link to the file open as `source` instead of a copy; it must not be written to afterwards.

        Raises OSError as link(2) does if that is not possible, without any effect.
        """
        make_incoming(self._place.device)
        temporary = secrets.token_hex(12)
        os.link(
            f"/proc/self/fd/{source}", f"{INCOMING}/{temporary}", dst_dir_fd=self._place.device, follow_symlinks=True
        )
        self._drop_temporary()
        self._temporary = temporary
        os.close(self._file)
        self._file, self.size = os.dup(source), os.fstat(source).st_size
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def commit(self) -> None:
        """Sync and verify the bytes, link the name, sync the directory. Raises WrongSize, WrongDigest, DeviceFailed.

        When this returns, the file survives a power failure. If it raises, the previous state is unchanged.
        """
        try:
            self.seal()
            self.publish()
            self._place.sync()
        finally:
            self.abort()

    # The steps of `commit`, for callers that take each step for many files.

    def start_writeback(self) -> None:
        """Make the kernel start to write the received bytes, so that `seal` waits less."""
        # Linux starts writeback of dirty pages that are marked as not needed, since it cannot drop them before.
        with as_node_errors():
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)

    def seal(self) -> None:
        """Verify and sync the bytes. Raises WrongSize, WrongDigest, DeviceFailed."""
        if self._expected_size is not None and self.size != self._expected_size:
            raise WrongSize
        if self._md5 is not None and self._md5.digest() != self._expected_md5:
            raise WrongDigest
        with as_node_errors():
            os.fsync(self._file)

    def publish(self) -> None:
        """Link the sealed file to its name, which is durable once the directory is synced.

        Raises DeviceFailed, and OtherContent if an immutable file with other bytes exists.
        """
        with as_node_errors():
            if self._immutable:
                self._take_free_name()
            else:
                self._link_name()

    def abort(self) -> None:
        """Discard the file if it was not committed. Idempotent."""
        self._drop_temporary()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if not self._shared:
            self._place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abort()

    def _unnamed(self) -> int:
        try:
            return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666, dir_fd=self._place.directory)
        except OSError as error:
            if error.errno not in _NO_UNNAMED_FILES:
                raise
            return self._named()

    def _named(self) -> int:
        make_incoming(self._place.device)
        self._temporary = secrets.token_hex(12)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(f"{INCOMING}/{self._temporary}", flags, 0o666, dir_fd=self._place.device)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file

    def _link_name(self) -> None:
        if self._temporary is None:
            origin = f"/proc/self/fd/{self._file}"
            try:
                os.link(origin, self._name, dst_dir_fd=self._place.directory, follow_symlinks=True)
            except FileExistsError:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                make_incoming(self._place.device)
                temporary = secrets.token_hex(12)
                os.link(origin, f"{INCOMING}/{temporary}", dst_dir_fd=self._place.device, follow_symlinks=True)
                self._temporary = temporary
            else:
                return
        os.rename(
            f"{INCOMING}/{self._temporary}", self._name, src_dir_fd=self._place.device, dst_dir_fd=self._place.directory
        )

    def _take_free_name(self) -> None:
        """Link the name unless it exists; raise OtherContent if the existing file has other bytes."""
        while True:
            try:
                os.link(f"/proc/self/fd/{self._file}", self._name, dst_dir_fd=self._place.directory)
            except FileExistsError:
                if (same := self._is_there_already()) is None:
                    continue  # it was deleted meanwhile
                if not same:
                    raise OtherContent from None
            except OSError as error:
                if error.errno not in _NO_LINKS or self._temporary is None:
                    raise
                self._rename_to_free_name()
            return

    def _rename_to_free_name(self) -> None:
        """Do the same on a file system without hard links; the later of two concurrent uploads may win."""
        same = self._is_there_already()
        if same is False:
            raise OtherContent
        if same is None:
            self._link_name()

    def _is_there_already(self) -> bool | None:
        """Whether the existing file of that name has the same bytes; None if there is none."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            other = os.open(self._name, flags, dir_fd=self._place.directory)
        except FileNotFoundError:
            return None
        try:
            facts = os.fstat(other)
            if not stat.S_ISREG(facts.st_mode):
                raise PathConflict
            if facts.st_size != self.size:
                return False
            own = os.open(f"/proc/self/fd/{self._file}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _have_same_bytes(own, other)
            finally:
                os.close(own)
        finally:
            os.close(other)

    def _drop_temporary(self) -> None:
        """Remove the temporary name, which exists after a rename only if both names were links to one file."""
        if self._temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(f"{INCOMING}/{self._temporary}", dir_fd=self._place.device)
            self._temporary = None

    def _copy_some(self, source: int, offset: int, count: int) -> int:
        try:
            return os.copy_file_range(source, self._file, count, offset)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            return os.sendfile(self._file, source, offset, count)

    def _grew(self, written: int) -> None:
        self.size += written
        self._unsynced += written
        if self._unsynced >= SYNC_EVERY:
            os.fdatasync(self._file)
            self._unsynced = 0


def _have_same_bytes(one: int, other: int) -> bool:
    """Whether two open files have the same bytes; neither may be written to meanwhile."""
    offset = 0
    while piece := os.pread(one, _COMPARED, offset):
        if os.pread(other, len(piece), offset) != piece:
            return False
        offset += len(piece)
    return not os.pread(other, 1, offset)


def make_incoming(device: int) -> None:
    """Create the `~incoming` directory of the device open as `device`, unless it exists."""
    with suppress(FileExistsError):
        os.mkdir(INCOMING, 0o700, dir_fd=device)
