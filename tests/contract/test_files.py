"""The promises of each transaction of `metadata.files`, on every engine."""

from __future__ import annotations

import asyncio

import pytest

from tawara.metadata import files, queues, replicas, uploads
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import (
    FidExists,
    FidInUse,
    InvalidKey,
    KeyExists,
    NoDevices,
    NoTempFile,
    PreconditionFailed,
    UnknownKey,
)
from tawara.model.files import NewFile, StoredFile, Upload

MD5 = Checksum(HashType.MD5, bytes(range(16)))


async def upload(metadata: Metadata, key: bytes, *, fid: int = 0, dmid: int = 1, now: int = 100) -> int:
    return await metadata.write(files.open_upload, dmid=dmid, key=key, classid=3, devids=(1, 2), now=now, fid=fid)


async def close(metadata: Metadata, fid: int, key: bytes, devids: tuple[int, ...] = (1,)) -> int | None:
    return await metadata.write(
        files.close_upload, NewFile(fid=fid, dmid=1, key=key, classid=3, length=10, devids=devids), now=200
    )


async def store(metadata: Metadata, key: bytes, devids: tuple[int, ...] = (1,)) -> int:
    fid = await upload(metadata, key)
    await close(metadata, fid, key, devids)
    return fid


async def backlog(metadata: Metadata) -> dict[str, int]:
    return await metadata.read(queues.backlog)


async def test_an_upload_is_stored(metadata: Metadata) -> None:
    """open_upload stores all fields of the upload, and no key refers to it yet."""
    fid = await upload(metadata, b"k")
    assert await metadata.read(files.find_upload, fid) == Upload(fid, 1, b"k", 3, (1, 2), 100)
    assert await metadata.read(files.find, 1, b"k") is None


async def test_fids_are_unique(metadata: Metadata) -> None:
    """Every upload has a new fid, greater than all before, also when earlier ones are deleted."""
    first = await upload(metadata, b"a")
    await metadata.write(files.discard_upload, first, now=1)
    second = await store(metadata, b"a")
    await metadata.write(files.delete, 1, b"a", now=1)
    assert first < second < await upload(metadata, b"a")


async def test_a_requested_fid(metadata: Metadata) -> None:
    """A free fid can be requested, and counting continues beyond it. One in use, below the used ones, or still being
    deleted, is refused."""
    first = await store(metadata, b"a")
    wanted = first + 5000
    assert await upload(metadata, b"b", fid=wanted) == wanted
    for taken in (wanted, first):
        with pytest.raises(FidInUse):
            await upload(metadata, b"c", fid=taken)
    following = [await upload(metadata, b"d") for _ in range(3)]
    assert following == sorted(set(following))
    assert following[0] > wanted
    deleted = await store(metadata, b"e")
    await metadata.write(files.delete, 1, b"e", now=1)
    with pytest.raises(FidInUse):
        await upload(metadata, b"f", fid=deleted)


async def test_a_counter_behind_the_files_is_advanced(metadata: Metadata) -> None:
    """If a restore left the counter behind the files, new fids are beyond every file's (docs/mogilefs.md 17.1)."""
    start = await upload(metadata, b"a")

    async def restore(tx: Transaction) -> None:
        columns = "fid, dmid, dkey, length, classid, devcount"
        sql = f"INSERT INTO file ({columns}) VALUES (?, 1, {tx.dialect.key_value}, 1, 0, 1)"
        for fid in range(start + 1, start + 40):
            await tx.run(sql, fid, b"restored%d" % fid)

    await metadata.write(restore)
    new = [await upload(metadata, b"n%d" % n) for n in range(5)]
    assert new == sorted(set(new))
    assert new[0] >= start + 40


async def test_uploads_may_close_in_any_order(metadata: Metadata) -> None:
    """An upload whose fid is below stored ones is closed normally."""
    fids: list[int] = []
    for _ in range(5):
        fids += await asyncio.gather(*(store(metadata, b"o%d" % number) for number in range(40)))
    assert len(set(fids)) == len(fids)


async def test_the_counter_is_advanced_at_the_start(metadata: Metadata) -> None:
    """After a restore the first new fid is beyond every stored one, also if its predecessors are deleted."""

    async def restore(tx: Transaction) -> None:
        columns = "fid, dmid, dkey, length, classid, devcount"
        await tx.run(f"INSERT INTO file ({columns}) VALUES (90000, 1, {tx.dialect.key_value}, 1, 0, 1)", b"r")

    await metadata.write(restore)
    await metadata.write(uploads.count_beyond_files)
    assert await upload(metadata, b"n") > 90000


async def test_close_sets_the_key(metadata: Metadata) -> None:
    """After close_upload the key refers to the fid with all given fields, it is queued for replication, and no upload
    is left."""
    fid = await upload(metadata, b"k")
    replaced = await metadata.write(
        files.close_upload,
        NewFile(fid, 1, b"k", 10, classid=3, devids=(2, 1), checksum=MD5, content_type="image/png", mtime_ns=7),
        now=200,
    )
    assert replaced is None
    found = await metadata.read(files.find, 1, b"k")
    assert found is not None
    assert sorted(found.devids) == [1, 2]
    assert found == StoredFile(fid, 1, b"k", 10, 3, 2, found.devids, 200, "image/png", MD5)
    assert await metadata.read(files.find_fid, fid) == found
    assert await metadata.read(files.source_time, fid) == 7
    assert await metadata.read(files.find_upload, fid) is None
    assert await backlog(metadata) == {"replicate": 1, "delete": 0, "uploads": 0}


async def test_close_without_replication(metadata: Metadata) -> None:
    """A caller that knows the policy to be satisfied queues no replication."""
    fid = await upload(metadata, b"k")
    await metadata.write(
        files.close_upload, NewFile(fid=fid, dmid=1, key=b"k", classid=0, length=1, devids=(1,)), now=1, replicate=False
    )
    assert (await backlog(metadata))["replicate"] == 0


async def test_expected_fid_is_checked_at_the_commit(metadata: Metadata) -> None:
    """A close succeeds only if the key refers to `expected_fid` at that moment (0: to none); else nothing changes."""
    first, second = await upload(metadata, b"k"), await upload(metadata, b"k")

    async def close_if(fid: int, expected_fid: int) -> int | None:
        file = NewFile(fid, 1, b"k", 1, 0, (1,))
        return await metadata.write(files.close_upload, file, now=200, expected_fid=expected_fid)

    with pytest.raises(PreconditionFailed):
        await close_if(first, second)
    assert await metadata.read(files.find, 1, b"k") is None
    assert await close_if(first, 0) is None
    for wrong in (0, second):
        with pytest.raises(PreconditionFailed):
            await close_if(second, wrong)
    found = await metadata.read(files.find, 1, b"k")
    assert found is not None
    assert found.fid == first
    assert await close_if(second, first) == first


async def test_the_devices_of_failed_writes_are_cleaned_up(metadata: Metadata) -> None:
    """Each orphan of a closed upload, and none of a refused one, can be claimed for cleanup a minute later."""
    fids = [await upload(metadata, key) for key in (b"a", b"b", b"c")]
    await asyncio.gather(
        *(
            metadata.write(files.close_upload, NewFile(fid, 1, key, 1, 0, (1,)), now=200, orphans=orphans)
            for fid, key, orphans in zip(fids, (b"a", b"b", b"c"), ((2, 3), (), (4,)), strict=True)
        )
    )
    refused = NewFile(fids[0], 1, b"a", 1, 0, (1,))
    with pytest.raises(NoTempFile):
        await metadata.write(files.close_upload, refused, now=200, orphans=(5,))
    assert await metadata.write(replicas.claim_abandoned_copies, now=200 + replicas.LATE - 1) == []
    claimed = await metadata.write(replicas.claim_abandoned_copies, now=200 + replicas.LATE)
    assert sorted((each.fid, each.devid) for each in claimed) == [(fids[0], 2), (fids[0], 3), (fids[2], 4)]


async def test_close_replaces(metadata: Metadata) -> None:
    """Closing over an existing key returns the replaced fid, which is queued for deletion and has no key."""
    old = await store(metadata, b"k")
    new = await upload(metadata, b"k")
    assert await close(metadata, new, b"k") == old
    found = await metadata.read(files.find, 1, b"k")
    assert found is not None
    assert found.fid == new
    assert await metadata.read(files.find_fid, old) is None
    (deletion,) = await metadata.write(queues.claim_deletions, limit=10, now=200)
    assert deletion.fid == old


async def test_an_upload_is_closed_once(metadata: Metadata) -> None:
    """A second close, and one of an unknown upload, raises NoTempFile and changes nothing."""
    fid = await store(metadata, b"k")
    with pytest.raises(NoTempFile):
        await close(metadata, fid, b"other")
    with pytest.raises(NoTempFile):
        await close(metadata, fid + 1000, b"other")
    assert await metadata.read(files.find, 1, b"other") is None


async def test_a_fid_that_is_already_stored(metadata: Metadata) -> None:
    """An upload row that was left although its fid is the key's file raises FidExists and leaves the file."""
    fid = await store(metadata, b"k")
    await metadata.write(_leave_upload, fid, b"k")
    with pytest.raises(FidExists):
        await close(metadata, fid, b"k")
    assert await metadata.read(files.find, 1, b"k") is not None


async def _leave_upload(tx: Transaction, fid: int, key: bytes) -> None:
    columns = "fid, createtime, classid, dmid, dkey, devids"
    await tx.run(
        f"INSERT INTO tempfile ({columns}) VALUES (?, 1, 0, 1, {tx.dialect.key_value}, '1')",
        fid,
        key,
    )


async def test_a_fid_never_has_two_keys(metadata: Metadata) -> None:
    """A leftover upload row of a stored fid cannot give it a second key."""
    fid = await store(metadata, b"k")
    await metadata.write(_leave_upload, fid, b"second")
    with pytest.raises(FidExists):
        await close(metadata, fid, b"second")
    assert await metadata.read(files.find, 1, b"second") is None


async def test_discard(metadata: Metadata) -> None:
    """A discarded upload is removed, and its data on every offered device is queued for deletion; a second discard is
    NoTempFile."""
    fid = await upload(metadata, b"k")
    await metadata.write(files.discard_upload, fid, now=5)
    assert await metadata.read(replicas.devices_of, fid) == (1, 2)
    assert await backlog(metadata) == {"replicate": 0, "delete": 1, "uploads": 0}
    with pytest.raises(NoTempFile):
        await metadata.write(files.discard_upload, fid, now=5)


async def test_discarding_a_row_left_by_mogilefs_keeps_the_file(metadata: Metadata) -> None:
    """Only the upload row of a fid that is a file is removed (docs/mogilefs.md 11.2)."""
    fid = await store(metadata, b"k")
    await metadata.write(_leave_upload, fid, b"k")
    await metadata.write(files.discard_upload, fid, now=5)
    assert await metadata.read(files.find, 1, b"k") is not None
    assert (await backlog(metadata))["delete"] == 0


async def test_old_uploads_expire(metadata: Metadata) -> None:
    """expire_uploads discards uploads opened before a time, oldest first, up to the limit."""
    old = [await upload(metadata, b"k%d" % n, now=n) for n in range(5)]
    young = await upload(metadata, b"young", now=1000)
    assert await metadata.write(files.expire_uploads, before=1000, now=2000, limit=3) == 3
    assert [await metadata.read(files.find_upload, fid) is None for fid in old] == [True, True, True, False, False]
    assert await metadata.write(files.expire_uploads, before=1000, now=2000) == 2
    assert await metadata.write(files.expire_uploads, before=1000, now=2000) == 0
    assert await metadata.read(files.find_upload, young) is not None


async def test_delete(metadata: Metadata) -> None:
    """A deleted key is unknown at once, and its fid is queued for deletion; its replicas stay known until then."""
    fid = await store(metadata, b"k", (1, 2))
    assert await metadata.write(files.delete, 1, b"k", now=5) == fid
    assert await metadata.read(files.find, 1, b"k") is None
    assert await metadata.read(replicas.devices_of, fid) == (1, 2)
    assert (await backlog(metadata))["delete"] == 1
    with pytest.raises(UnknownKey):
        await metadata.write(files.delete, 1, b"k", now=5)


async def test_rename(metadata: Metadata) -> None:
    """The file has the new key and not the old one; after UnknownKey and KeyExists nothing is changed."""
    fid = await store(metadata, b"a")
    await store(metadata, b"taken")
    await metadata.write(files.rename, 1, b"a", b"b")
    assert await metadata.read(files.find, 1, b"a") is None
    found = await metadata.read(files.find, 1, b"b")
    assert found is not None
    assert found.fid == fid
    with pytest.raises(UnknownKey):
        await metadata.write(files.rename, 1, b"a", b"c")
    for target in (b"taken", b"b"):
        with pytest.raises(KeyExists):
            await metadata.write(files.rename, 1, b"b", target)


async def test_set_class(metadata: Metadata) -> None:
    """set_class changes and queues a file and returns whether it did; it does nothing if the class is the same."""
    fid = await store(metadata, b"k")
    await metadata.write(queues.claim_replications, limit=10, now=10)
    assert await metadata.write(files.set_class, 1, b"k", 7) is True
    found = await metadata.read(files.find, 1, b"k")
    assert found is not None
    assert found.classid == 7
    assert [each.fid for each in await metadata.write(queues.claim_replications, limit=10, now=10)] == [fid]
    assert await metadata.write(files.set_class, 1, b"k", 7) is False
    with pytest.raises(InvalidKey):
        await metadata.write(files.set_class, 1, b"none", 7)
    await metadata.write(replicas.drop_replica, fid, 1)
    with pytest.raises(NoDevices):
        await metadata.write(files.set_class, 1, b"k", 8)


async def test_a_checksum_is_replaced(metadata: Metadata) -> None:
    """store_checksum keeps the last checksum."""
    fid = await store(metadata, b"k")
    other = Checksum(HashType.CRC64NVME, bytes(8))
    for checksum in (MD5, other):
        await metadata.write(files.store_checksum, fid, checksum)
    found = await metadata.read(files.find, 1, b"k")
    assert found is not None
    assert found.checksum == other


async def test_list_fids(metadata: Metadata) -> None:
    """list_fids returns pages of all files in order of fid, each with its replicas."""
    fids = [await store(metadata, b"k%d" % n, (1, 2, 3)) for n in range(5)]
    first = await metadata.read(files.list_fids, fids[0], 2)
    assert [each.fid for each in first] == fids[1:3]
    assert [sorted(each.devids) for each in first] == [[1, 2, 3]] * 2
    assert [each.fid for each in await metadata.read(files.list_fids, fids[2], 10)] == fids[3:]
