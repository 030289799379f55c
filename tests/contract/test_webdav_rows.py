"""Locks, dead properties and collections of WebDAV, each promise on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tawara.metadata import cluster, collections, dav_locks, dav_properties, files, key_listing
from tawara.metadata.contract import Metadata
from tawara.model.dav_locks import DavLock
from tawara.model.errors import CollectionTooLarge, InvalidKey, KeyExists, Locked
from tawara.model.files import NewFile
from tawara.wire.dav.documents import PropertyChange, PropertyName

Opener = Callable[[], Awaitable[Metadata]]
AUTHOR = PropertyName("urn:x", "author")
NOWHERE = PropertyName("", "title")


def lock(number: int, path: bytes, **options: Any) -> DavLock:
    """A lock with defaults: exclusive, on one resource."""
    given: dict[str, Any] = {"deep": False, "exclusive": True, "account": "anna", "expires_at": 100, "owner": "俵"}
    return DavLock(f"urn:uuid:{number}", path, **given | options)


async def test_locks_are_found_where_they_matter(metadata: Metadata) -> None:
    """Locks on a path and above it are found, those below on request; not those beside it, of others, or expired."""
    made = [
        lock(1, b"", deep=True, exclusive=False),
        lock(2, b"a", exclusive=False),
        lock(3, b"a/b", exclusive=False),
        lock(4, b"a/b/\xff", exclusive=False, expires_at=50),
        lock(5, b"a/c", exclusive=False),
        lock(6, b"ab", exclusive=False),
    ]
    for each in made:
        await metadata.write(dav_locks.add, 1, each, now=10)
    await metadata.write(dav_locks.add, 2, lock(7, b"a/b"), now=10)

    async def found(path: bytes, *, tree: bool, now: int = 10) -> list[DavLock]:
        return await metadata.read(dav_locks.near, 1, path, tree=tree, now=now)

    assert await found(b"a/b", tree=False) == made[:3]
    assert await found(b"a/b", tree=True) == made[:4]
    assert await found(b"a/b", tree=True, now=50) == made[:3]
    assert await found(b"", tree=True) == made
    assert await found(b"zzz", tree=False) == made[:1]


async def test_locks_are_changed_and_removed(metadata: Metadata) -> None:
    """A lock is refreshed and removed by its token; deleting a resource removes the locks on it and below."""
    for each in (lock(1, b"a"), lock(2, b"a/b"), lock(3, b"ab"), lock(4, b"c", expires_at=20)):
        await metadata.write(dav_locks.add, 1, each, now=10)
    await metadata.write(dav_locks.refresh, 1, "urn:uuid:3", expires_at=500)
    await metadata.write(dav_locks.remove_tree, 1, b"a")
    left = await metadata.read(dav_locks.near, 1, b"", tree=True, now=0)
    assert [(each.token, each.expires_at) for each in left] == [("urn:uuid:3", 500), ("urn:uuid:4", 20)]
    await metadata.write(dav_locks.remove, 1, "urn:uuid:3")
    await metadata.write(dav_locks.add, 1, lock(5, b"d"), now=20)
    left = await metadata.read(dav_locks.near, 1, b"", tree=True, now=0)
    assert [each.token for each in left] == ["urn:uuid:5"]


async def test_of_concurrent_locks_one_is_granted(opener: Opener) -> None:
    """Of many gateways that lock overlapping resources at once, exactly one succeeds."""
    gateways = [await opener() for _ in range(4)]
    attempts = [
        each.write(dav_locks.add, 1, lock(number, path, deep=True), now=10)
        for number, (each, path) in enumerate(zip(gateways * 2, [b"a", b"a/b", b"a/b/c", b""] * 2, strict=True))
    ]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Locked"] * 7 + ["NoneType"]
    assert all(each.paths for each in outcomes if isinstance(each, Locked))


async def test_properties(metadata: Metadata) -> None:
    """Properties of any name are set, replaced, removed, copied, moved with a tree, and removed with it."""
    changes = [PropertyChange(AUTHOR, "<a>俵</a>"), PropertyChange(NOWHERE, "<t/>"), PropertyChange(NOWHERE, None)]
    await metadata.write(dav_properties.change, 1, b"a", changes)
    await metadata.write(dav_properties.change, 1, b"a/\xe4\xbf\xb5", [PropertyChange(NOWHERE, "<t>1</t>")])
    await metadata.write(dav_properties.change, 1, b"a/\xe4\xbf\xb5", [PropertyChange(NOWHERE, "<t>2</t>")])
    await metadata.write(dav_properties.change, 1, b"ab", [PropertyChange(NOWHERE, "<t/>")])
    await metadata.write(dav_properties.copy, 1, b"a", 2, b"copy")
    await metadata.write(dav_properties.move_tree, 1, b"a", b"new")

    async def found(dmid: int, *paths: bytes) -> dict[bytes, dict[PropertyName, str]]:
        return await metadata.read(dav_properties.read, dmid, paths)

    assert await found(1, b"a", b"new", b"new/\xe4\xbf\xb5", b"ab") == {
        b"new": {AUTHOR: "<a>俵</a>"},
        b"new/\xe4\xbf\xb5": {NOWHERE: "<t>2</t>"},
        b"ab": {NOWHERE: "<t/>"},
    }
    assert await found(2, b"copy") == {b"copy": {AUTHOR: "<a>俵</a>"}}
    await metadata.write(dav_properties.remove_tree, 1, b"new")
    assert await found(1, b"new", b"new/\xe4\xbf\xb5", b"ab") == {b"ab": {NOWHERE: "<t/>"}}
    assert await found(1) == {}


async def store(metadata: Metadata, *keys: bytes) -> int:
    """Store empty files under these keys; return the domain's dmid."""
    dmid = await metadata.write(cluster.create_domain, "d")
    for key in keys:
        fid = await metadata.write(files.open_upload, dmid=dmid, key=key, classid=0, devids=(1,), now=1)
        new = NewFile(fid=fid, dmid=dmid, key=key, length=0, classid=0, devids=(1,))
        await metadata.write(files.close_upload, new, now=1)
    return dmid


async def keys_of(metadata: Metadata, dmid: int) -> list[bytes]:
    """All keys of a domain."""
    return [each.key for each in (await metadata.read(key_listing.page, dmid, b"", b"", None, 100)).files]


async def test_collections_are_found_and_moved(metadata: Metadata) -> None:
    """A collection is found by its marker or by any member, and is moved with its properties, not its locks."""
    dmid = await store(metadata, b"a/b", b"a/c/d", b"ab", b"empty/", b"file")

    async def is_collection(path: bytes) -> tuple[bool, bool]:
        file, collection = await metadata.read(collections.find, dmid, path)
        return file is not None, collection

    assert [await is_collection(each) for each in (b"", b"a", b"a/c", b"empty", b"file", b"ab/x")] == [
        (False, True), (False, True), (False, True), (False, True), (True, False), (False, False),
    ]  # fmt: skip
    await metadata.write(dav_properties.change, dmid, b"a/b", [PropertyChange(AUTHOR, "<a/>")])
    await metadata.write(dav_locks.add, dmid, lock(1, b"a/b"), now=10)
    assert await metadata.write(collections.move, dmid, b"a", b"x/y") == 2
    assert await keys_of(metadata, dmid) == [b"ab", b"empty/", b"file", b"x/y/b", b"x/y/c/d"]
    assert list(await metadata.read(dav_properties.read, dmid, [b"x/y/b"])) == [b"x/y/b"]
    assert await metadata.read(dav_locks.near, dmid, b"", tree=True, now=10) == []


async def test_a_move_that_cannot_be_leaves_everything(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection is not moved over another, to keys that are too long, or if it has too many files for one step."""
    dmid = await store(metadata, b"a/b", b"a/c", b"x/y")
    before = await keys_of(metadata, dmid)
    with pytest.raises(KeyExists):
        await metadata.write(collections.move, dmid, b"a", b"x")
    with pytest.raises(InvalidKey):
        await metadata.write(collections.move, dmid, b"a", b"l" * 1023)
    monkeypatch.setattr(collections, "MOST_MOVED", 1)
    with pytest.raises(CollectionTooLarge):
        await metadata.write(collections.move, dmid, b"a", b"z")
    assert await keys_of(metadata, dmid) == before
    await metadata.write(collections.forget, dmid, b"a")
    assert await keys_of(metadata, dmid) == before
