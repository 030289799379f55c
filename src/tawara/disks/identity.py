"""Device identities: detect a missing or wrong disk, since a mount point without its disk is an empty directory.

Each device has an identity file with its number and a unique id, created when the device is first seen. The id is also
recorded in the document root, which is usually on another disk. A device that had an id and now has none, or another
one, is neither written nor read. A device counts as first seen if it is:

* a device without a recorded id, empty or with the files of an earlier version or of MogileFS;
* a file system without an id, mounted over a directory that was on the document root's file system (an added disk).

Only the database knows whether a device may be new and empty; see `metadata.identities`.
All functions block and may be called from any thread.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from tawara.disks.paths import IDENTITY, INCOMING
from tawara.model.node_errors import ForeignDisk, IdentityLost
from tawara.wire import identity
from tawara.wire.identity import Identity

log = structlog.get_logger(__name__)

RECORDS: Final = ".tawara"
"""Directory in the document root with a file for each device that records its id."""
_MOST_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class _Record:
    id: str
    mounted: bool
    """Whether the device was on another file system than the document root."""


class Identities:
    """The identities of the devices below one document root."""

    def __init__(self, docroot: Path, *, make: bool = True) -> None:
        """`make` False never writes: a device without an identity is refused."""
        self._docroot, self._make = docroot, make
        self._lock = threading.Lock()
        self._verified: dict[str, tuple[int, int, int]] = {}
        """By device: file system, inode and modification time of the last verified identity file."""
        self._ids: dict[str, str] = {}
        self._unnamed: dict[str, tuple[int, int]] = {}
        """By device whose identity file could not be written: file system and inode of its directory."""

    def id_of(self, device: str) -> str | None:
        """Return the id of the device at its last check; None without one."""
        return self._ids.get(device)

    def check(self, device: str, top: int, *, insist: bool = False) -> None:
        """Check that the open directory `top` is the device's. Raises IdentityLost, ForeignDisk, OSError.

        `insist`: retry to write the identity of a device that could not be written before.
        """
        stamp = _stamp(top)
        if stamp is not None and self._verified.get(device) == stamp:
            return
        with self._lock:
            if insist:
                self._unnamed.pop(device, None)
            self._examine(device, top)

    def _examine(self, device: str, top: int) -> None:
        shown, kept = _read(top), self._read_record(device)
        place = os.fstat(top)
        mounted = place.st_dev != self._docroot.stat().st_dev
        added = kept is not None and mounted and not kept.mounted
        if shown is not None and shown.device != device:
            raise ForeignDisk(f"This is the disk of {shown.device}, not of {device}")
        if shown is None:
            if not self._make or (kept is not None and not added):
                raise IdentityLost
            if self._unnamed.get(device) == (place.st_dev, place.st_ino):
                return
            shown = self._create(device, top)
            if shown is None:
                self._unnamed[device] = place.st_dev, place.st_ino
                return
            log.info("device_identity_created", devid=int(device[3:]), identity=shown.id, files=holds_files(top))
        elif kept is not None and kept.id != shown.id and not added:
            raise ForeignDisk
        if self._make and kept != _Record(shown.id, mounted):
            self._write_record(device, _Record(shown.id, mounted))
        self._ids[device] = shown.id
        if (stamp := _stamp(top)) is not None:
            self._verified[device] = stamp

    def _create(self, device: str, top: int) -> Identity | None:
        """Write the identity file durably; None if the disk is not writeable. Another process may write it first."""
        made = Identity(device, str(uuid.uuid4()))
        name = f"{INCOMING}/{IDENTITY}.{os.getpid()}.{threading.get_ident()}"
        try:
            with suppress(FileExistsError):
                os.mkdir(INCOMING, 0o700, dir_fd=top)
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644, dir_fd=top)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # else another process would sweep it
                os.write(descriptor, identity.render(made))
                os.fsync(descriptor)
                with suppress(FileExistsError):
                    os.link(name, IDENTITY, src_dir_fd=top, dst_dir_fd=top)
            finally:
                os.close(descriptor)
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=top)
            _sync(top)
        except OSError as error:
            log.warning("device_identity_write_failed", devid=int(device[3:]), reason=error.strerror)
            return None
        return _read(top)

    # --- records in the document root ---------------------------------------------------------------------------------

    def _read_record(self, device: str) -> _Record | None:
        try:
            id_, _, mounted = (self._docroot / RECORDS / device).read_text().strip().partition(" ")
        except OSError:
            return None
        return _Record(id_, mounted == "mounted") if id_ else None

    def _write_record(self, device: str, record: _Record) -> None:
        place = self._docroot / RECORDS / device
        unfinished = place.with_name(f".{device}.{os.getpid()}.{threading.get_ident()}")
        try:
            place.parent.mkdir(mode=0o755, exist_ok=True)
            with unfinished.open("w") as file:
                file.write(f"{record.id} {'mounted' if record.mounted else 'here'}\n")
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(place)
            descriptor = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("device_identity_record_failed", devid=int(device[3:]), reason=str(error))


def holds_files(top: int) -> bool:
    """Whether a device has any of the directories that hold files. Raises OSError."""
    return any(len(name) == 1 and name.isdigit() for name in _names(top))


def _names(top: int) -> list[str]:
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
    try:
        return os.listdir(readable)  # noqa: PTH208 - a descriptor, no path
    finally:
        os.close(readable)


def _sync(top: int) -> None:
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)


def _stamp(top: int) -> tuple[int, int, int] | None:
    try:
        facts = os.stat(IDENTITY, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_mtime_ns


def _read(top: int) -> Identity | None:
    try:
        descriptor = os.open(IDENTITY, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=top)
    except FileNotFoundError:
        return None
    try:
        return identity.parse(os.read(descriptor, _MOST_BYTES))
    finally:
        os.close(descriptor)
