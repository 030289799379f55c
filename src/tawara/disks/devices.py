"""File operations on devices: store, read, list, measure. Independent of HTTP and event loops.

All functions block and may be called from any thread. Each name below a device is opened relative to its parent's
descriptor without following symbolic links, so that nothing outside of the device's directory can be reached. The
device's own directory may be a link, since administrators mount disks that way. No descriptor is kept between calls, so
a disk can be unmounted at any time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tawara.disks import listing, paths
from tawara.disks.identity import Identities, holds_files
from tawara.disks.incoming import IncomingFile, TargetDirectory
from tawara.disks.paths import INCOMING, DevicePath
from tawara.model.checksums import new_hasher
from tawara.model.cluster import HashType
from tawara.model.node_errors import DirectoryInstead, NoSuchDevice, NoSuchFile, PathConflict, Reserved, as_node_errors

_WALK: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WALK_TO_WRITE: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEVICE_NAME: Final = re.compile(r"dev\d{1,10}", re.ASCII)
_KNOWN_DIRECTORIES: Final = 100_000
_DIGEST_STEP: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class OpenFile:
    """A file open for reading: descriptor, bytes, time of last change (unix seconds). Close it, or use `with`."""

    descriptor: int
    size: int
    modified: int
    disk: int
    """Number of its file system (st_dev)."""

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer only at the end of the file. Raises DeviceFailed."""
        with as_node_errors():
            first = os.pread(self.descriptor, count, offset)
            parts = [first]
            got = len(first)
            while first and got < count:
                first = os.pread(self.descriptor, count - got, offset + got)
                parts.append(first)
                got += len(first)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def closed(self) -> bool:
        """Whether the descriptor is closed."""
        return self.descriptor < 0

    def close(self) -> None:
        """Close the descriptor; further calls do nothing. May block on the disk."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()  # the caller was cancelled


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Disk usage of a device in KiB: `total` is `used` plus `available`, without blocks reserved for root."""

    used: int
    available: int
    identity: str | None = None
    """The device's id; None if it has none."""
    holds_files: bool = True
    """Whether files are or were on it."""

    @property
    def total(self) -> int:
        """Used and available KiB."""
        return self.used + self.available


class DigestInProgress:
    """A digest computed in steps, so that a long file does not occupy a disk's thread."""

    def __init__(self, file: OpenFile, hashtype: HashType) -> None:
        self._file = file
        self._hash = new_hasher(hashtype)
        self.offset = 0
        """Bytes digested so far; after an error, the offset of the failure."""

    def step(self) -> bool:
        """Digest the next bytes; False at the end of the file. Raises DeviceFailed."""
        chunk = self._file.read(self.offset, _DIGEST_STEP)
        self._hash.update(chunk)
        self.offset += len(chunk)
        return bool(chunk)

    def digest(self) -> bytes:
        """Return the digest of the bytes so far."""
        return self._hash.digest()


class Devices:
    """The devices of one document root: directories `dev1`, `dev2`... Paths are strings like `/dev1/0/000/f.fid`.

    Every method with a path raises InvalidPath if it is malformed, NoSuchDevice if the device does not exist,
    IdentityLost or ForeignDisk if its disk is missing or another one, and DeviceFailed if the disk fails.
    """

    def __init__(
        self, docroot: Path, *, unnamed_files: bool = True, immutable: bool = True, make_identities: bool = True
    ) -> None:
        """`unnamed_files` False avoids O_TMPFILE, as on a file system without it.

        `immutable`: a fid's content is replaced by other content only on request. `make_identities` False refuses a
        device without an identity file, which another program has to create.
        """
        self.docroot = docroot
        self.unnamed = unnamed_files
        self.immutable = immutable
        self.identities = Identities(docroot, make=make_identities)
        self._durable: set[tuple[str, ...]] = set()
        """Directories whose entry in the parent is durable."""

    def names(self) -> list[str]:
        """List the devices in the document root, by number. Does not access the devices, since a disk may hang.

        A device may be a dangling symbolic link.
        """
        with as_node_errors(), os.scandir(self.docroot) as entries:
            found = [
                each.name
                for each in entries
                if _DEVICE_NAME.fullmatch(each.name) and (each.is_dir(follow_symlinks=False) or each.is_symlink())
            ]
        return sorted(found, key=lambda name: int(name[3:]))

    def listed(self, device: str) -> bool:
        """Whether the document root lists `device`."""
        return bool(_DEVICE_NAME.fullmatch(device)) and device in self.names()

    def receive(
        self, path: str, *, size: int | None = None, md5: bytes | None = None, replace: bool = False
    ) -> IncomingFile:
        """Start to receive a file; create missing directories durably. Raises DeviceFull, PathConflict.

        `size` (bytes) and `md5` (16 raw bytes) are verified by `IncomingFile.commit`.
        Without `replace` it also refuses (OtherContent) other content for an existing fid.
        """
        target = paths.parse_writable(path)
        place = self.open_directory(target)
        try:
            if size is not None:
                place.check_space(size)
        except BaseException:
            place.close()
            raise
        keep = self.keeps(target, replace=replace)
        return IncomingFile(place, target.names[-1], size=size, md5=md5, unnamed=self.unnamed, immutable=keep)

    def keeps(self, target: DevicePath, *, replace: bool) -> bool:
        """Whether an existing file must be kept: it is a fid's content, and `replace` is not requested."""
        return self.immutable and not replace and target.is_fid

    def adopt(self, path: str, source: Path, *, link: bool = False) -> Generator[int, None, None]:
        """Store the local file `source` on a device, durably, in short steps; each yields the bytes copied so far.

        The kernel copies the bytes, sharing extents if the file system supports it. With `link` a hard link is made
        instead if both are on one file system; the source must not be written to afterwards.
        Closing the generator before its end discards the file.
        """
        with as_node_errors():
            descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if link and self._adopt_by_link(path, descriptor):
                return
            with self.receive(path, size=size) as incoming:
                while incoming.size < size:
                    incoming.copy(descriptor, incoming.size)
                    yield incoming.size
                incoming.commit()
        finally:
            os.close(descriptor)

    def open(self, path: str) -> OpenFile:
        """Open a file, or a page of the device's file list, for reading. Raises NoSuchFile, DirectoryInstead."""
        target = paths.parse(path)
        if target.listed_from is not None and not path.endswith("/"):
            return self._open_list(target.device, target.listed_from)
        with self._parent(target) as directory, as_node_errors():
            descriptor = os.open(target.names[-1] if target.names else ".", _READ, dir_fd=directory)
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and not path.endswith("/"):
            return OpenFile(descriptor, facts.st_size, int(facts.st_mtime), facts.st_dev)
        os.close(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            raise DirectoryInstead
        raise NoSuchFile

    def _open_list(self, device: str, first: int) -> OpenFile:
        """Return a page of the device's file list, in memory. Raises Exhausted."""
        with as_node_errors():
            top = self._device(device)
            try:
                page = listing.page(top, first)
            finally:
                os.close(top)
            memory = os.memfd_create("list", os.MFD_CLOEXEC)
            opened = OpenFile(memory, len(page), int(time.time()), -1)
            os.truncate(memory, len(page))
            os.pwrite(memory, page, 0)
        return opened

    def size(self, path: str) -> int:
        """Return the size of a file in bytes. Raises NoSuchFile."""
        with self.open(path) as file:
            return file.size

    def digest(self, path: str, hashtype: HashType) -> bytes:
        """Return the digest of a file. Raises NoSuchFile."""
        with self.open(path) as file:
            digest = DigestInProgress(file, hashtype)
            while digest.step():
                pass
            return digest.digest()

    def make_directory(self, path: str) -> None:
        """Create a directory and its parents on an existing device, durably; it may exist already.

        Raises PathConflict, Reserved.
        """
        target = paths.parse(path)
        if target.reserved:
            raise Reserved
        self._open_directory(target.device, target.names).close()

    def usage(self, device: str) -> DiskUsage:
        """Return the disk usage of a device. `used` is never 0, which trackers interpret as a device that is not ready
        (docs/mogilefs.md 8.5).

        Raises NoSuchDevice.
        """
        if not _DEVICE_NAME.fullmatch(device):
            raise NoSuchDevice
        with as_node_errors():
            top = self._device(device, insist=True)
            try:
                facts, holds = os.fstatvfs(top), holds_files(top)
            finally:
                os.close(top)
        used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize // 1024
        available = facts.f_bavail * facts.f_frsize // 1024
        return DiskUsage(max(1, used), available, self.identities.id_of(device), holds)

    def sweep(self, *devices: str) -> int:
        """Delete leftovers of dead writers in `~incoming` of `devices`, or of all; return their number.

        A file that is still being written, by this process or another, is locked and kept.
        """
        return sum(self._sweep_device(device) for device in devices or self.names())

    def _sweep_device(self, device: str) -> int:
        swept = 0
        with as_node_errors():
            top = self._device(device)
            try:
                with suppress(FileNotFoundError, NotADirectoryError):
                    incoming = os.open(INCOMING, _WALK_TO_WRITE, dir_fd=top)
                    try:
                        swept = sum(_remove_unlocked(incoming, name) for name in os.listdir(incoming))  # noqa: PTH208 - a descriptor, no path
                    finally:
                        os.close(incoming)
            finally:
                os.close(top)
        return swept

    def _adopt_by_link(self, path: str, source: int) -> bool:
        """Give the open file a name at `path` without copying; False where the file systems do not allow it."""
        with self.receive(path) as incoming:
            try:
                incoming.become(source)
            except OSError as error:
                if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOENT):
                    return False
                with as_node_errors():
                    raise
            incoming.commit()
        return True

    def _device(self, device: str, flags: int = os.O_RDONLY, *, insist: bool = False) -> int:
        """Open the device's top directory; only here a symbolic link is followed.

        Raises IdentityLost or ForeignDisk if the disk is missing or another one, so that nothing is written to it.
        """
        try:
            top = os.open(self.docroot / device, flags | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchDevice from None
        try:
            self.identities.check(device, top, insist=insist)
        except BaseException:
            os.close(top)
            raise
        return top

    def parent(self, target: DevicePath) -> AbstractContextManager[int]:
        """Open the directory of `target`, for syncing it. Raises NoSuchFile."""
        return self._parent(target, _WALK_TO_WRITE)

    @contextmanager
    def _parent(self, target: DevicePath, flags: int = _WALK) -> Iterator[int]:
        """Open the directory of `target`, or the device's own directory. Raises NoSuchFile."""
        with as_node_errors():
            here = self._device(target.device, flags & ~os.O_NOFOLLOW)
            for name in target.names[:-1]:
                here = _below(here, name, flags)
        try:
            yield here
        finally:
            os.close(here)

    def open_directory(self, target: DevicePath) -> TargetDirectory:
        """Open the directory of `target`, created durably if missing; the caller closes it. Raises PathConflict."""
        return self._open_directory(target.device, target.names[:-1])

    def _open_directory(self, device: str, names: tuple[str, ...]) -> TargetDirectory:
        with as_node_errors():
            top = self._device(device)
            try:
                here = os.dup(top)
                for depth, name in enumerate(names, start=1):
                    here = self._enter(here, name, (device, *names[:depth]))
            except BaseException:
                os.close(top)
                raise
        return TargetDirectory(directory=here, device=top)

    def _enter(self, above: int, name: str, place: tuple[str, ...]) -> int:
        """Open the directory `name` in `above` (which gets closed), creating it durably if missing.

        An existing directory may have been created just now by another thread, or by a process that was killed before
        its fsync. So the parent of each directory is synced once by each process.
        """
        entered = -1
        try:
            try:
                entered = os.open(name, _WALK_TO_WRITE, dir_fd=above)
            except FileNotFoundError:
                self._durable.discard(place)
                with suppress(FileExistsError):
                    os.mkdir(name, 0o777, dir_fd=above)
                entered = os.open(name, _WALK_TO_WRITE, dir_fd=above)
            if place not in self._durable:
                os.fsync(above)
                self._record_durable(place)
        except OSError as error:
            if entered >= 0:
                os.close(entered)
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise PathConflict from error
            raise
        finally:
            os.close(above)
        return entered

    def _record_durable(self, place: tuple[str, ...]) -> None:
        if len(self._durable) >= _KNOWN_DIRECTORIES:
            self._durable.clear()
        self._durable.add(place)


def _below(above: int, name: str, flags: int) -> int:
    """Open the directory `name` in the directory open as `above`, which gets closed."""
    try:
        return os.open(name, flags, dir_fd=above)
    finally:
        os.close(above)


def _remove_unlocked(directory: int, name: str) -> bool:
    """Remove the file unless a live writer holds its lock."""
    try:
        descriptor = os.open(name, _READ, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True
