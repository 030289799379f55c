"""Uploads in parts: creates, completes and aborts them; one process at a time makes the object (metadata.multipart)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from tawara.metadata import multipart as rows
from tawara.metadata.contract import Metadata
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import Domain, StorageClass
from tawara.model.errors import NoSuchUpload, TawaraError
from tawara.model.files import StoredFile
from tawara.model.multipart import RESULT_KEPT, SMALLEST_PART, MultipartUpload, ObjectPart
from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType
from tawara.model.reserved_keys import part_key
from tawara.store.service import FileStore

log = structlog.get_logger(__name__)

_LEASE: Final = 60
"""Seconds for which a process holds an upload that it completes; renewed while that lasts."""
_FIRST_ROUND: Final = 10.0
"""Seconds to wait for the first observation of the devices, without which none can be chosen."""
_PAGE: Final = 1000


class MultipartUploads:
    """The uploads in parts of a store. All methods raise Db."""

    def __init__(self, metadata: Metadata, store: FileStore, wakeups: Wakeups) -> None:
        self._metadata, self._store, self._wakeups = metadata, store, wakeups

    async def create(
        self,
        domain: Domain,
        key: bytes,
        storage_class: StorageClass,
        *,
        account: str,
        content_type: str | None,
        attributes: bytes | None,
        checksum: tuple[ChecksumAlgorithm, ChecksumType] | None,
    ) -> MultipartUpload:
        """Create an upload, and choose the devices for its parts. Raises NoDevices, StaleDatabase, NoReservedKeys."""
        await self._store.chooser.wait_observed(_FIRST_ROUND)
        devids = self._store.chooser.plan(storage_class, SMALLEST_PART)
        now = await self._metadata.clock.now()
        upload = MultipartUpload(
            # Sorted by age, so that listings are.
            upload_id=f"{int(now * 1000):012x}{secrets.token_hex(10)}",
            dmid=domain.dmid,
            key=key,
            classid=storage_class.classid,
            devids=devids,
            account=account,
            initiated_at=int(now),
            content_type=content_type,
            attributes=attributes,
            checksum=checksum,
        )
        await self._metadata.write(rows.add, upload)
        return upload

    async def find(self, domain: Domain, key: bytes, upload_id: str) -> MultipartUpload:
        """Return an upload of a key, also one that is completed. Raises NoSuchUpload."""
        found = await self._metadata.read(rows.find, upload_id)
        if (
            found is None
            or (found.dmid, found.key) != (domain.dmid, key)
            or not (found.state.accepts_parts or found.state.has_result)
        ):
            raise NoSuchUpload
        return found

    async def find_open(self, domain: Domain, key: bytes, upload_id: str) -> MultipartUpload:
        """Return an upload of a key that accepts parts. Raises NoSuchUpload."""
        found = await self.find(domain, key, upload_id)
        if not found.state.accepts_parts:
            raise NoSuchUpload
        return found

    async def list_parts(self, upload: MultipartUpload, after: int, limit: int) -> list[StoredFile]:
        """Return the next `limit` parts after a number."""
        key = part_key(upload.upload_id, after)
        return await self._metadata.read(rows.list_parts, upload.dmid, upload.upload_id, key, limit)

    async def all_parts(self, upload: MultipartUpload) -> list[StoredFile]:
        """Return all parts, by number."""
        found: list[StoredFile] = []
        while True:
            after = found[-1].key if found else None
            page = await self._metadata.read(rows.list_parts, upload.dmid, upload.upload_id, after, _PAGE)
            found += page
            if len(page) < _PAGE:
                return found

    async def object_parts(self, stored: StoredFile) -> list[ObjectPart]:
        """Return the parts of which an object was made; none for one that was stored whole."""
        return await self._metadata.read(rows.object_parts, stored.fid)

    async def keep_part(self, upload: MultipartUpload) -> None:
        """Raise NoSuchUpload if the upload ended while a part arrived; the part is removed then."""
        found = await self._metadata.read(rows.find, upload.upload_id)
        if found is None or not found.state.accepts_parts:
            await self.remove_parts(upload)
            raise NoSuchUpload

    @asynccontextmanager
    async def hold(self, upload: MultipartUpload) -> AsyncIterator[str | None]:
        """Hold an upload for the body of the `async with`; None if another process holds it or it has ended."""
        holder = secrets.token_hex(16)
        now = await self._metadata.clock.seconds()
        if not await self._metadata.write(rows.claim, upload.upload_id, holder, now=now, lease=_LEASE):
            yield None
            return
        renewal = asyncio.create_task(self._renew(upload.upload_id, holder))
        try:
            yield holder
        except BaseException:
            with suppress(TawaraError):  # it expires
                await self._metadata.write(rows.release, upload.upload_id, holder)
            raise
        finally:
            renewal.cancel()

    async def _renew(self, upload_id: str, holder: str) -> None:
        while True:
            await asyncio.sleep(_LEASE / 4)
            with suppress(TawaraError):  # the database may answer again in time
                until = await self._metadata.clock.seconds() + _LEASE
                await self._metadata.write(rows.renew, upload_id, holder, until=until)

    async def abort(self, upload: MultipartUpload) -> None:
        """Abort an upload, also one that is being completed, and remove its parts. Raises NoSuchUpload."""
        await self._metadata.write(rows.abort, upload.upload_id)
        await self.clean_up(upload)

    async def clean_up(self, upload: MultipartUpload) -> None:
        """Remove the parts of an upload that has ended. What fails is left to the workers; raises nothing."""
        try:
            await self.remove_parts(upload)
            until = await self._metadata.clock.seconds() + RESULT_KEPT
            await self._metadata.write(rows.finish, upload.upload_id, until=until)
        except TawaraError as error:
            log.warning("parts_not_removed", upload_id=upload.upload_id, reason=error.message)

    async def remove_parts(self, upload: MultipartUpload) -> None:
        """Remove all parts of an upload."""
        now = await self._metadata.clock.seconds()
        while await self._metadata.write(rows.remove_parts, upload.dmid, upload.upload_id, now=now):
            self._wakeups.delete.notify()
