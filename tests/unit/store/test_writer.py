"""Writing new files: copies, digests, failures, conditions, and what is queued afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tawara.model.cluster import STALE
from tawara.model.errors import (
    ChecksumMismatch,
    FidConflict,
    NodeUnreachable,
    NoDevices,
    PreconditionFailed,
    StaleDatabase,
)
from tawara.model.node_errors import DeviceFull, MalformedRequest
from tawara.store.writer import worst_failure
from tawara.wire.http import Conditions
from tests.unit.store.fake_store import DOMAIN, MD5, ONE, FakeStore, body, notified, request


async def test_all_copies_are_written_before_the_file_is_named() -> None:
    """A file of a class with two copies is on two devices of two hosts, complete, and is not queued for replication."""
    fake = FakeStore()
    result = await fake.writer.store_stream(request(), body(), 5)
    assert result.created
    assert list(fake.nodes.bodies.values()) == [b"hello", b"hello"]
    (closed,) = fake.metadata.closed
    assert len(set(closed["file"].devids)) == 2
    assert (closed["file"].length, closed["file"].content_type) == (5, "text/plain")
    assert (closed["replicate"], list(closed["orphans"]), closed["expected_fid"]) == (False, [], None)
    assert not await notified(fake.wakeups.replicate)
    assert not await notified(fake.wakeups.delete)


async def test_a_file_with_too_few_copies_is_queued_for_replication() -> None:
    """A device that fails is recorded as possibly holding a partial copy; the file is stored and queued."""
    fake = FakeStore(devices=2)
    fake.nodes.failures[1] = NodeUnreachable("gone")
    await fake.writer.store_stream(request(), body(), 5)
    (closed,) = fake.metadata.closed
    assert (closed["file"].devids, closed["orphans"], closed["replicate"]) == ([2], [1], True)
    assert await notified(fake.wakeups.replicate)


async def test_nothing_is_stored_when_every_device_fails() -> None:
    """When all copies fail the upload is discarded, and its data is queued for deletion."""
    fake = FakeStore()
    fake.nodes.failures = dict.fromkeys((1, 2, 3), NodeUnreachable("gone"))
    with pytest.raises(NodeUnreachable, match="try again"):
        await fake.writer.store_stream(request(), body(), 5)
    assert (fake.metadata.closed, fake.metadata.discarded) == ([], [1])
    assert await notified(fake.wakeups.delete)


async def test_a_replaced_content_is_queued_for_deletion() -> None:
    """Overwriting a key is no creation, and the delete worker is notified."""
    fake = FakeStore()
    fake.metadata.name(b"k", 9)
    assert not (await fake.writer.store_stream(request(), body(), 5)).created
    assert await notified(fake.wakeups.delete)


async def test_the_digest_of_the_class(tmp_path: Path) -> None:
    """The checksum is that of the whole body, from a stream and from a file of several chunks."""
    fake = FakeStore()
    await fake.writer.store_stream(request(MD5), body(), 5)
    received = tmp_path / "1"
    received.write_bytes(b"x" * 3_000_000)
    await fake.writer.store_file(request(MD5), received)
    first, second = (each["file"].checksum.digest for each in fake.metadata.closed)
    assert first == hashlib.md5(b"hello").digest()
    assert second == hashlib.md5(b"x" * 3_000_000).digest()
    assert fake.metadata.closed[1]["file"].length == 3_000_000
    assert b"x" * 3_000_000 in fake.nodes.bodies.values()
    fake.writer.close()


async def test_content_md5_must_match() -> None:
    """A body with another digest than Content-MD5 is refused after its end, and the key is not changed."""
    fake = FakeStore()
    with pytest.raises(ChecksumMismatch):
        await fake.writer.store_stream(request(md5=bytes(16)), body(), 5)
    assert (fake.metadata.closed, fake.metadata.discarded) == ([], [1])
    await fake.writer.store_stream(request(md5=hashlib.md5(b"hello").digest()), body(), 5)
    assert len(fake.metadata.closed) == 1


async def test_content_range_must_match(tmp_path: Path) -> None:
    """A body of another length than Content-Range says is refused, and no upload is opened."""
    fake = FakeStore()
    received = tmp_path / "1"
    received.write_bytes(b"hello")
    with pytest.raises(MalformedRequest):
        await fake.writer.store_file(request(length=6), received)
    with pytest.raises(MalformedRequest):
        await fake.writer.store_stream(request(length=6), body(), 5)
    assert fake.metadata.next_fid == 1
    fake.writer.close()


async def test_a_fid_in_use_is_replaced_by_another(tmp_path: Path) -> None:
    """A received file is written again under a new fid; a stream, whose bytes are gone, is refused with a conflict."""
    fake = FakeStore()
    received = tmp_path / "1"
    received.write_bytes(b"hello")
    fake.nodes.failures = dict.fromkeys((1, 2, 3), FidConflict("other content"))
    with pytest.raises(FidConflict):
        await fake.writer.store_stream(request(), body(), 5)
    assert (fake.metadata.skipped, fake.metadata.discarded) == ([1], [])
    with pytest.raises(FidConflict):
        await fake.writer.store_file(request(), received)
    assert fake.metadata.skipped == [1, 2, 3, 4, 5]
    fake.writer.close()


async def test_conditions_hold_at_the_commit() -> None:
    """A key that is created between the check and the commit is not overwritten by a PUT with If-None-Match: *."""
    fake = FakeStore()
    wanted = request(conditions=Conditions(if_none_match="*"))
    await fake.writer.check(wanted)
    fake.metadata.before_close = lambda: fake.metadata.name(b"k", 9)
    with pytest.raises(PreconditionFailed):
        await fake.writer.store_stream(wanted, body(), 5)
    assert fake.metadata.files[b"k"].fid == 9
    assert fake.metadata.discarded == [1]


async def test_a_condition_that_still_holds_is_evaluated_again() -> None:
    """If-Match: * does not fail because another client overwrote the key meanwhile: the key still exists."""
    fake = FakeStore()
    fake.metadata.name(b"k", 9)
    others = iter(range(10, 13))

    def overwrite() -> None:
        if (fid := next(others, None)) is not None:
            fake.metadata.name(b"k", fid)

    fake.metadata.before_close = overwrite
    await fake.writer.store_stream(request(conditions=Conditions(if_match="*")), body(), 5)
    assert fake.metadata.closed[0]["expected_fid"] == 12


async def test_the_check_before_the_body() -> None:
    """Conditions, missing devices and a stale database are refused before the body."""
    fake = FakeStore()
    await fake.writer.check(request())
    fake.metadata.name(b"k", 9)
    with pytest.raises(PreconditionFailed):
        await fake.writer.check(request(conditions=Conditions(if_none_match="*")))
    fake.view.current = replace(fake.view.current, settings={STALE: "restored"})
    with pytest.raises(StaleDatabase):
        await fake.writer.check(request())
    with pytest.raises(StaleDatabase):
        await fake.writer.store_stream(request(), body(), 5)
    with pytest.raises(StaleDatabase):
        await fake.store.delete(DOMAIN, b"k")
    with pytest.raises(NoDevices):
        await FakeStore(devices=0).writer.check(request())


async def test_a_class_of_one_copy_is_written_once() -> None:
    """No more copies are written than the class requires, and none is queued."""
    fake = FakeStore()
    await fake.writer.store_stream(request(ONE), body(), None)
    assert len(fake.nodes.bodies) == 1
    assert not fake.metadata.closed[0]["replicate"]


async def test_a_failed_discard_does_not_hide_the_cause() -> None:
    """The error of the upload is raised, also if it cannot be discarded."""
    fake = FakeStore()
    fake.nodes.failures = dict.fromkeys((1, 2, 3), DeviceFull())

    async def breaking() -> AsyncIterator[bytes]:
        yield b"hello"
        fake.metadata.failure = NodeUnreachable("the database is gone")

    with pytest.raises(NoDevices):
        await fake.writer.store_stream(request(), breaking(), 5)


def test_which_failure_is_reported() -> None:
    """A wrong digest comes first, then errors of the server, then lack of space."""
    unreachable, full, broken = NodeUnreachable("10.0.0.1"), DeviceFull(), ConnectionResetError()
    assert isinstance(worst_failure([unreachable, ChecksumMismatch("x")]), ChecksumMismatch)
    assert worst_failure([unreachable, broken]) is broken
    assert isinstance(worst_failure([unreachable, full]), NoDevices)
    told = worst_failure([unreachable, None])
    assert isinstance(told, NodeUnreachable)
    assert "10.0.0.1" not in str(told)
