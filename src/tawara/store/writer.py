"""Writes the body of a new file to all devices that its class requires, then assigns its key in one transaction.

The body is a complete local file (received by nginx) or a stream. The writer returns when every copy is
fsynced or has failed; a file with too few copies is queued for replication. When no copy succeeds, the bytes that
reached devices are queued for deletion.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import structlog

from tawara.disks.pools import DevicePools
from tawara.http1.reply import NOT_WHOLE
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model import fid as fids
from tawara.model.checksums import new_hasher
from tawara.model.cluster import Checksum, Domain, HashType, Observed, StorageClass
from tawara.model.errors import ChecksumMismatch, FidConflict, NodeUnreachable, NoDevices, TawaraError
from tawara.model.files import Upload
from tawara.model.limits import Limits
from tawara.model.multipart import MultipartCompletion
from tawara.model.node_errors import MalformedRequest, OtherContent
from tawara.store.conditions import WriteConditions, expected_fid
from tawara.store.local_devices import LocalDevices
from tawara.store.service import FileStore
from tawara.store.streaming import Sink, tee
from tawara.wire.http import entity_tag

log = structlog.get_logger(__name__)

_FIRST_ROUND: Final = 10.0
"""Seconds to wait for the first observation of the devices, without which no device can be chosen."""
OTHER_FIDS: Final = 3
"""Maximum repetitions of an upload under another fid, when a device holds other content under its fid."""
_SPOOL: Final = "spool"
"""The thread pool that reads received bodies."""
_OBSERVED_EVERY: Final = 0.5
"""Seconds between two checks of the observed state of a device that is being written."""
_UNREACHABLE_FOR: Final = 5.0
"""Seconds for which a device has to be unreachable before a copy to it is cancelled."""
_WRONG_DIGEST: Final = "The body does not have the digest that Content-MD5 names; nothing was kept"


class BodySink(Protocol):
    """Writes files to storage nodes; `nodes.client.NodeClient` is one."""

    async def put(
        self, url: str, source: bytes | AsyncIterator[bytes], *, length: int | None, md5: bytes | None = None
    ) -> object:
        """Write a body durably. Raises NodeUnreachable, FidConflict, ChecksumMismatch."""
        ...


class BodyObserver(Protocol):
    """Sees the bytes of a body that is stored from a file."""

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next bytes; called in another thread. Raises what makes the body unacceptable."""
        ...

    def finish(self) -> None:
        """Judge the complete body. Raises what makes it unacceptable."""
        ...


class ObjectDescription(NamedTuple):
    """What is stored with a file of the S3 protocol; see StoredFile."""

    etag: str | None
    attributes: bytes | None


_NO_DESCRIPTION: Final = ObjectDescription(None, None)


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """The parameters of a PUT, without its body."""

    domain: Domain
    key: bytes
    storage_class: StorageClass
    content_type: str | None
    md5: bytes | None
    """The digest that the body must have."""
    conditions: WriteConditions
    length: int | None = None
    """The length in bytes that the body must have according to Content-Range; None without it."""
    default_hash: HashType | None = None
    """Algorithm of the checksum that is kept if the class keeps none."""
    mtime_ns: int | None = None
    """Modification time of the source, unix nanoseconds; None if unknown."""
    describe: Callable[[], ObjectDescription] = lambda: _NO_DESCRIPTION
    """Called when the body is complete."""
    preferred: tuple[int, ...] = ()
    """Devices on which it is written if possible."""
    multipart: MultipartCompletion | None = None
    """The upload in parts that ends with it."""
    observer: BodyObserver | None = None
    """Sees the bytes of `store_file`."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """A stored file."""

    etag: str
    created: bool
    """Whether the key was new."""
    fid: int
    length: int
    """Bytes."""
    checksum: Checksum | None = None


class _Digests:
    """Computes the digests of an upload while its body is processed."""

    def __init__(self, request: WriteRequest) -> None:
        self.hashtype = request.storage_class.hashtype or request.default_hash
        self._expected = request.md5
        self._wanted = {kind for kind in (self.hashtype, HashType.MD5 if request.md5 else None) if kind is not None}
        self._running = {kind: new_hasher(kind) for kind in self._wanted}
        self._observer = request.observer
        self.length = 0

    def update(self, piece: bytes | memoryview) -> None:
        self.length += len(piece)
        for running in self._running.values():
            running.update(piece)

    def read(self, path: Path, chunk: int) -> bool:
        """Digest the next `chunk` bytes of a file, if a digest is needed; return False at the end. Blocks."""
        if not self._running and self._observer is None:
            self.length = path.stat().st_size
            return False
        piece = _read(path, self.length, chunk)
        self.update(piece)
        if self._observer is not None and piece:
            self._observer.update(piece)
        return bool(piece)

    def finish(self) -> Checksum | None:
        """Return the checksum that the class keeps. Raises ChecksumMismatch when the body is not as announced."""
        if self._expected is not None and self._running[HashType.MD5].digest() != self._expected:
            raise ChecksumMismatch(_WRONG_DIGEST)
        if self._observer is not None:
            self._observer.finish()
        return None if self.hashtype is None else Checksum(self.hashtype, self._running[self.hashtype].digest())


class FileWriter:
    """Writes files. Needs a running event loop; close it once."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: BodySink,
        store: FileStore,
        *,
        local: LocalDevices | None,
        limits: Limits,
    ) -> None:
        """`local`: devices of this machine, which are written directly, without a storage node."""
        self._metadata, self._view, self._nodes, self._store = metadata, view, nodes, store
        self._local, self._limits = local, limits
        self._pools = DevicePools(None)
        self._abandoned: set[asyncio.Task[None]] = set()
        """Cancelled copies that have not yet ended."""

    def close(self) -> None:
        """Accept no further work."""
        self._pools.close()

    async def check(self, request: WriteRequest) -> None:
        """Raise, before the body arrives, the errors that would be raised after it.

        Raises PreconditionFailed, NoDevices, StaleDatabase.
        """
        await self._store.chooser.wait_observed(_FIRST_ROUND)
        self._store.chooser.check(request.storage_class)
        await expected_fid(self._metadata, request.domain.dmid, request.key, request.conditions)

    async def store_file(self, request: WriteRequest, path: Path) -> WriteResult:
        """Store the complete local file `path`. It must not be changed any more; the caller removes it."""
        digests = _Digests(request)
        while await self._pools.run(_SPOOL, digests.read, path, self._limits.chunk):
            pass
        checksum = digests.finish()
        if request.length not in (None, digests.length):
            raise MalformedRequest(NOT_WHOLE)
        for _ in range(OTHER_FIDS):
            with suppress(FidConflict):
                return await self._store_file_once(request, path, digests.length, checksum)
        return await self._store_file_once(request, path, digests.length, checksum)

    async def _store_file_once(
        self, request: WriteRequest, path: Path, length: int, checksum: Checksum | None
    ) -> WriteResult:
        devids = await self.plan(request, length)
        async with self._store.uploads.session(request.domain, request.key, request.storage_class, devids) as upload:
            local = [devid for devid in devids if await self.is_local(devid)]
            copies = {
                # Only one copy may be a hard link to the received file: a second link would not be a second copy.
                devid: self._copy_here(devid, upload.fid, path, link=devid == local[0])
                if devid in local
                else self._send(devid, upload.fid, self._pieces(path), length, request.md5)
                for devid in devids
            }
            return await self.commit(request, upload, length, checksum, await self.watch(copies))

    async def store_small(self, request: WriteRequest, body: bytes) -> WriteResult:
        """Store a small body, which is in memory."""
        digests = _Digests(request)
        digests.update(body)
        checksum = digests.finish()
        if request.length not in (None, len(body)):
            raise MalformedRequest(NOT_WHOLE)
        for _ in range(OTHER_FIDS):
            with suppress(FidConflict):
                return await self._store_small_once(request, body, checksum)
        return await self._store_small_once(request, body, checksum)

    async def _store_small_once(self, request: WriteRequest, body: bytes, checksum: Checksum | None) -> WriteResult:
        devids = await self.plan(request, len(body))
        await expected_fid(self._metadata, request.domain.dmid, request.key, request.conditions)
        async with self._store.uploads.session(request.domain, request.key, request.storage_class, devids) as upload:
            copies = {
                devid: self._store_here(devid, upload.fid, body)
                if await self.is_local(devid)
                else self._send(devid, upload.fid, body, len(body), request.md5)
                for devid in devids
            }
            outcome = await self.watch(copies)
            return await self.commit(request, upload, len(body), checksum, outcome)

    async def store_stream(self, request: WriteRequest, body: AsyncIterator[bytes], length: int | None) -> WriteResult:
        """Store a body of `length` bytes (None: unknown before its end) as it arrives."""
        digests = _Digests(request)

        async def digested() -> AsyncIterator[bytes]:
            async for piece in body:
                digests.update(piece)
                yield piece

        if request.length is not None:
            if length not in (None, request.length):
                raise MalformedRequest(NOT_WHOLE)
            length = request.length
        devids = await self.plan(request, length or 0)
        async with self._store.uploads.session(request.domain, request.key, request.storage_class, devids) as upload:

            def to(devid: int) -> Sink:
                return lambda pieces: self._watched(
                    devid, partial(self._send, devid, upload.fid, pieces, length, request.md5)
                )

            outcome = await tee(digested(), {devid: to(devid) for devid in devids})
            checksum = digests.finish() if None in outcome.values() else None
            return await self.commit(request, upload, digests.length, checksum, outcome)

    async def plan(self, request: WriteRequest, size: int, preferred: Iterable[int] = ()) -> tuple[int, ...]:
        """Choose the devices for a file of `size` bytes, of the `preferred` if possible.

        Raises NoDevices, InvalidReplpolicy, StaleDatabase.
        """
        await self._store.chooser.wait_observed(_FIRST_ROUND)
        return self._store.chooser.plan(request.storage_class, size, preferred or request.preferred)

    async def is_local(self, devid: int) -> bool:
        """Return whether copies are written to the device directly, without its storage node."""
        return self._local is not None and self._local.writeable and await self._local.has(devid)

    async def commit(
        self,
        request: WriteRequest,
        upload: Upload,
        length: int,
        checksum: Checksum | None,
        outcome: Mapping[int, BaseException | None],
    ) -> WriteResult:
        """Assign the key to the written content. If no copy was written, raise the error that explains it best."""
        for failure in outcome.values():
            if isinstance(failure, FidConflict):
                raise failure
        written = [devid for devid, failure in outcome.items() if failure is None]
        failed = [devid for devid, failure in outcome.items() if failure is not None]
        for devid in failed:
            log.warning("upload_device_failed", fid=upload.fid, devid=devid, reason=str(outcome[devid]))
        if not written:
            raise worst_failure(outcome.values())
        described = request.describe()
        replaced = await self._store.uploads.close(
            upload,
            request.key,
            length=length,
            written=written,
            failed=failed,
            checksum=checksum,
            content_type=request.content_type,
            etag=described.etag,
            attributes=described.attributes,
            mtime_ns=request.mtime_ns,
            replicate=not self._store.chooser.is_satisfied(request.storage_class, written),
            conditions=request.conditions,
            multipart=request.multipart,
        )
        return WriteResult(entity_tag(upload.fid, length), replaced is None, upload.fid, length, checksum)

    def _url(self, devid: int, fid: int) -> str:
        url = self._view.current.url(devid, fid)
        if url is None:
            raise NoDevices
        return url

    async def _copy_here(self, devid: int, fid: int, path: Path, *, link: bool) -> None:
        assert self._local is not None
        try:
            await self._local.store(devid, fids.path(devid, fid), path, link=link)
        except OtherContent as error:
            raise FidConflict(f"dev{devid} holds other content under fid {fid}") from error

    async def _store_here(self, devid: int, fid: int, body: bytes) -> None:
        assert self._local is not None
        try:
            await self._local.store_small(devid, fids.path(devid, fid), body)
        except OtherContent as error:
            raise FidConflict(f"dev{devid} holds other content under fid {fid}") from error

    async def _send(
        self, devid: int, fid: int, pieces: bytes | AsyncIterator[bytes], length: int | None, md5: bytes | None
    ) -> None:
        await self._nodes.put(self._url(devid, fid), pieces, length=length, md5=md5)

    async def _watched(self, devid: int, copy: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run one copy under `watch`. Raises NodeUnreachable, and what `copy` raises."""
        failure = (await self.watch({devid: copy()}))[devid]
        if failure is not None:
            raise failure

    async def watch(self, copies: Mapping[int, Coroutine[Any, Any, None]]) -> dict[int, BaseException | None]:
        """Run the copies to some devices at once; return for each None or its error.

        A copy is cancelled when its device has been unreachable for `_UNREACHABLE_FOR` seconds. A thread that hangs on
        a disk cannot be ended and is abandoned.
        """
        loop = asyncio.get_running_loop()
        running = {devid: loop.create_task(copy) for devid, copy in copies.items()}
        seen = dict.fromkeys(copies, loop.time())
        outcome: dict[int, BaseException | None] = dict.fromkeys(copies)
        pending = set(running.values())
        try:
            while pending:
                _, pending = await asyncio.wait(pending, timeout=_OBSERVED_EVERY)
                for devid, copying in running.items() if pending else ():
                    observed = self._view.current.observed.get(devid)
                    if observed is None or observed.state is not Observed.UNREACHABLE:
                        seen[devid] = loop.time()
                    elif copying in pending and loop.time() - seen[devid] >= _UNREACHABLE_FOR:
                        outcome[devid] = NodeUnreachable(f"dev{devid} does not answer")
                        pending.discard(copying)
        finally:
            await self._abandon([copying for copying in running.values() if not copying.done()])
        for devid, copying in running.items():
            if outcome[devid] is None:
                outcome[devid] = asyncio.CancelledError() if copying.cancelled() else copying.exception()
        return outcome

    async def _abandon(self, copies: Collection[asyncio.Task[None]]) -> None:
        """Cancel copies, and wait briefly until they have ended."""
        for copying in copies:
            copying.cancel()
            self._abandoned.add(copying)
            copying.add_done_callback(self._abandoned.discard)
        if copies:
            await asyncio.wait(copies, timeout=_OBSERVED_EVERY)

    async def _pieces(self, path: Path) -> AsyncIterator[bytes]:
        offset = 0
        while piece := await self._pools.run(_SPOOL, _read, path, offset, self._limits.chunk):
            yield piece
            offset += len(piece)


def _read(path: Path, offset: int, count: int) -> bytes:
    """Return up to `count` bytes of a file from `offset`. Blocks."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(count)


def worst_failure(failures: Iterable[BaseException | None]) -> BaseException:
    """Return the error that best explains to a client why no device has the file; its text names no devices."""
    seen = [failure for failure in failures if failure is not None]
    for failure in seen:
        if isinstance(failure, ChecksumMismatch):
            return ChecksumMismatch(_WRONG_DIGEST)
        if not isinstance(failure, TawaraError):
            return failure  # the client disconnected, or a defect
    if any(isinstance(failure, TawaraError) and failure.http == 507 for failure in seen):
        return NoDevices()
    return NodeUnreachable("No storage device took the file; try again")
