"""Repairs of large files, which read several replicas at once."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from tawara.model.checksums import checksum_of
from tawara.model.cluster import HashType
from tawara.nodes.parallel import ParallelRead
from tests.unit.workers.replicate_fixture import do_all
from tests.unit.workers.workers_fixture import WorkersFixture, workers_fixture

LARGE = os.urandom(2 * 1024 * 1024 + 5)
CHECKSUM = checksum_of(LARGE, HashType.MD5)
LAYOUT = {"h1": [1], "h2": [2], "h3": [3]}


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tawara.workers.copier.WORTHWHILE", 2 * 1024 * 1024)
    monkeypatch.setattr("tawara.workers.copying.RANGE", 64 * 1024)
    # Each host sends the ranges that its own reader takes, however slow this machine is.
    monkeypatch.setattr("tawara.workers.copying.ParallelRead", partial(ParallelRead, hedge=1000.0))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each host is asked for bytes of a file, by its address."""
    from tawara.nodes.client import NodeClient

    seen: Counter[str] = Counter()
    get = NodeClient.get

    def counted(self: NodeClient, url: str, **options: Any) -> Any:
        if url.endswith(".fid"):
            seen[urlsplit(url).hostname or ""] += 1
        return get(self, url, **options)

    monkeypatch.setattr(NodeClient, "get", counted)
    return seen


async def store_large(fixture: WorkersFixture, *, checksum: bool = True) -> int:
    """Store LARGE on the devices 1 and 2, of which the class wants three copies."""
    classid = await fixture.new_class("three", 3, "MultipleHosts()", HashType.MD5 if checksum else None)
    return await fixture.store(b"key", LARGE, 1, 2, classid=classid, checksum=CHECKSUM if checksum else None)


async def test_a_large_file_is_read_from_all_hosts(tmp_path: Path, reads: Counter[str]) -> None:
    """The copy of a large file with a checksum reads ranges of every replica, each about once."""
    async with workers_fixture(tmp_path, LAYOUT) as fixture:
        fid = await store_large(fixture)
        assert await do_all(fixture) is None
        assert fixture.place(3, fid).read_bytes() == LARGE
        assert await fixture.devids(fid) == {1, 2, 3}
        assert min(reads["127.0.0.1"], reads["127.0.0.2"]) >= 1
        assert reads.total() == 33


async def test_without_a_checksum_one_replica_is_read(tmp_path: Path, reads: Counter[str]) -> None:
    """Without a checksum nothing could tell whether the ranges belong together, so one replica is copied."""
    async with workers_fixture(tmp_path, LAYOUT) as fixture:
        fid = await store_large(fixture, checksum=False)
        assert await do_all(fixture) is None
        assert fixture.place(3, fid).read_bytes() == LARGE
        assert reads.total() == 1


async def test_a_damaged_replica_is_found(tmp_path: Path, reads: Counter[str]) -> None:
    """When the ranges together are not the file, it is read again from one replica, and the copy is of a good one."""
    async with workers_fixture(tmp_path, LAYOUT) as fixture:
        fid = await store_large(fixture)
        place = fixture.place(1, fid)
        place.chmod(0o600)
        place.write_bytes(bytes(len(LARGE)))
        with capture_logs() as logged:
            assert await do_all(fixture) is None
        assert fixture.place(3, fid).read_bytes() == LARGE
        assert await fixture.devids(fid) == {1, 2, 3}
        assert "parallel_copy_failed" in [each["event"] for each in logged]


async def test_a_lost_replica_is_left_out(tmp_path: Path, reads: Counter[str]) -> None:
    """A replica that is not there is reported, and the other hosts send its ranges."""
    async with workers_fixture(tmp_path, LAYOUT) as fixture:
        fid = await store_large(fixture)
        fixture.place(2, fid).unlink()
        with capture_logs() as logged:
            assert await do_all(fixture) is None
        assert fixture.place(3, fid).read_bytes() == LARGE
        assert {each["devid"] for each in logged if each["event"] == "replica_read_failed"} == {2}
        assert "parallel_copy_failed" not in [each["event"] for each in logged]


async def test_a_destination_that_refuses(tmp_path: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """When the destination breaks off, nothing is recorded, and no request to the sources is left open."""
    async with workers_fixture(tmp_path, LAYOUT) as fixture:
        fid = await store_large(fixture)
        await fixture.nodes.put(fixture.url(3, fid), b"of another store", length=16)
        assert await do_all(fixture) is not None
        assert fixture.place(3, fid).read_bytes() == b"of another store"
        assert await fixture.devids(fid) == {1, 2}
