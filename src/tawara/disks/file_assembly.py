"""Makes a file from ranges of fids of the same device, without their bytes passing through Python.

The kernel copies (`copy_file_range`): XFS and btrfs share the blocks of the sources where offsets and lengths are
multiples of their block size; other file systems copy. The new file is received like an upload: it gets its name only
when all of its bytes are durable.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

from tawara.disks.devices import Devices, OpenFile
from tawara.disks.incoming import SYNC_EVERY, IncomingFile
from tawara.disks.pools import DevicePools
from tawara.model import fid as fids
from tawara.model.assembling import ByteRange, total_length
from tawara.model.checksums import checksum_of, new_hasher
from tawara.model.cluster import Checksum
from tawara.model.errors import NotFoundError
from tawara.model.node_errors import DirectoryInstead, InvalidPath, SourceMissing, SourceTooShort
from tawara.wire.assemble import Assembled, AssembleRequest

_FILES_AT_ONCE: Final = 64
"""Source files that one step opens at most."""
_READ_AT_ONCE: Final = 4 * 1024 * 1024
"""Bytes that one step reads for a checksum."""


class FileAssembly:
    """A file being assembled, in steps that are short enough for a thread of the device's pool. Blocks.

    `abort` discards the file if it is not complete.
    """

    def __init__(self, devices: Devices, path: str, request: AssembleRequest, *, replace: bool = False) -> None:
        """`path` is that of a fid on the device. Raises InvalidPath."""
        self._devices, self._path, self._replace = devices, path, replace
        self._request = request
        self._sources = _Sources(devices, path)
        self.length = total_length(request.ranges)
        self.checksums: tuple[Checksum, ...] = ()
        """The requested checksums, of the bytes read from the new file; known at the end."""
        self._steps = self._run()

    def step(self) -> bool:
        """Do the next piece of work; False when the file is durable under its name.

        Raises SourceMissing, SourceTooShort, OtherContent, DeviceFull, DeviceFailed and other errors of a device.
        """
        return next(self._steps, False) is not False

    def abort(self) -> None:
        """Discard the file unless it is complete. Idempotent."""
        self._steps.close()
        self._sources.close()

    def read_whole(self) -> bytes:
        """Return all bytes of the new file, for a small one; also computes the checksums. Raises as `step`."""
        with self._sources:
            body = b"".join([self._sources.open(each).read(each.start, each.length) for each in self._request.ranges])
        self.checksums = tuple(checksum_of(body, each) for each in self._request.checksums)
        return body

    def _run(self) -> Generator[None, None, None]:
        with self._sources:
            yield from self._check_sources()
            with self._devices.receive(self._path, size=self.length, replace=self._replace) as incoming:
                yield from self._copy(incoming)
                yield from self._compute_checksums(incoming)
                incoming.commit()

    def _check_sources(self) -> Generator[None, None, None]:
        """Find a missing source before any byte is copied."""
        for number, each in enumerate(self._request.ranges):
            self._sources.open(each)
            if number % _FILES_AT_ONCE == _FILES_AT_ONCE - 1:
                yield

    def _copy(self, incoming: IncomingFile) -> Generator[None, None, None]:
        copied = 0
        for number, each in enumerate(self._request.ranges):
            source, end = self._sources.open(each), each.start + each.length
            offset = each.start
            while offset < end:
                before = incoming.size
                incoming.copy(source.descriptor, offset, min(end - offset, SYNC_EVERY - copied))
                offset += incoming.size - before
                copied += incoming.size - before
                if copied >= SYNC_EVERY:
                    copied = 0
                    yield
            if number % _FILES_AT_ONCE == _FILES_AT_ONCE - 1:
                yield

    def _compute_checksums(self, incoming: IncomingFile) -> Generator[None, None, None]:
        hashers = [(each, new_hasher(each)) for each in self._request.checksums]
        offset = 0
        while hashers and (piece := incoming.read(offset, _READ_AT_ONCE)):
            for _, hasher in hashers:
                hasher.update(piece)
            offset += len(piece)
            yield
        self.checksums = tuple(Checksum(hashtype, hasher.digest()) for hashtype, hasher in hashers)


async def run_steps(
    assembly: FileAssembly, pools: DevicePools, pool_name: str, *, check: Callable[[], None] = lambda: None
) -> Assembled:
    """Assemble a file on the device's pool. `check` is called between steps; its error ends the work.

    Whatever ends it early, a cancellation too, discards the file. Raises as `FileAssembly.step`.
    """
    try:
        while await pools.run(pool_name, assembly.step):
            check()
    except BaseException:
        await pools.clean_up(pool_name, assembly.abort)
        raise
    return Assembled(assembly.length, assembly.checksums)


class _Sources:
    """The source files of an assembly, of which at most one is open: the latest."""

    def __init__(self, devices: Devices, path: str) -> None:
        self._devices = devices
        target = fids.parse_path(path)
        if target is None:
            raise InvalidPath(f"A file is assembled at the path of a fid only, such as {fids.path(1, 301)}")
        self._devid = target[0]
        self._latest: tuple[int, OpenFile] | None = None

    def open(self, wanted: ByteRange) -> OpenFile:
        """Return the open file with the range. Raises SourceMissing, SourceTooShort."""
        if self._latest is None or self._latest[0] != wanted.fid:
            self.close()
            try:
                self._latest = wanted.fid, self._devices.open(fids.path(self._devid, wanted.fid))
            except (NotFoundError, DirectoryInstead) as error:
                raise SourceMissing(f"dev{self._devid} does not hold fid {wanted.fid}") from error
        file = self._latest[1]
        if wanted.start + wanted.length > file.size:
            raise SourceTooShort(f"fid {wanted.fid} has {file.size} bytes on dev{self._devid}")
        return file

    def close(self) -> None:
        """Close the file that is open."""
        if self._latest is not None:
            self._latest[1].close()
            self._latest = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.close()
