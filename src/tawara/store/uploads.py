"""Opens, closes and discards uploads: the only module that assigns a fid and a key to new content."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import structlog

from tawara.metadata import files
from tawara.metadata.contract import Metadata
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import Checksum, Domain, StorageClass
from tawara.model.errors import FidConflict, NoTempFile, PreconditionFailed, TawaraError
from tawara.model.files import NewFile, Upload
from tawara.model.multipart import MultipartCompletion
from tawara.store.conditions import UNCONDITIONAL, WriteConditions, expected_fid
from tawara.store.recent_uploads import RecentUploads

log = structlog.get_logger(__name__)

ATTEMPTS: Final = 8
"""Maximum attempts of a conditional change while other requests change the same key."""
_RENEWAL: Final = 600.0
"""Seconds between renewals of a long upload, which would expire otherwise."""


class Uploads:
    """The uploads of one process. All methods raise Db when the database does not answer, unless they say otherwise."""

    def __init__(self, metadata: Metadata, wakeups: Wakeups) -> None:
        self._metadata, self._wakeups = metadata, wakeups
        self._recent = RecentUploads()

    async def open(
        self, domain: Domain, key: bytes, storage_class: StorageClass, devids: Sequence[int], *, fid: int = 0
    ) -> Upload:
        """Open an upload that is closed by a later request; `fid` requests a particular fid.

        Raises FidInUse, BadParams for a `fid` that is too great.
        """
        upload = await self._open(domain, key, storage_class, devids, fid)
        self._recent.add(upload)
        return upload

    async def find(self, fid: int) -> Upload | None:
        """Return the open upload of `fid`, None if there is none."""
        return self._recent.take(fid) or await self._metadata.read(files.find_upload, fid)

    @asynccontextmanager
    async def session(
        self, domain: Domain, key: bytes, storage_class: StorageClass, devids: Sequence[int]
    ) -> AsyncIterator[Upload]:
        """Open an upload for the body of the `async with` and renew it; discard it when the body raises."""
        upload = await self._open(domain, key, storage_class, devids, 0)
        renewal = _Renewal(partial(self._renew, upload.fid))
        try:
            yield upload
        except FidConflict as error:
            await self.skip_fid(upload.fid, reason=str(error))
            raise
        except BaseException:
            await self.discard_failed(upload.fid)
            raise
        finally:
            renewal.stop()

    async def close(
        self,
        upload: Upload,
        key: bytes,
        *,
        length: int,
        written: Sequence[int],
        failed: Sequence[int] = (),
        checksum: Checksum | None = None,
        content_type: str | None = None,
        mtime_ns: int | None = None,
        etag: str | None = None,
        attributes: bytes | None = None,
        replicate: bool = True,
        conditions: WriteConditions = UNCONDITIONAL,
        multipart: MultipartCompletion | None = None,
    ) -> int | None:
        """Assign the key to the content, durable on the devices `written`; return the replaced fid, None for none.

        `failed` devices may hold a partial copy, which is queued for removal. `replicate` queues the file for
        replication; `multipart` is the upload in parts that ends with it. Raises NoTempFile, FidExists, NoSuchUpload
        for `multipart`, and PreconditionFailed when the conditions do not hold at the commit.
        """
        file = NewFile(
            fid=upload.fid,
            dmid=upload.dmid,
            key=key,
            length=length,
            classid=upload.classid,
            devids=written,
            checksum=checksum,
            content_type=content_type,
            mtime_ns=mtime_ns,
            etag=etag,
            attributes=attributes,
        )
        for _ in range(ATTEMPTS):
            expected = await expected_fid(self._metadata, upload.dmid, key, conditions)
            with suppress(PreconditionFailed):
                replaced = await self._metadata.write(
                    files.close_upload,
                    file,
                    now=await self._metadata.clock.seconds(),
                    replicate=replicate,
                    expected_fid=expected,
                    orphans=failed,
                    multipart=multipart,
                )
                if replicate:
                    self._wakeups.replicate.notify()
                if replaced is not None:
                    self._wakeups.delete.notify()
                return replaced
        raise PreconditionFailed

    async def discard(self, fid: int) -> None:
        """Discard an upload and queue its bytes for deletion. Raises NoTempFile."""
        await self._metadata.write(files.discard_upload, fid, now=await self._metadata.clock.seconds())
        self._wakeups.delete.notify()

    async def discard_failed(self, fid: int) -> None:
        """Discard an upload after an error; an upload that cannot be discarded now expires later. Raises nothing."""
        try:
            await self.discard(fid)
        except NoTempFile:
            return  # the commit took effect although it was reported as failed
        except TawaraError as error:
            log.warning("upload_not_discarded", fid=fid, reason=error.message)

    async def skip_fid(self, fid: int, *, reason: str, devid: int | None = None) -> None:
        """Drop an upload because a device holds other content under its fid; that content is left alone."""
        log.error("upload_fid_in_use", fid=fid, devid=devid, reason=reason)
        await self._metadata.write(files.skip_fid, fid)

    async def _open(
        self, domain: Domain, key: bytes, storage_class: StorageClass, devids: Sequence[int], fid: int
    ) -> Upload:
        now = await self._metadata.clock.seconds()
        fid = await self._metadata.write(
            files.open_upload,
            dmid=domain.dmid,
            key=key,
            classid=storage_class.classid,
            devids=devids,
            now=now,
            fid=fid,
        )
        return Upload(fid, domain.dmid, key, storage_class.classid, tuple(devids), now)

    async def _renew(self, fid: int) -> None:
        with suppress(TawaraError):  # the database may answer again before the upload ends
            await self._metadata.write(files.renew_upload, fid, now=await self._metadata.clock.seconds())


class _Renewal:
    """Renews an upload every _RENEWAL seconds until it is stopped. Most uploads end earlier, and cost only a timer."""

    def __init__(self, renew: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._renew = renew
        self._timer = asyncio.get_running_loop().call_later(_RENEWAL, self._start)
        self._task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self._renew()
            await asyncio.sleep(_RENEWAL)
