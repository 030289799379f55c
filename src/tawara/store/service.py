"""The file store as every protocol uses it: finds, lists, renames and deletes files; `uploads` stores new ones."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from random import Random

from tawara.metadata import files
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import Domain, StorageClass
from tawara.model.errors import PreconditionFailed, UnknownKey
from tawara.model.files import StoredFile
from tawara.model.limits import LIST_FIDS, LIST_KEYS
from tawara.store.conditions import UNCONDITIONAL, WriteConditions, expected_fid
from tawara.store.device_chooser import DeviceChooser
from tawara.store.uploads import ATTEMPTS, Uploads


@dataclass(frozen=True, slots=True)
class FilePage:
    """Part of a listing, in byte order of the keys."""

    files: list[StoredFile]
    next_after: bytes | None
    """The key after which the next page begins; None on a page that is not full."""


class FileStore:
    """Files by domain and key. All methods raise Db when the database does not answer."""

    def __init__(self, metadata: Metadata, view: ClusterView, wakeups: Wakeups, rng: Random) -> None:
        self._metadata, self._wakeups = metadata, wakeups
        self.chooser = DeviceChooser(view, rng)
        self.uploads = Uploads(metadata, wakeups)

    async def find(self, domain: Domain, key: bytes) -> StoredFile:
        """Return the file that `key` names. Raises UnknownKey."""
        stored = await self._metadata.read(files.find, domain.dmid, key)
        if stored is None:
            raise UnknownKey
        return stored

    async def list_keys(self, domain: Domain, prefix: bytes, after: bytes | None, limit: int) -> list[bytes]:
        """Return keys that begin with `prefix` and follow `after`, in byte order; at most LIST_KEYS."""
        return await self._metadata.read(files.list_keys, domain.dmid, prefix, after, _bounded(limit, LIST_KEYS))

    async def list_files(self, domain: Domain, prefix: bytes, after: bytes | None, limit: int) -> FilePage:
        """Return the files whose keys `list_keys` would return."""
        count = _bounded(limit, LIST_KEYS)
        found = await self._metadata.read(files.list_files, domain.dmid, prefix, after, count)
        return FilePage(found, found[-1].key if len(found) == count else None)

    async def list_fids(self, after: int, limit: int) -> list[StoredFile]:
        """Return the files whose fid is greater than `after`, in order of fid; at most LIST_FIDS."""
        return await self._metadata.read(files.list_fids, after, _bounded(limit, LIST_FIDS))

    async def delete(self, domain: Domain, key: bytes, conditions: WriteConditions = UNCONDITIONAL) -> None:
        """Remove a key and queue its bytes for deletion. Raises UnknownKey, PreconditionFailed, StaleDatabase."""
        self.chooser.check_database()
        for _ in range(ATTEMPTS):
            expected = await expected_fid(self._metadata, domain.dmid, key, conditions)
            if expected == 0:
                raise UnknownKey
            with suppress(PreconditionFailed):
                now = await self._metadata.clock.seconds()
                await self._metadata.write(files.delete, domain.dmid, key, now=now, expected_fid=expected)
                self._wakeups.delete.notify()
                return
        raise PreconditionFailed

    async def rename(self, domain: Domain, from_key: bytes, to_key: bytes) -> None:
        """Give a file another key. Raises UnknownKey, KeyExists, StaleDatabase."""
        self.chooser.check_database()
        await self._metadata.write(files.rename, domain.dmid, from_key, to_key)

    async def set_class(self, domain: Domain, key: bytes, storage_class: StorageClass) -> None:
        """Move a file to another class of its domain. Raises InvalidKey, NoDevices, StaleDatabase."""
        self.chooser.check_database()
        if await self._metadata.write(files.set_class, domain.dmid, key, storage_class.classid):
            self._wakeups.replicate.notify()


def _bounded(limit: int, most: int) -> int:
    return min(max(1, limit), most)
