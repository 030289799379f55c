"""Copying and joining stored files in the store's own service, over real storage nodes and a real database."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tawara.metadata import cluster as rows
from tawara.metadata import files, queues
from tawara.model import errors
from tawara.model.assembling import MOST_RANGES, FileRange
from tawara.model.checksums import checksum_of
from tawara.model.cluster import Checksum, Domain, HashType, Observation, Observed
from tawara.model.files import NewFile, StoredFile
from tawara.model.limits import Limits
from tawara.nodes.client import NodeClient
from tawara.store.file_assembler import FileAssembler
from tawara.store.local_devices import LocalDevices
from tawara.store.replica_locator import ReplicaLocator
from tawara.store.service import FileStore
from tawara.store.writer import FileWriter, WriteRequest
from tawara.wire.http import Conditions
from tests.acceptance.gateway_fixture import StoreFixture, store_fixture

A, B = os.urandom(200_000), os.urandom(70_000)
ANY = Conditions()


class CountingClient(NodeClient):
    """Counts the requests to storage nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def put(self, url: str, *args: object, **kwargs: object) -> None:
        self.seen.append("put")
        await super().put(url, *args, **kwargs)  # type: ignore[arg-type] # whatever it was

    async def assemble(self, url: str, *args: object, **kwargs: object):  # type: ignore[no-untyped-def] # whatever it was
        self.seen.append("assemble")
        return await super().assemble(url, *args, **kwargs)  # type: ignore[arg-type]


@dataclass
class AssemblingFixture:
    """The service, and the store that it works on: three hosts with a device each, class `default` wants two copies."""

    fixture: StoreFixture
    assembler: FileAssembler
    nodes: CountingClient
    domain: Domain

    async def add(
        self, key: bytes, body: bytes, devids: tuple[int, ...], checksum: Checksum | None = None
    ) -> StoredFile:
        """Store a file on these devices, behind the service's back."""
        metadata = self.fixture.metadata
        fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=devids, now=1)
        for devid in devids:
            path = self.fixture.replica(devid, fid)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        new = NewFile(fid, 1, key, len(body), 0, devids, checksum, content_type="image/x-cat", mtime_ns=77)
        await metadata.write(files.close_upload, new, now=1, replicate=False)
        return await self.fixture.stored(key)

    def request(self, name: str = "", conditions: Conditions = ANY) -> WriteRequest:
        """A request for a file of class `name`."""
        storage_class = self.domain.class_named(name)
        assert storage_class is not None
        return WriteRequest(self.domain, b"new", storage_class, None, None, conditions)

    async def copy(self, key: bytes = b"a", conditions: Conditions = ANY) -> bool:
        """Copy a file to the key `new`; whether that key was new."""
        return (await self.assembler.copy(self.domain, key, self.domain, b"new", conditions=conditions)).created

    async def replicas(self) -> dict[int, bytes]:
        """The bytes of the new file by device."""
        stored = await self.fixture.stored(b"new")
        return {devid: self.fixture.replica(devid, stored.fid).read_bytes() for devid in sorted(stored.devids)}

    async def assert_nothing_left(self, *keys: bytes) -> None:
        """Only the files of these keys have bytes."""
        assert (await self.fixture.metadata.read(queues.backlog))["uploads"] == 0
        found = {name for _, name in self.fixture.on_disk()}
        assert found == {f"{(await self.fixture.stored(key)).fid:010d}.fid" for key in keys}


@pytest.fixture(params=[False, True], ids=["by nodes", "local"])
async def store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[AssemblingFixture]:
    """The service; with device 1 local to it, or all behind storage nodes."""
    async with store_fixture(tmp_path, nginx=False) as fixture, CountingClient() as nodes:
        for hashtype in (HashType.CRC32C, HashType.SHA1):
            await fixture.metadata.write(rows.create_class, "d", hashtype.wire, mindevcount=2, hashtype=hashtype)
        await fixture.view.refresh()
        local = LocalDevices(fixture.nodes[0].devices, timeout=2) if request.param else None
        rng = random.Random(1)
        service = FileStore(fixture.metadata, fixture.view, fixture.wakeups, rng)
        writer = FileWriter(fixture.metadata, fixture.view, nodes, service, local=local, limits=Limits())
        locator = ReplicaLocator(fixture.view, nodes, rng)
        assembler = FileAssembler(fixture.metadata, fixture.view, nodes, service, writer, locator, local=local)
        yield AssemblingFixture(fixture, assembler, nodes, fixture.view.current.domains["d"])
        writer.close()
        if local is not None:
            await local.close()


async def test_a_copy(store: AssemblingFixture, request: pytest.FixtureRequest) -> None:
    """All copies that the class requires are made where the source is, with its facts, before the answer."""
    source = await store.add(b"a", A, (1, 2), checksum_of(A, HashType.CRC32C))
    assert await store.copy()
    assert await store.replicas() == {1: A, 2: A}
    stored = await store.fixture.stored(b"new")
    assert stored.content_type == "image/x-cat"
    assert stored.fid != source.fid
    assert await store.fixture.metadata.read(files.source_time, stored.fid) == 77
    assert store.nodes.seen == ["assemble"] * (1 if "local" in request.node.name else 2)
    await store.assert_nothing_left(b"a", b"new")


@pytest.mark.parametrize("name", ["default", "CRC32C", "SHA-1"])
async def test_parts_are_joined(store: AssemblingFixture, name: str) -> None:
    """Ranges of files are joined on the devices that hold all; the class's checksum is that of the new file."""
    one = await store.add(b"a", A, (1, 2, 3), checksum_of(A, HashType.CRC32C))
    two = await store.add(b"b", B, (1, 3), checksum_of(B, HashType.CRC32C))
    hashtype = HashType.from_wire(name)
    for ranges, wanted in (
        ([FileRange.whole(one), FileRange.whole(two)], A + B),
        ([FileRange(two, 5, 60_000), FileRange(one, 0, 10), FileRange(two, 0, 0)], B[5:60_005] + A[:10]),
        ([], b""),
    ):
        await store.assembler.assemble(store.request(name), ranges)
        found = await store.replicas()
        assert set(found.values()) == {wanted}
        assert len(found) == 2
        assert not ranges or set(found) == {1, 3}
        stored = await store.fixture.stored(b"new")
        assert stored.checksum == (checksum_of(wanted, hashtype) if hashtype else None)
        assert stored.length == len(wanted)


async def test_devices_without_a_part_get_the_bytes(store: AssemblingFixture) -> None:
    """Where no device holds all parts, or one that does takes no files, the bytes are read from any replica."""
    one = await store.add(b"a", A, (1,))
    two = await store.add(b"b", B, (2,))
    seen = dict.fromkeys((2, 3), Observation(Observed.WRITEABLE)) | {1: Observation(Observed.READABLE)}
    store.fixture.view.observe(seen)
    await store.assembler.assemble(store.request("SHA-1"), [FileRange.whole(one), FileRange.whole(two)])
    assert await store.replicas() == {2: A + B, 3: A + B}
    assert (await store.fixture.stored(b"new")).checksum == checksum_of(A + B, HashType.SHA1)
    assert store.nodes.seen == ["put", "put"]


async def test_a_device_that_lost_a_part(store: AssemblingFixture) -> None:
    """A replica that its device does not have any more is read elsewhere; the new file has all its copies."""
    one = await store.add(b"a", A, (1, 2))
    store.fixture.replica(1, one.fid).unlink()
    await store.copy()
    assert await store.replicas() == {1: A, 2: A}


async def test_replicas_that_differ(store: AssemblingFixture) -> None:
    """When the copies would not be the same, no file is made of them."""
    one = await store.add(b"a", A, (1, 2))
    store.fixture.replica(1, one.fid).write_bytes(A[::-1])
    with pytest.raises(errors.ChecksumMismatch, match="fsck"):
        await store.assembler.assemble(store.request("SHA-1"), [FileRange.whole(one)])
    assert await store.fixture.find(b"new") is None
    assert (await store.fixture.metadata.read(queues.backlog))["delete"] >= 1


async def test_a_source_that_vanishes(store: AssemblingFixture) -> None:
    """A source without any replica is an error of its own, after which nothing is left."""
    one = await store.add(b"a", A, (1,))
    stale = replace(one, fid=one.fid + 50)
    with pytest.raises(errors.NoSource):
        await store.assembler.assemble(store.request(), [FileRange.whole(one), FileRange.whole(stale)])
    await store.assert_nothing_left(b"a")
    store.fixture.replica(1, one.fid).unlink()
    with pytest.raises(errors.NoSource):
        await store.copy()
    with pytest.raises(errors.UnknownKey):
        await store.copy(b"nothing")
    assert await store.fixture.find(b"new") is None


async def test_conditions_and_limits(store: AssemblingFixture) -> None:
    """Conditions of the new key hold at the commit; ranges beyond a file's end, and too many, are refused."""
    one = await store.add(b"a", A, (1, 2))
    assert await store.copy(conditions=Conditions(if_none_match="*"))
    with pytest.raises(errors.PreconditionFailed):
        await store.copy(conditions=Conditions(if_none_match="*"))
    for ranges in ([FileRange(one, 1, len(A))], [FileRange(one, -1, 1)], [FileRange(one, 0, 0)] * (MOST_RANGES + 1)):
        with pytest.raises(errors.UsageError):
            await store.assembler.assemble(store.request(), ranges)
    assert not await store.copy()


async def test_other_content_under_the_new_fid(store: AssemblingFixture) -> None:
    """A fid that a device holds with other content is skipped, and that content is kept."""
    one = await store.add(b"a", A, (1, 2))
    orphan = store.fixture.replica(1, one.fid + 1)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"other")
    await store.copy()
    assert await store.replicas() == {1: A, 2: A}
    assert orphan.read_bytes() == b"other"
