"""Makes new files from ranges of stored ones: copies, and files that are joined from parts.

The new file is written to devices that hold all sources, if the policy and their state and space allow it, and is
assembled there; other devices get the bytes, read from any replica. As with every upload a row exists before the first
byte is written, so a crash leaves nothing behind, and the key is assigned in one transaction, with its conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from tawara.metadata import files
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model import fid as fids
from tawara.model.assembling import MOST_RANGES, FileRange, devices_of_all, known_checksum, total_length
from tawara.model.cluster import Checksum, Domain, HashType, StorageClass
from tawara.model.errors import ChecksumMismatch, FidConflict, NoDevices, NoSource, UnregClass, UsageError
from tawara.model.files import StoredFile, Upload
from tawara.model.node_errors import OtherContent, SourceMissing, SourceTooShort
from tawara.nodes.client import NodeClient
from tawara.nodes.source_ranges import SourceRange, store_ranges
from tawara.store.conditions import UNCONDITIONAL
from tawara.store.local_devices import LocalDevices
from tawara.store.replica_locator import ReplicaLocator
from tawara.store.service import FileStore
from tawara.store.writer import OTHER_FIDS, FileWriter, ObjectDescription, WriteRequest, WriteResult
from tawara.wire.assemble import AssembleRequest
from tawara.wire.http import Conditions

_LOOK_UPS: Final = 3
"""Most look-ups of a source that is overwritten, or whose replicas move, while it is copied."""


class FileAssembler:
    """See the module. `copy` copies one file, `assemble` makes one from any ranges."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        store: FileStore,
        writer: FileWriter,
        locator: ReplicaLocator,
        *,
        local: LocalDevices | None,
    ) -> None:
        """`local`: devices of this machine, which are written directly, without a storage node."""
        self._metadata, self._view, self._nodes = metadata, view, nodes
        self._store, self._writer, self._locator, self._local = store, writer, locator, local

    async def copy(
        self,
        domain: Domain,
        key: bytes,
        new_domain: Domain,
        new_key: bytes,
        *,
        storage_class: StorageClass | None = None,
        conditions: Conditions = UNCONDITIONAL,
    ) -> WriteResult:
        """Copy a file to another key, with its checksum, media type and modification time.

        `conditions` are those of the new key. `storage_class` None: the class of that name in the new domain which the
        source has in its own. Raises UnknownKey, UnregClass, NoSource, and as `assemble`.
        """
        for attempt in range(1, _LOOK_UPS + 1):
            stored = await self._store.find(domain, key)
            named = domain.classes.get(stored.classid)
            target_class = storage_class or new_domain.class_named(named.name if named else "")
            if target_class is None:
                raise UnregClass
            request = WriteRequest(
                domain=new_domain,
                key=new_key,
                storage_class=target_class,
                content_type=stored.content_type,
                md5=None,
                conditions=conditions,
                mtime_ns=await self._metadata.read(files.source_time, stored.fid),
                describe=partial(ObjectDescription, _etag_of_copy(stored), stored.attributes),
            )
            try:
                return await self.assemble(request, [FileRange.whole(stored)])
            except NoSource:  # overwritten or moved since the look-up
                if attempt == _LOOK_UPS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def assemble(self, request: WriteRequest, ranges: Sequence[FileRange]) -> WriteResult:
        """Store the file that consists of `ranges`, in this order, under the key of `request`.

        If the class keeps a checksum it follows from those of the sources, or is computed from the new file. Raises
        UsageError for ranges that do not exist, NoSource if a source cannot be read (any more: look it up again),
        ChecksumMismatch if the devices hold different bytes, NoDevices, PreconditionFailed, NodeUnreachable.
        """
        if len(ranges) > MOST_RANGES:
            raise UsageError(f"A file is made of at most {MOST_RANGES} parts")
        if not all(0 <= each.start <= each.start + each.length <= each.file.length for each in ranges):
            raise UsageError("A range reaches beyond the end of its file")
        for _ in range(OTHER_FIDS):
            with suppress(FidConflict):
                return await self._assemble_once(request, ranges)
        return await self._assemble_once(request, ranges)

    async def _assemble_once(self, request: WriteRequest, ranges: Sequence[FileRange]) -> WriteResult:
        length, holding = total_length(ranges), devices_of_all(ranges)
        devids = await self._writer.plan(request, length, sorted(holding))
        hashtype = request.storage_class.hashtype
        checksum = known_checksum(hashtype, ranges) if hashtype else None
        job = _Job(self, [await self.source(each) for each in ranges], hashtype if checksum is None else None)
        async with self._store.uploads.session(request.domain, request.key, request.storage_class, devids) as upload:
            copies = {devid: job.store_on(devid, upload, in_place=devid in holding) for devid in devids}
            outcome = await self._writer.watch(copies)
            missing = [each for each in outcome.values() if isinstance(each, NoSource)]
            if missing and None not in outcome.values():
                raise missing[0]
            return await self._writer.commit(request, upload, length, checksum or job.agreed(), outcome)

    async def source(self, part: FileRange) -> SourceRange:
        """Return where a range can be read now."""
        urls = self._locator.urls(part.file, await self._locator.devices(part.file))
        return SourceRange(part.byte_range, part.file.length, urls)

    async def store_on(
        self, devid: int, upload: Upload, sources: Sequence[SourceRange], hashtype: HashType | None, *, in_place: bool
    ) -> Checksum | None:
        """Store the new content on one device; return its checksum if `hashtype` is given."""
        if in_place and self._local is not None and await self._writer.is_local(devid):
            wanted = AssembleRequest(tuple(each.part for each in sources), (hashtype,) if hashtype else ())
            try:
                done = await self._local.assemble(devid, fids.path(devid, upload.fid), wanted)
            except OtherContent as error:
                raise FidConflict(f"dev{devid} holds other content under fid {upload.fid}") from error
            except (SourceMissing, SourceTooShort):
                in_place = False
            else:
                return done.checksums[0] if hashtype else None
        url = self._view.current.url(devid, upload.fid)
        if url is None:
            raise NoDevices
        return await store_ranges(self._nodes, url, sources, hashtype, in_place=in_place)


class _Job:
    """The copies of one new content, and the checksums of those that were written."""

    def __init__(self, assembler: FileAssembler, sources: Sequence[SourceRange], hashtype: HashType | None) -> None:
        self._assembler, self._sources, self._hashtype = assembler, sources, hashtype
        self._found: set[Checksum] = set()

    async def store_on(self, devid: int, upload: Upload, *, in_place: bool) -> None:
        """See FileAssembler."""
        made = await self._assembler.store_on(devid, upload, self._sources, self._hashtype, in_place=in_place)
        if made is not None:
            self._found.add(made)

    def agreed(self) -> Checksum | None:
        """Return the checksum of all copies; None if none was computed. Raises ChecksumMismatch."""
        if len(self._found) > 1:
            raise ChecksumMismatch("The replicas of the sources differ: `tawara fsck start --every-byte` finds them")
        return next(iter(self._found), None)


def _etag_of_copy(stored: StoredFile) -> str | None:
    """Return the entity tag of a copy, whose class may keep another checksum than the MD5 of its source."""
    checksum = stored.checksum
    if stored.etag is None and checksum is not None and checksum.hashtype is HashType.MD5:
        return checksum.digest.hex()
    return stored.etag
