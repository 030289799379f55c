"""Finding, listing and deleting files, and uploads by clients of the tracker."""

from __future__ import annotations

import pytest

from tawara.model.errors import NoTempFile, PreconditionFailed, UnknownKey
from tawara.wire.http import Conditions
from tests.unit.store.fake_store import DEFAULT, DOMAIN, FakeStore, notified


async def test_an_unknown_key() -> None:
    """Finding and deleting an unknown key raise UnknownKey, with and without conditions."""
    fake = FakeStore()
    with pytest.raises(UnknownKey):
        await fake.store.find(DOMAIN, b"k")
    with pytest.raises(UnknownKey):
        await fake.store.delete(DOMAIN, b"k")
    with pytest.raises(UnknownKey):
        await fake.store.delete(DOMAIN, b"k", Conditions(if_unmodified_since="Sun, 06 Nov 1994 08:49:37 GMT"))


async def test_a_conditional_delete() -> None:
    """A delete whose condition names another content deletes nothing; one whose condition holds deletes and
    notifies."""
    fake = FakeStore()
    fake.metadata.name(b"k", 9)
    with pytest.raises(PreconditionFailed):
        await fake.store.delete(DOMAIN, b"k", Conditions(if_match='"other"'))
    assert b"k" in fake.metadata.files
    await fake.store.delete(DOMAIN, b"k", Conditions(if_match="*"))
    assert b"k" not in fake.metadata.files
    assert await notified(fake.wakeups.delete)


async def test_pages() -> None:
    """Only a full page has a next one, which begins after its last key; a limit below one counts as one."""
    fake = FakeStore()
    for number, key in enumerate((b"a1", b"a2", b"a3", b"b")):
        fake.metadata.name(key, number)
    page = await fake.store.list_files(DOMAIN, b"a", None, 2)
    assert ([each.key for each in page.files], page.next_after) == ([b"a1", b"a2"], b"a2")
    page = await fake.store.list_files(DOMAIN, b"a", page.next_after, 2)
    assert ([each.key for each in page.files], page.next_after) == ([b"a3"], None)
    assert len((await fake.store.list_files(DOMAIN, b"", None, 0)).files) == 1


async def test_an_upload_by_a_client() -> None:
    """Devices are offered once per host, and closing queues the one copy for replication and the failed ones."""
    fake = FakeStore()
    uploads = fake.store.uploads
    devids = fake.store.chooser.offer(3, None)
    assert sorted(devids) == [1, 2, 3]
    opened = await uploads.open(DOMAIN, b"k", DEFAULT, devids)
    found = await uploads.find(opened.fid)
    assert found == opened
    assert await uploads.find(opened.fid) == opened  # from the database, when it is no longer remembered
    assert await uploads.close(opened, b"other", length=5, written=devids[1:2], failed=devids[:1]) is None
    (closed,) = fake.metadata.closed
    assert (closed["file"].key, closed["file"].devids, closed["orphans"]) == (b"other", devids[1:2], devids[:1])
    assert closed["replicate"]
    assert await notified(fake.wakeups.replicate)
    assert not await notified(fake.wakeups.delete)
    with pytest.raises(NoTempFile):
        await uploads.close(opened, b"k", length=5, written=devids[:1])


async def test_discarding() -> None:
    """A discarded upload is queued for deletion; one that is not open is an error, except after a failure."""
    fake = FakeStore()
    opened = await fake.store.uploads.open(DOMAIN, b"k", DEFAULT, (1, 2), fid=70)
    assert opened.fid == 70
    await fake.store.uploads.discard(70)
    assert fake.metadata.discarded == [70]
    assert await notified(fake.wakeups.delete)
    with pytest.raises(NoTempFile):
        await fake.store.uploads.discard(70)
    await fake.store.uploads.discard_failed(70)
    assert not await notified(fake.wakeups.delete)
