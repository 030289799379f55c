"""Collections of files, as WebDAV has them: finds, creates, removes, moves and copies them (metadata.collections)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tawara.metadata import collections as rows
from tawara.metadata import dav_properties, key_listing
from tawara.metadata.contract import Metadata
from tawara.model.cluster import Domain
from tawara.model.dav_locks import parent
from tawara.model.errors import PreconditionFailed, ProtectedResource, UnknownKey
from tawara.model.files import StoredFile
from tawara.model.listing_page import ListedKey
from tawara.model.unicode_names import forms
from tawara.store.file_assembler import FileAssembler
from tawara.store.service import FileStore
from tawara.store.writer import FileWriter, WriteRequest
from tawara.wire.http import Conditions

MARKER_TYPE: Final = "application/x-directory"
"""Media type of a collection's marker, as other programs that keep directories in an object store write it."""
PAGE: Final = 1000
"""Members read in one transaction."""
_AT_ONCE: Final = 16
"""Files deleted or copied at the same time."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What is at a path of a domain: a file, or a collection, which hides a file of the same path."""

    path: bytes
    """The key of the file; for a collection without the trailing slash."""
    file: StoredFile | None
    """None for a collection."""

    @property
    def is_collection(self) -> bool:
        """Whether the resource can have members."""
        return self.file is None


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a collection in a listing; `file` is None for a collection."""

    path: bytes
    file: ListedKey | None


class Collections:
    """Resources by domain and path. All methods raise Db, those that change something also StaleDatabase."""

    def __init__(self, metadata: Metadata, store: FileStore, writer: FileWriter, assembler: FileAssembler) -> None:
        self._metadata, self._store, self._writer, self._assembler = metadata, store, writer, assembler

    async def find(self, domain: Domain, path: bytes) -> Resource | None:
        """Return the resource at a path; None if there is none."""
        file, is_collection = await self._metadata.read(rows.find, domain.dmid, path)
        if is_collection:
            return Resource(path, None)
        return None if file is None else Resource(path, file)

    async def stored_path(self, domain: Domain, path: bytes) -> bytes:
        """Return the path under which a resource is stored: as given, or with names in another Unicode form.

        macOS sends names decomposed that others have stored composed. The names of what does not exist are as given.
        """
        if path.isascii() or await self.find(domain, path) is not None:
            return path
        names = path.split(b"/")
        found: list[bytes] = []
        for name in names:
            stored = await self._stored_name(domain, found, name)
            if stored is None:
                break
            found.append(stored)
        return b"/".join([*found, *names[len(found) :]])

    async def _stored_name(self, domain: Domain, above: list[bytes], name: bytes) -> bytes | None:
        for each in forms(name):
            if await self.find(domain, b"/".join([*above, each])) is not None:
                return each
        return None

    async def members(self, domain: Domain, path: bytes) -> AsyncIterator[list[Member]]:
        """Yield the direct members of a collection, page by page. Names that no path can have are left out."""
        prefix = path and path + b"/"
        after: bytes | None = None
        after_prefix = False
        while True:
            page = await self._metadata.read(
                key_listing.page, domain.dmid, prefix, b"/", after, PAGE, after_prefix=after_prefix
            )
            collections = {each[:-1] for each in page.prefixes if _is_name(each[len(prefix) : -1])}
            files = [
                Member(each.key, each)
                for each in page.files
                if each.key not in collections and _is_name(each.key[len(prefix) :])
            ]
            yield [*files, *(Member(each, None) for each in sorted(collections))]
            if not page.truncated:
                return
            last_file = page.files[-1].key if page.files else b""
            last_prefix = page.prefixes[-1] if page.prefixes else b""
            after, after_prefix = max(last_file, last_prefix), last_prefix > last_file

    async def create(self, domain: Domain, path: bytes) -> None:
        """Store a collection's marker; without an effect if it has one. Raises UnregClass, NoDevices."""
        storage_class = domain.class_named("")
        assert storage_class is not None, "each domain has a default class"
        marker = WriteRequest(domain, path + b"/", storage_class, MARKER_TYPE, None, Conditions(if_none_match="*"))
        with suppress(PreconditionFailed):
            await self._writer.store_small(marker, b"")

    async def keep_parent(self, domain: Domain, path: bytes) -> None:
        """Store the marker of the collection that has this member, so that it remains without the member."""
        if above := parent(path):
            await self.create(domain, above)

    async def delete(self, domain: Domain, resource: Resource) -> None:
        """Delete a file, or a collection with all its members, its marker last; its collection remains."""
        await self.keep_parent(domain, resource.path)
        if resource.file is not None:
            with suppress(UnknownKey):
                await self._store.delete(domain, resource.path)
        else:
            await self._delete_members(domain, resource.path)
        await self._metadata.write(rows.forget, domain.dmid, resource.path)

    async def _delete_members(self, domain: Domain, path: bytes) -> None:
        marker = path + b"/"
        while True:
            keys = await self._store.list_keys(domain, marker, marker, PAGE)
            if not keys:
                break
            for start in range(0, len(keys), _AT_ONCE):
                await asyncio.gather(*(self._delete_key(domain, each) for each in keys[start : start + _AT_ONCE]))
        await self._delete_key(domain, marker)

    async def _delete_key(self, domain: Domain, key: bytes) -> None:
        with suppress(UnknownKey):
            await self._store.delete(domain, key)

    async def move(self, domain: Domain, resource: Resource, to_path: bytes) -> None:
        """Give a resource, where it is a collection with all its members, another path of the domain, atomically.

        There must be nothing at `to_path`. Raises KeyExists, InvalidKey, CollectionTooLarge.
        """
        await self.keep_parent(domain, resource.path)
        if resource.is_collection:
            self._store.chooser.check_database()
            await self.create(domain, resource.path)
            await self._metadata.write(rows.move, domain.dmid, resource.path, to_path)
            return
        await self._store.rename(domain, resource.path, to_path)
        await self._metadata.write(dav_properties.move_tree, domain.dmid, resource.path, to_path)
        await self._metadata.write(rows.forget, domain.dmid, resource.path)

    async def copy(
        self, domain: Domain, resource: Resource, to_domain: Domain, to_path: bytes, *, members: bool
    ) -> None:
        """Copy a resource; a collection with `members`, or without. Raises as FileAssembler.copy, InvalidKey."""
        if resource.file is not None:
            await self._copy_file(domain, resource.path, to_domain, to_path)
            return
        await self.create(to_domain, to_path)
        await self._copy_properties(domain, resource.path, to_domain, to_path)
        prefix, after = resource.path + b"/", resource.path + b"/"
        while members:
            keys = await self._store.list_keys(domain, prefix, after, PAGE)
            for start in range(0, len(keys), _AT_ONCE):
                await asyncio.gather(
                    *(
                        self._copy_file(domain, each, to_domain, to_path + b"/" + each[len(prefix) :])
                        for each in keys[start : start + _AT_ONCE]
                    )
                )
            if len(keys) < PAGE:
                return
            after = keys[-1]

    async def _copy_file(self, domain: Domain, key: bytes, to_domain: Domain, to_key: bytes) -> None:
        default = to_domain.class_named("") if to_domain != domain else None
        await self._assembler.copy(domain, key, to_domain, to_key, storage_class=default)
        await self._copy_properties(domain, key.rstrip(b"/"), to_domain, to_key.rstrip(b"/"))

    async def _copy_properties(self, domain: Domain, path: bytes, to_domain: Domain, to_path: bytes) -> None:
        await self._metadata.write(dav_properties.copy, domain.dmid, path, to_domain.dmid, to_path)


def check_path(path: bytes) -> None:
    """Raise ProtectedResource if a segment is empty, `.` or `..`, which clients would resolve."""
    if path and not all(map(_is_name, path.split(b"/"))):
        raise ProtectedResource("A name in the path is empty, . or ..")


def _is_name(segment: bytes) -> bool:
    return segment not in (b"", b".", b"..")
