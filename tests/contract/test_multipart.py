"""Uploads in parts and their parts, each promise on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tawara.metadata import backup, cluster, files, fsck, key_listing, multipart, placement_counts, removal
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.open import open_metadata
from tawara.model.errors import DomainHasFiles, NoSuchUpload, UnregDomain
from tawara.model.files import NewFile
from tawara.model.focus import Focus
from tawara.model.multipart import MultipartCompletion, MultipartUpload, ObjectPart, UploadState
from tawara.model.object_checksums import ChecksumAlgorithm, ChecksumType
from tawara.model.reserved_keys import PARTS as PARTS_PREFIX
from tawara.model.reserved_keys import part_key, part_number

Opener = Callable[[], Awaitable[Metadata]]
PARTS = (ObjectPart(1, 5, "AAAAAA=="), ObjectPart(7, 3))


def upload(number: int, dmid: int, key: bytes = b"k", **options: Any) -> MultipartUpload:
    """An upload with defaults."""
    given: dict[str, Any] = {"classid": 0, "devids": (1, 2), "account": "a" * 64, "initiated_at": 100}
    return MultipartUpload(f"{number:032x}", dmid, key, **given | options)


async def domain(metadata: Metadata, name: str = "files") -> int:
    """A new domain."""
    return await metadata.write(cluster.create_domain, name)


async def store(metadata: Metadata, dmid: int, key: bytes, now: int = 100, **more: Any) -> int:
    """Store a file of 5 bytes on device 1; return its fid."""
    fid = await metadata.write(files.open_upload, dmid=dmid, key=key, classid=0, devids=[1], now=now)
    file = NewFile(fid=fid, dmid=dmid, key=key, length=5, classid=0, devids=[1])
    await metadata.write(files.close_upload, file, now=now, **more)
    return fid


async def waiting_deletions(tx: Transaction) -> set[int]:
    """The fids whose data is to be deleted."""
    return {fid for (fid,) in await tx.rows("SELECT fid FROM file_to_delete2")}


async def test_an_upload_comes_back(metadata: Metadata) -> None:
    """All that is known of an upload is read back; an unknown one is None; its domain must exist."""
    dmid = await domain(metadata)
    checksum = (ChecksumAlgorithm.CRC32C, ChecksumType.FULL_OBJECT)
    full = upload(1, dmid, b"\xc3\xa9\x00", content_type="text/x", attributes=b'{"a":"b"}', checksum=checksum)
    for each in (full, upload(2, dmid)):
        await metadata.write(multipart.add, each)
        assert await metadata.read(multipart.find, each.upload_id) == each
    assert await metadata.read(multipart.find, "x") is None
    with pytest.raises(UnregDomain):
        await metadata.write(multipart.add, upload(3, dmid + 1))


async def test_pages_of_uploads(metadata: Metadata) -> None:
    """Uploads under way are listed by key and id, with common prefixes; every page size lists each once."""
    dmid, other = await domain(metadata), await domain(metadata, "other")
    keys = [b"b", b"a/1", b"a/2", b"b", b"c", b"a0", b"done"]
    made = [upload(number, dmid, key) for number, key in enumerate(keys)]
    for each in [*made, upload(99, other, b"b")]:
        await metadata.write(multipart.add, each)
    await metadata.write(multipart.abort, made[6].upload_id)
    b = [made[0], made[3]]
    for prefix, delimiter, wanted, prefixes in (
        (b"", b"", [made[1], made[2], made[5], *b, made[4]], []),
        (b"", b"/", [made[5], *b, made[4]], [b"a/"]),
        (b"a/", b"/", [made[1], made[2]], []),
        (b"b", b"", b, []),
        (b"x", b"/", [], []),
    ):
        for limit in (1, 2, 100):
            found: list[MultipartUpload] = []
            common: list[bytes] = []
            marker = (b"", "")
            while True:
                page = await metadata.read(multipart.page, dmid, prefix, delimiter, marker, limit)
                found += page.uploads
                common += page.prefixes
                if not page.truncated:
                    break
                assert len(page.uploads) + len(page.prefixes) == limit
                marker = page.last
            assert (found, common) == (wanted, prefixes)
    after_key = await metadata.read(multipart.page, dmid, b"", b"", (b"b", ""), 100)
    assert list(after_key.uploads) == [made[4]]
    assert not (await metadata.read(multipart.page, dmid, b"", b"", (b"", ""), 0)).truncated


async def test_parts(metadata: Metadata) -> None:
    """Parts are listed by number, a part that is uploaded again replaces the one before, and all are removed."""
    dmid = await domain(metadata)
    mine, other = upload(1, dmid).upload_id, upload(2, dmid).upload_id
    fids = {number: await store(metadata, dmid, part_key(mine, number)) for number in (2, 10_000, 1)}
    await store(metadata, dmid, part_key(other, 1))
    old, fids[2] = fids[2], await store(metadata, dmid, part_key(mine, 2))
    assert await metadata.read(waiting_deletions) == {old}
    listed = await metadata.read(multipart.list_parts, dmid, mine, None, 100)
    assert [(part_number(each.key), each.fid, each.devids) for each in listed] == [
        (number, fids[number], (1,)) for number in (1, 2, 10_000)
    ]
    page = await metadata.read(multipart.list_parts, dmid, mine, part_key(mine, 1), 1)
    assert [part_number(each.key) for each in page] == [2]
    assert await metadata.write(multipart.remove_parts, dmid, mine, now=100, limit=2) == 2
    assert await metadata.write(multipart.remove_parts, dmid, mine, now=100, limit=2) == 1
    assert await metadata.write(multipart.remove_parts, dmid, mine, now=100) == 0
    assert await metadata.read(waiting_deletions) == {old, *fids.values()}
    assert len(await metadata.read(multipart.list_parts, dmid, other, None, 100)) == 1


async def complete(metadata: Metadata, dmid: int, upload_id: str, holder: str, key: bytes = b"k") -> int:
    """Store the object of an upload; return its fid."""
    return await store(metadata, dmid, key, multipart=MultipartCompletion(upload_id, holder, "{}", PARTS))


async def test_completing(metadata: Metadata) -> None:
    """The upload ends in the transaction that names the object, with its result and parts, for its holder only."""
    dmid = await domain(metadata)
    one = upload(1, dmid)
    await metadata.write(multipart.add, one)
    with pytest.raises(NoSuchUpload):
        await complete(metadata, dmid, one.upload_id, "me")
    assert await metadata.write(multipart.claim, one.upload_id, "me", now=100, lease=60)
    assert not await metadata.write(multipart.claim, one.upload_id, "you", now=160, lease=60)
    await metadata.write(multipart.renew, one.upload_id, "me", until=300)
    assert not await metadata.write(multipart.claim, one.upload_id, "you", now=200, lease=60)
    with pytest.raises(NoSuchUpload):
        await complete(metadata, dmid, one.upload_id, "you")
    assert await metadata.read(files.find, dmid, b"k") is None
    fid = await complete(metadata, dmid, one.upload_id, "me")
    assert await metadata.read(multipart.object_parts, fid) == list(PARTS)
    found = await metadata.read(multipart.find, one.upload_id)
    assert found is not None
    assert (found.state, found.result) == (UploadState.DONE, "{}")
    assert not await metadata.write(multipart.claim, one.upload_id, "you", now=10_000, lease=60)
    with pytest.raises(NoSuchUpload):
        await metadata.write(multipart.abort, one.upload_id)
    with pytest.raises(NoSuchUpload):
        await complete(metadata, dmid, one.upload_id, "me")


async def test_a_lease_that_ended(metadata: Metadata) -> None:
    """An upload whose holder died is held by another, and what the first one still does has no effect."""
    dmid = await domain(metadata)
    one = upload(1, dmid)
    await metadata.write(multipart.add, one)
    assert await metadata.write(multipart.claim, one.upload_id, "dead", now=100, lease=60)
    assert await metadata.write(multipart.claim, one.upload_id, "me", now=161, lease=60)
    await metadata.write(multipart.release, one.upload_id, "dead")
    await metadata.write(multipart.renew, one.upload_id, "dead", until=1_000)
    with pytest.raises(NoSuchUpload):
        await complete(metadata, dmid, one.upload_id, "dead")
    await metadata.write(multipart.release, one.upload_id, "me")
    assert await metadata.write(multipart.claim, one.upload_id, "you", now=161, lease=60)
    await metadata.write(multipart.abort, one.upload_id)
    with pytest.raises(NoSuchUpload):
        await complete(metadata, dmid, one.upload_id, "you")


async def test_one_of_many_completions_names_the_object(opener: Opener) -> None:
    """Of gateways that complete and abort an upload at once one wins, whether they hold it or believe to."""
    gateways = [await opener() for _ in range(3)]
    dmid = await domain(gateways[0])
    one = upload(1, dmid)
    await gateways[0].write(multipart.add, one)
    claims = [
        each.write(multipart.claim, one.upload_id, f"holder {number}", now=100, lease=60)
        for number, each in enumerate(gateways)
    ]
    held = await asyncio.gather(*claims)
    assert sum(held) == 1
    outcomes: list[Any] = await asyncio.gather(
        *(complete(each, dmid, one.upload_id, f"holder {number}") for number, each in enumerate(gateways)),
        gateways[0].write(multipart.abort, one.upload_id),
        return_exceptions=True,
    )
    won = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(won) == 1
    assert all(isinstance(each, NoSuchUpload) for each in outcomes if isinstance(each, BaseException))
    stored = await gateways[0].read(files.find, dmid, b"k")
    assert (stored.fid if stored else None) == won[0]


async def test_maintenance(metadata: Metadata) -> None:
    """Uploads without a new part lapse, ended ones are found until their parts are removed, results are forgotten."""
    dmid = await domain(metadata)
    idle, busy, held, done = made = [upload(number, dmid) for number in range(4)]
    for each in made:
        await metadata.write(multipart.add, each)
    await store(metadata, dmid, part_key(idle.upload_id, 1), now=150)
    await store(metadata, dmid, part_key(busy.upload_id, 1), now=150)
    await store(metadata, dmid, part_key(busy.upload_id, 2), now=250)
    for each in (held, done):
        assert await metadata.write(multipart.claim, each.upload_id, "me", now=100, lease=60)
    await complete(metadata, dmid, done.upload_id, "me")
    assert await metadata.write(multipart.lapse, before=200) == [idle.upload_id]
    ended = await metadata.read(multipart.ended, limit=10)
    assert [each.upload_id for each in ended] == [idle.upload_id, done.upload_id]
    for each in ended:
        await metadata.write(multipart.finish, each.upload_id, until=500)
    assert await metadata.read(multipart.ended, limit=10) == []
    assert await metadata.read(multipart.find, idle.upload_id) is None
    assert await metadata.write(multipart.forget, now=500) == 0
    assert await metadata.write(multipart.forget, now=501) == 1
    assert await metadata.read(multipart.find, done.upload_id) is None
    await store(metadata, dmid, b"z")
    assert await metadata.read(multipart.find_orphans, dmid) == [idle.upload_id]
    assert await metadata.read(multipart.find_orphans, dmid + 1) == []
    for other in (
        b"",
        b"\xff",
        b"\0",
        b"x" * 40,
        b"0" * 31 + b"/1",
    ):  # of no part, as another program may have stored them
        await store(metadata, dmid, PARTS_PREFIX + other)
    assert idle.upload_id in await metadata.read(multipart.find_orphans, dmid)


async def test_parts_are_no_files(metadata: Metadata) -> None:
    """T11: a part is in no listing, count, check or refusal of removal, and goes with its domain."""
    dmid = await domain(metadata)
    one = upload(1, dmid)
    await metadata.write(multipart.add, one)
    part = await store(metadata, dmid, part_key(one.upload_id, 1))
    assert await metadata.read(files.list_keys, dmid, b"", None, 10) == []
    assert await metadata.read(files.list_files, dmid, b"", None, 10) == []
    assert await metadata.read(files.list_fids, 0, 10) == []
    assert (await metadata.read(key_listing.page, dmid, b"", b"", None, 10)).files == ()
    assert (await metadata.read(fsck.next_fids, Focus(), 0, part, 10))[0] == []
    assert await metadata.read(placement_counts.files_from, 0) == []
    assert await metadata.read(placement_counts.touched, [1]) == []
    facts = await metadata.read(removal.domain, "files")
    assert (facts.files, facts.uploads, facts.example) == (0, 1, None)
    # Keys of MogileFS clients that are no UTF-8 are files, wherever they sort.
    file = await store(metadata, dmid, b"\xff")
    assert await metadata.read(files.list_keys, dmid, b"", None, 10) == [b"\xff"]
    assert [each.fid for each in await metadata.read(files.list_fids, 0, 10)] == [file]
    with pytest.raises(DomainHasFiles):
        await metadata.write(cluster.delete_domain, "files")
    await metadata.write(files.delete, dmid, b"\xff", now=100)
    await metadata.write(cluster.delete_domain, "files")
    assert await metadata.read(waiting_deletions) == {part, file}
    assert await metadata.read(multipart.find, one.upload_id) is None


async def test_a_backup(metadata: Metadata, tmp_path: Path) -> None:
    """A backup has the parts of objects, but no upload: after a restore its parts are found to be without one."""
    dmid = await domain(metadata)
    under_way, done = upload(1, dmid), upload(2, dmid)
    for each in (under_way, done):
        await metadata.write(multipart.add, each)
        await store(metadata, dmid, part_key(each.upload_id, 1))
    assert await metadata.write(multipart.claim, done.upload_id, "me", now=100, lease=60)
    fid = await complete(metadata, dmid, done.upload_id, "me")
    chunks: list[backup.Chunk] = []
    highest = await metadata.read(backup.dump, chunks.append)
    restored = await open_metadata(f"sqlite://{tmp_path}/restored.db")
    try:
        for chunk in chunks:
            if not backup.is_small(chunk.table):
                await restored.write(backup.load, chunk)
        small = {chunk.table: chunk for chunk in chunks if backup.is_small(chunk.table)}
        await restored.write(backup.finish, small, highest_fid=highest)
        assert await restored.read(multipart.object_parts, fid) == list(PARTS)
        assert await restored.read(multipart.find, under_way.upload_id) is None
        assert await restored.read(multipart.find_orphans, dmid) == [under_way.upload_id, done.upload_id]
        assert await restored.read(files.list_keys, dmid, b"", None, 10) == [b"k"]
    finally:
        await restored.close()
