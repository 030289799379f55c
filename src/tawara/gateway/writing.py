"""A body becomes a file: planned devices, copies on all of them at once, one transaction that names it.

The body comes as a finished local file (nginx has received it) or as a stream. The answer waits until every copy that
the class demands is fsynced, or has failed; a file with fewer copies than that is queued for replication. When nothing
can be named, whatever lies on the devices is queued for deletion.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from tawara.disks.pools import DevicePools
from tawara.gateway.local import LocalDevices
from tawara.gateway.reading import validators
from tawara.gateway.streaming import Sink, tee
from tawara.http1.reply import NOT_WHOLE
from tawara.metadata import files
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model import fid as fids
from tawara.model.cluster import Checksum, Domain, HashType, Observed, StorageClass
from tawara.model.errors import (
    ChecksumMismatch,
    FidConflict,
    NodeUnreachable,
    NoDevices,
    NoTempFile,
    PreconditionFailed,
    StaleDatabase,
    TawaraError,
    UnknownKey,
)
from tawara.model.files import NewFile, StoredFile
from tawara.model.limits import Limits
from tawara.model.node_errors import MalformedRequest, OtherContent
from tawara.model.policy import Situation, can_place, is_content, parse, plan_destinations
from tawara.nodes.client import NodeClient
from tawara.wire.http import ConditionResult, Conditions, entity_tag

log = structlog.get_logger(__name__)

_FIRST_ROUND: Final = 10.0
"""Seconds to wait for the monitor's first look at the devices, without which no device can be chosen."""
_RENEWAL: Final = 600.0
"""Seconds after which a long upload says that it is still under way."""
_OTHER_FIDS: Final = 3
"""How often an upload is repeated under another fid, when a device holds other content under the one it got."""
_SPOOL: Final = "spool"
"""The lane of the received bodies."""
_LOOK_EVERY: Final = 0.5
"""Seconds between two looks at what the monitor says of a device that is copied to."""
_GIVEN_UP: Final = 5.0
"""Seconds for which a device has to be unreachable before a copy to it is given up."""
_ATTEMPTS: Final = 8
"""How often a commit is tried when others change the same key all the while."""


@dataclass(frozen=True, slots=True)
class PutRequest:
    """What a PUT asks for, its body aside."""

    domain: Domain
    key: bytes
    storage_class: StorageClass
    content_type: str | None
    md5: bytes | None
    """The digest that the body must have."""
    conditions: Conditions
    length: int | None = None
    """The bytes that the body must have, if Content-Range says so."""


@dataclass(frozen=True, slots=True)
class PutResult:
    """A file is stored."""

    etag: str
    created: bool
    """Whether the key was new."""


class _Digests:
    """The digests that an upload needs, computed while it passes."""

    def __init__(self, order: PutRequest) -> None:
        self.hashtype = order.storage_class.hashtype
        self._expected = order.md5
        self._wanted = {kind for kind in (self.hashtype, HashType.MD5 if order.md5 else None) if kind is not None}
        self._running = {kind: hashlib.new(kind.hashlib, usedforsecurity=False) for kind in self._wanted}
        self.length = 0

    def update(self, piece: bytes | memoryview) -> None:
        self.length += len(piece)
        for running in self._running.values():
            running.update(piece)

    def read(self, path: Path, chunk: int) -> bool:
        """Digest the next `chunk` bytes of a file, if that is needed at all; False when there are no more."""
        if not self._running:
            self.length = path.stat().st_size
            return False
        piece = _read(path, self.length, chunk)
        self.update(piece)
        return bool(piece)

    def finish(self) -> Checksum | None:
        """The checksum that the class keeps. Raises ChecksumMismatch when the body is not what was announced."""
        if self._expected is not None and self._running[HashType.MD5].digest() != self._expected:
            raise ChecksumMismatch("The body does not have the digest that Content-MD5 names; nothing was kept")
        return None if self.hashtype is None else Checksum(self.hashtype, self._running[self.hashtype].digest())


class FileWriter:
    """Stores and deletes files for the gateway."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        wakeups: Wakeups,
        *,
        local: LocalDevices | None,
        limits: Limits,
        rng: random.Random,
    ) -> None:
        self._metadata, self._view, self._nodes, self._wakeups = metadata, view, nodes, wakeups
        self._local, self._limits, self._rng = local, limits, rng
        self._pools = DevicePools(None)
        self._left: set[asyncio.Task[None]] = set()
        """Copies that were given up and have not ended."""

    def close(self) -> None:
        """Take no more work."""
        self._pools.close()

    async def check(self, order: PutRequest) -> None:
        """Refuse before the body comes what would be refused after it. Raises PreconditionFailed, NoDevices."""
        await self._wait_observed()
        if not can_place(self._view.current, order.storage_class, self._rng):
            raise NoDevices
        await self._expected(order.domain, order.key, order.conditions)

    async def store_file(self, order: PutRequest, path: Path) -> PutResult:
        """Store the finished local file `path`, which nobody writes to any more and the caller removes."""
        digests = _Digests(order)
        while await self._pools.run(_SPOOL, digests.read, path, self._limits.chunk):
            pass
        checksum = digests.finish()
        if order.length not in (None, digests.length):
            raise MalformedRequest(NOT_WHOLE)
        for _ in range(_OTHER_FIDS):
            with suppress(FidConflict):
                return await self._store_file_once(order, path, digests.length, checksum)
        return await self._store_file_once(order, path, digests.length, checksum)

    async def _store_file_once(
        self, order: PutRequest, path: Path, length: int, checksum: Checksum | None
    ) -> PutResult:
        async with self._upload(order, length) as (fid, devids):
            local = [devid for devid in devids if await self._is_local(devid)]
            copies: dict[int, Awaitable[None]] = {
                devid: self._watched(
                    devid,
                    partial(self._copy_here, devid, fid, path, link=devid == local[0])
                    if devid in local
                    else partial(self._send, devid, fid, self._pieces(path), length, order.md5),
                )
                for devid in devids
            }
            results = await asyncio.gather(*copies.values(), return_exceptions=True)
            outcome = dict(zip(copies, results, strict=True))
            return await self._commit(order, fid, length, checksum, outcome)

    async def store_stream(self, order: PutRequest, body: AsyncIterator[bytes], length: int | None) -> PutResult:
        """Store a body of `length` bytes (None: not known before its end) as it comes."""
        digests = _Digests(order)

        async def digested() -> AsyncIterator[bytes]:
            async for piece in body:
                digests.update(piece)
                yield piece

        if order.length is not None:
            if length not in (None, order.length):
                raise MalformedRequest(NOT_WHOLE)
            length = order.length
        async with self._upload(order, length or 0) as (fid, devids):

            def to(devid: int) -> Sink:
                return lambda pieces: self._watched(devid, partial(self._send, devid, fid, pieces, length, order.md5))

            outcome = await tee(digested(), {devid: to(devid) for devid in devids})
            checksum = digests.finish() if None in outcome.values() else None
            return await self._commit(order, fid, digests.length, checksum, outcome)

    async def delete(self, domain: Domain, key: bytes, conditions: Conditions) -> None:
        """Remove a key. Raises UnknownKey, PreconditionFailed, StaleDatabase."""
        self._check_database()
        for _ in range(_ATTEMPTS):
            expected = await self._expected(domain, key, conditions)
            if expected == 0:
                raise UnknownKey
            with suppress(PreconditionFailed):
                await self._metadata.write(
                    files.delete, domain.dmid, key, now=await self._metadata.clock.seconds(), expected_fid=expected
                )
                self._wakeups.delete.notify()
                return
        raise PreconditionFailed

    def _check_database(self) -> None:
        """Raises StaleDatabase while the database is known to be older than what the devices hold."""
        if reason := self._view.current.stale:
            raise StaleDatabase.because(reason)

    async def _is_local(self, devid: int) -> bool:
        """Whether copies to the device are made without its storage node."""
        return self._local is not None and self._local.writeable and await self._local.has(devid)

    # --- the parts of a write -----------------------------------------------------------------------------------------

    async def _plan(self, order: PutRequest, size: int) -> tuple[int, ...]:
        await self._wait_observed()
        self._check_database()
        return plan_destinations(self._view.current, order.storage_class, size, self._rng)

    async def _wait_observed(self) -> None:
        """Wait until the devices have been looked at once. Raises NoDevices when that takes too long."""
        try:
            async with asyncio.timeout(_FIRST_ROUND):
                await self._view.wait_observed()
        except TimeoutError:
            raise NoDevices from None

    async def _expected(self, domain: Domain, key: bytes, conditions: Conditions) -> int | None:
        """The fid that the key must name when the change is committed, 0 for none, None for any.

        Raises PreconditionFailed when the conditions do not hold now.
        """
        if conditions == Conditions():
            return None
        stored: StoredFile | None = await self._metadata.read(files.find, domain.dmid, key)
        if conditions.judge(None if stored is None else validators(stored), reading=False) is not ConditionResult.GO:
            raise PreconditionFailed
        return 0 if stored is None else stored.fid

    @asynccontextmanager
    async def _upload(self, order: PutRequest, size: int) -> AsyncIterator[tuple[int, tuple[int, ...]]]:
        """Open an upload; give it up when the body of the `async with` raises."""
        devids = await self._plan(order, size)
        fid = await self._metadata.write(
            files.open_upload,
            dmid=order.domain.dmid,
            key=order.key,
            classid=order.storage_class.classid,
            devids=devids,
            now=await self._metadata.clock.seconds(),
        )
        renewal = asyncio.create_task(self._keep(fid))
        try:
            yield fid, devids
        except FidConflict as error:
            log.warning("upload_fid_in_use", fid=fid, reason=str(error))
            await self._metadata.write(files.skip_fid, fid)
            raise
        except BaseException:
            await self._discard(fid)
            raise
        finally:
            renewal.cancel()

    async def _keep(self, fid: int) -> None:
        while True:
            await asyncio.sleep(_RENEWAL)
            with suppress(TawaraError):  # a database that is away now may be back when the upload ends
                await self._metadata.write(files.renew_upload, fid, now=await self._metadata.clock.seconds())

    async def _discard(self, fid: int) -> None:
        try:
            await self._metadata.write(files.discard_upload, fid, now=await self._metadata.clock.seconds())
        except NoTempFile:
            return  # the commit has taken effect although it was reported as failed
        except TawaraError as error:
            log.warning("upload not discarded; it will expire", fid=fid, reason=error.message)
            return
        self._wakeups.delete.notify()

    async def _commit(
        self,
        order: PutRequest,
        fid: int,
        length: int,
        checksum: Checksum | None,
        outcome: Mapping[int, BaseException | None],
    ) -> PutResult:
        """Name what has been written. Raises NoDevices or NodeUnreachable when that is nothing."""
        good = [devid for devid, failure in outcome.items() if failure is None]
        orphans = [devid for devid, failure in outcome.items() if failure is not None]
        for failure in outcome.values():
            if isinstance(failure, FidConflict):
                raise failure
        for devid in orphans:
            log.warning("device failed an upload", fid=fid, devid=devid, reason=str(outcome[devid]))
        if not good:
            raise _worst(outcome.values())
        replicate = not self._satisfied(order.storage_class, good)
        file = NewFile(
            fid=fid,
            dmid=order.domain.dmid,
            key=order.key,
            length=length,
            classid=order.storage_class.classid,
            devids=good,
            checksum=checksum,
            content_type=order.content_type,
        )
        for _ in range(_ATTEMPTS):
            expected = await self._expected(order.domain, order.key, order.conditions)
            with suppress(PreconditionFailed):
                replaced = await self._metadata.write(
                    files.close_upload,
                    file,
                    now=await self._metadata.clock.seconds(),
                    replicate=replicate,
                    expected_fid=expected,
                    orphans=orphans,
                )
                if replicate:
                    self._wakeups.replicate.notify()
                if replaced is not None:
                    self._wakeups.delete.notify()
                return PutResult(entity_tag(fid, length), replaced is None)
        raise PreconditionFailed

    def _satisfied(self, storage_class: StorageClass, devids: Iterable[int]) -> bool:
        situation = Situation.of(self._view.current, devids, storage_class.mindevcount)
        return is_content(parse(storage_class.policy), situation, self._rng)

    def _url(self, devid: int, fid: int) -> str:
        url = self._view.current.url(devid, fid)
        if url is None:
            raise NoDevices
        return url

    async def _copy_here(self, devid: int, fid: int, path: Path, *, link: bool) -> None:
        assert self._local is not None
        # Only one copy may share the disk blocks of the received file: a second link would be no second copy.
        try:
            await self._local.store(devid, fids.path(devid, fid), path, link=link)
        except OtherContent as error:
            raise FidConflict(f"dev{devid} holds other content under fid {fid}") from error

    async def _send(
        self, devid: int, fid: int, pieces: AsyncIterator[bytes], length: int | None, md5: bytes | None
    ) -> None:
        await self._nodes.put(self._url(devid, fid), pieces, length=length, md5=md5)

    async def _watched(self, devid: int, copy: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `copy`, but give it up when the monitor has not seen its device for `_GIVEN_UP` seconds.

        A thread that hangs cannot be ended, and is left behind. Raises NodeUnreachable, and what `copy` raises.
        """
        copying = asyncio.create_task(copy())
        loop = asyncio.get_running_loop()
        seen = loop.time()
        try:
            while not (await asyncio.wait([copying], timeout=_LOOK_EVERY))[0]:
                observed = self._view.current.observed.get(devid)
                if observed is None or observed.state is not Observed.UNREACHABLE:
                    seen = loop.time()
                elif loop.time() - seen >= _GIVEN_UP:
                    raise NodeUnreachable(f"dev{devid} does not answer")
            copying.result()
        finally:
            if not copying.done():
                copying.cancel()
                self._left.add(copying)
                copying.add_done_callback(self._left.discard)
                await asyncio.wait([copying], timeout=_LOOK_EVERY)

    async def _pieces(self, path: Path) -> AsyncIterator[bytes]:
        offset = 0
        while piece := await self._pools.run(_SPOOL, _read, path, offset, self._limits.chunk):
            yield piece
            offset += len(piece)


def _read(path: Path, offset: int, count: int) -> bytes:
    """Up to `count` bytes of a file from `offset`. Blocks."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(count)


def _worst(failures: Iterable[BaseException | None]) -> BaseException:
    """Why no device has the file, without a word about which devices those are."""
    seen = list(failures)
    for failure in seen:
        if isinstance(failure, ChecksumMismatch):
            return ChecksumMismatch("The body does not have the digest that Content-MD5 names; nothing was kept")
        if failure is not None and not isinstance(failure, TawaraError):
            return failure  # the client broke off, or a fault of ours
    if any(isinstance(failure, TawaraError) and failure.http == 507 for failure in seen):
        return NoDevices()
    return NodeUnreachable("No storage device took the file; try again")
