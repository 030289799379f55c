"""Copying stored files by the client: on the device that holds them, or by reading and sending."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tawara.client import AsyncClient
from tawara.metadata import cluster as rows
from tawara.metadata import queues
from tawara.model import errors
from tawara.model.checksums import checksum_of
from tawara.model.cluster import DeviceState, HashType
from tawara.nodes.client import NodeClient
from tests.acceptance.cluster import DOMAIN, Cluster, cluster

BODY = os.urandom(300_000)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two hosts with two devices each; class `one` wants one copy, `crc` one and CRC64NVME."""
    async with cluster(tmp_path) as store:
        await store.metadata.write(rows.create_class, DOMAIN, "crc", mindevcount=1, hashtype=HashType.CRC64NVME)
        await store.metadata.write(rows.create_domain, "other")
        await store.view.refresh()
        yield store


@pytest.fixture
async def client(store: Cluster) -> AsyncIterator[AsyncClient]:
    async with store.client() as client:
        yield client


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that this process sends to storage nodes from now on, by kind."""
    seen: list[str] = []
    for name in ("assemble", "put", "get", "digest"):
        before = getattr(NodeClient, name)

        def counted(self: NodeClient, *args: object, before=before, name: str = name, **kwargs: object) -> object:  # type: ignore[no-untyped-def] # whatever it was
            seen.append(name)
            return before(self, *args, **kwargs)

        monkeypatch.setattr(NodeClient, name, counted)
    return seen


@pytest.mark.parametrize("size", [0, 5, len(BODY)])
async def test_a_copy_stays_on_the_device(store: Cluster, client: AsyncClient, requests: list[str], size: int) -> None:
    """The copy is made on a device that holds the source, without reading, and keeps all facts about it."""
    checksum = checksum_of(BODY[:size], HashType.CRC64NVME)
    await client.put(
        DOMAIN, "a", BODY[:size], storage_class="crc", checksum=checksum, mtime_ns=123, content_type="image/x-cat"
    )
    del requests[:]
    copied = await client.copy(DOMAIN, "a", DOMAIN, "b/c")
    assert requests == ["assemble"]
    source, made = [await client.info(DOMAIN, key, devices=True) for key in ("a", "b/c")]
    assert (made.fid, made.length, made.checksum) == (copied.fid, size, checksum)
    assert (made.devids, made.mtime_ns, made.content_type, made.storage_class) == (
        source.devids, 123, "image/x-cat", "crc",
    )  # fmt: skip
    await client.delete(DOMAIN, "a")
    store.path(source.devids[0], source.fid).unlink()
    assert await client.get(DOMAIN, "b/c") == BODY[:size]


async def test_a_device_that_takes_no_files(store: Cluster, client: AsyncClient, requests: list[str]) -> None:
    """When the devices of the source may not get new files, the bytes are read, verified and sent to another."""
    await client.put(DOMAIN, "a", BODY, storage_class="crc", checksum=HashType.CRC64NVME)
    [devid] = (await client.info(DOMAIN, "a", devices=True)).devids
    await store.metadata.write(rows.set_device_state, f"h{(devid + 1) // 2}", devid, DeviceState.READONLY)
    await store.view.refresh()
    del requests[:]
    await client.copy(DOMAIN, "a", DOMAIN, "b")
    assert requests[:2] == ["put", "get"]
    assert (await client.info(DOMAIN, "b", devices=True)).devids != (devid,)
    assert await client.get(DOMAIN, "b") == BODY
    rotten = store.path(devid, (await client.info(DOMAIN, "a")).fid)
    rotten.write_bytes(BODY[::-1])
    with pytest.raises(errors.ChecksumMismatch):
        await client.copy(DOMAIN, "a", DOMAIN, "c")
    assert not await client.exists(DOMAIN, "c")


async def test_targets(store: Cluster, client: AsyncClient) -> None:
    """An existing target is replaced; the class is that of the same name unless another is given; errors say why."""
    await client.put(DOMAIN, "a", b"new", storage_class="one")
    old = await client.put(DOMAIN, "b", b"old")
    await client.copy(DOMAIN, "a", DOMAIN, "b")
    info = await client.info(DOMAIN, "b")
    assert (await client.get(DOMAIN, "b"), info.storage_class, info.fid > old.fid) == (b"new", "one", True)
    await client.copy(DOMAIN, "a", "other", "b", storage_class="default")
    assert (await client.info("other", "b")).storage_class == "default"
    for arguments, error, text in (
        ((DOMAIN, "a", DOMAIN, "a"), errors.UsageError, "the same file"),
        ((DOMAIN, "a", "other", "c"), errors.UnregClass, "Domain other has no class one"),
        ((DOMAIN, "nothing", DOMAIN, "c"), errors.UnknownKey, "nothing"),
        (("nowhere", "a", DOMAIN, "c"), errors.UnregDomain, "nowhere"),
    ):
        with pytest.raises(error, match=text):
            await client.copy(*arguments)


async def test_a_source_that_is_overwritten(
    store: Cluster, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the content vanishes before it is copied, the newest is copied; when the key is deleted, that is said."""
    first = await client.put(DOMAIN, "a", b"first", storage_class="one")
    assemble = NodeClient.assemble

    async def late(self: NodeClient, *args: object, **kwargs: object) -> object:
        """The first content is replaced, and its bytes deleted, before it can be copied."""
        monkeypatch.setattr(NodeClient, "assemble", assemble)
        async with store.client() as other:
            await other.put(DOMAIN, "a", b"second", storage_class="one")
        for path in store.replicas(first.fid):
            path.unlink()
        return await assemble(self, *args, **kwargs)  # type: ignore[arg-type] # whatever it was

    monkeypatch.setattr(NodeClient, "assemble", late)
    await client.copy(DOMAIN, "a", DOMAIN, "b")
    assert await client.get(DOMAIN, "b") == b"second"
    for path in store.replicas((await client.info(DOMAIN, "a")).fid):
        path.unlink()
    with pytest.raises(errors.NoSource):
        await client.copy(DOMAIN, "a", DOMAIN, "c")
    await client.delete(DOMAIN, "a")
    with pytest.raises(errors.UnknownKey):
        await client.copy(DOMAIN, "a", DOMAIN, "c")
    assert (await store.metadata.read(queues.backlog))["uploads"] == 0


async def test_other_content_under_the_new_fid(store: Cluster, client: AsyncClient) -> None:
    """A fid that a device holds with other content is skipped."""
    first = await client.put(DOMAIN, "a", BODY, storage_class="one")
    orphan = [store.path(devid, first.fid + 1) for devid in range(1, 5)]
    for path in orphan:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"other")
    copied = await client.copy(DOMAIN, "a", DOMAIN, "b")
    assert copied.fid > first.fid + 1
    assert await client.get(DOMAIN, "b") == BODY
    assert {path.read_bytes() for path in orphan} == {b"other"}
