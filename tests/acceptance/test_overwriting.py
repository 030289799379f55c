"""A key that always exists can always be read, while its content is replaced and the old data is deleted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tawara.client import AsyncClient, Client
from tawara.client.reading import Located
from tawara.metadata import files
from tawara.metadata.contract import Transaction
from tests.acceptance.cluster import DOMAIN, Cluster, cluster
from tests.acceptance.gateway_fixture import StoreFixture, store_fixture

OLD, NEW = b"old" * 1000, b"the new one" * 1000
LONG = os.urandom(3_000_000)


# --- the Python client ------------------------------------------------------------------------------------------------


async def overwrite(store: Cluster, content: bytes = NEW) -> None:
    """Replace the content of the key, and delete the old data at once."""
    async with store.client() as writer:
        before = (await writer.info(DOMAIN, "k")).fid
        await writer.put(DOMAIN, "k", content)
    for path in store.replicas(before):
        path.unlink()


def overwritten_after_look_up(monkeypatch: pytest.MonkeyPatch, store: Cluster) -> None:
    """Let the key be overwritten as soon as a client has looked up its replicas."""
    locate = AsyncClient._locate
    pending = [True]

    async def locate_too_early(self: AsyncClient, *args: Any, **kwargs: Any) -> Located:
        found = await locate(self, *args, **kwargs)
        if pending:
            pending.clear()
            await overwrite(store)
        return found

    monkeypatch.setattr(AsyncClient, "_locate", locate_too_early)


async def got(client: AsyncClient, _: Path) -> bytes:
    return await client.get(DOMAIN, "k")


async def got_in_part(client: AsyncClient, _: Path) -> bytes:
    return NEW[:4] + await client.get(DOMAIN, "k", start=4)


async def opened(client: AsyncClient, _: Path) -> bytes:
    async with client.open(DOMAIN, "k", verify=True) as reading:
        assert reading.length == reading.info.length == len(NEW)
        return b"".join([chunk async for chunk in reading])


async def streamed(client: AsyncClient, _: Path) -> bytes:
    return b"".join([chunk async for chunk in client.stream(DOMAIN, "k")])


async def downloaded(client: AsyncClient, directory: Path) -> bytes:
    info = await client.download(DOMAIN, "k", directory / "k")
    assert info.length == len(NEW)
    return (directory / "k").read_bytes()


async def got_without_asyncio(client: AsyncClient, _: Path) -> bytes:
    def get(trackers: str) -> bytes:
        with Client(trackers) as blocking:
            return blocking.get(DOMAIN, "k")

    return await asyncio.to_thread(get, ",".join(f"{host}:{port}" for host, port in client._trackers.addresses))


@pytest.mark.parametrize("read", [got, got_in_part, opened, streamed, downloaded, got_without_asyncio])
async def test_overwritten_between_look_up_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[AsyncClient, Path], Awaitable[bytes]]
) -> None:
    """A client that finds all replicas missing looks the key up again, and reads the new content completely."""
    async with cluster(tmp_path) as store, store.client() as client:
        await client.put(DOMAIN, "k", OLD)
        overwritten_after_look_up(monkeypatch, store)
        assert await read(client, tmp_path) == NEW


async def test_overwritten_during_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fetched part of the old content is discarded, reported by a negative number, and the new content is
    fetched."""
    async with cluster(tmp_path) as store, store.client() as client:
        await client.put(DOMAIN, "k", LONG)
        fetched: list[int] = []
        get = type(client._nodes).get

        def broken_off(self: Any, url: str, **kwargs: Any) -> Any:
            return _Broken(get(self, url, **kwargs), store) if not fetched else get(self, url, **kwargs)

        monkeypatch.setattr(type(client._nodes), "get", broken_off)
        info = await client.download(DOMAIN, "k", tmp_path / "k", progress=fetched.append)
        assert (tmp_path / "k").read_bytes() == NEW
        assert info.length == len(NEW) == sum(fetched)
        assert min(fetched) < 0


class _Broken:
    """A download that breaks off after its first piece, and then the key is overwritten."""

    def __init__(self, download: Any, store: Cluster) -> None:
        self._download = download
        self._store = store

    async def __aenter__(self) -> _Broken:
        self._begun = await self._download.__aenter__()
        self.length = self._begun.length
        return self

    async def __aexit__(self, *why: object) -> None:
        await self._download.__aexit__(*why)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        from tawara.model.errors import NodeUnreachable

        async for piece in self._begun:
            yield piece
            await overwrite(self._store)
            raise NodeUnreachable("broke off")


async def test_read_while_it_is_overwritten_continuously(tmp_path: Path) -> None:
    """Of many reads during many overwrites none fails, and each returns one of the contents, complete."""
    async with cluster(tmp_path, devices=1) as store, store.client() as client:
        await client.put(DOMAIN, "k", b"0" * 2000)
        over = False

        async def write() -> None:
            nonlocal over
            for number in range(100):
                await overwrite(store, b"%d" % (number % 10) * 2000)
            over = True

        async def read() -> int:
            reads = 0
            while not over:
                content = await client.get(DOMAIN, "k")
                assert len(content) == 2000 and len(set(content)) == 1
                reads += 1
            return reads

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            readers = [group.create_task(read()) for _ in range(3)]
        assert all(reader.result() for reader in readers)


# --- the gateway ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["nginx", "python"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreFixture]:
    """A gateway on one of the two paths."""
    async with store_fixture(tmp_path, nginx=request.param) as one:
        yield one


async def replace_and_remove(gateway: StoreFixture, content: bytes) -> None:
    """Replace the content of the key, and delete the old data at once."""
    before = await gateway.stored(b"k.txt")
    assert (await gateway.put("/d/k.txt", content)).status == 204
    for devid in before.devids:
        gateway.replica(devid, before.fid).unlink()


def replaced_after_look_up(monkeypatch: pytest.MonkeyPatch, gateway: StoreFixture, times: int = 1) -> None:
    """Let the key be overwritten, with the data deleted, as soon as the gateway has looked it up."""
    read = gateway.metadata.read
    left = [*range(times)]

    async def read_too_early(query: Any, *args: Any, **kwargs: Any) -> Any:
        found = await read(query, *args, **kwargs)
        if query is files.find and left:
            left.pop()
            monkeypatch.setattr(gateway.metadata, "read", read)
            await replace_and_remove(gateway, NEW)
            monkeypatch.setattr(gateway.metadata, "read", read_too_early)
        return found

    monkeypatch.setattr(gateway.metadata, "read", read_too_early)


@pytest.mark.parametrize("times", [1, 3])
async def test_overwritten_between_look_up_and_get(
    gateway: StoreFixture, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A GET that finds all replicas missing returns the new content: status, fields and bytes of one file."""
    await gateway.put("/d/k.txt", OLD)
    replaced_after_look_up(monkeypatch, gateway, times)
    answer = await gateway.ask("GET", "/d/k.txt")
    assert (answer.status, answer.body == NEW) == (200, True)
    assert answer["Content-Length"] == str(len(NEW))
    assert answer["Content-Type"] == "text/plain"
    monkeypatch.undo()
    assert answer["ETag"] == (await gateway.ask("HEAD", "/d/k.txt"))["ETag"]


async def test_part_of_a_file_that_was_overwritten(gateway: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range is a part of the content that is sent."""
    await gateway.put("/d/k.txt", OLD)
    replaced_after_look_up(monkeypatch, gateway)
    answer = await gateway.ask("GET", "/d/k.txt", headers={"Range": "bytes=4-"})
    assert (answer.status, answer.body == NEW[4:]) == (206, True)
    assert answer["Content-Range"] == f"bytes 4-{len(NEW) - 1}/{len(NEW)}"


async def test_moved_between_look_up_and_get(gateway: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that was moved to another device meanwhile is read from there."""
    await gateway.put("/d/k.txt?class=one", OLD)
    stored = await gateway.stored(b"k.txt")
    (source,) = stored.devids
    target = source % 3 + 1
    gateway.replica(target, stored.fid).parent.mkdir(parents=True, exist_ok=True)
    gateway.replica(source, stored.fid).rename(gateway.replica(target, stored.fid))
    read = gateway.metadata.read

    async def move(tx: Transaction) -> None:
        await tx.run("UPDATE file_on SET devid = ? WHERE fid = ?", target, stored.fid)

    async def read_too_early(query: Any, *args: Any, **kwargs: Any) -> Any:
        found = await read(query, *args, **kwargs)
        if query is files.find:
            monkeypatch.setattr(gateway.metadata, "read", read)
            await gateway.metadata.write(move)
        return found

    monkeypatch.setattr(gateway.metadata, "read", read_too_early)
    answer = await gateway.ask("GET", "/d/k.txt")
    assert (answer.status, answer.body == OLD) == (200, True)


async def test_got_while_it_is_overwritten_continuously(gateway: StoreFixture) -> None:
    """Of many GETs during many overwrites none fails, and each returns one of the contents, complete."""
    await gateway.put("/d/k.txt", b"0" * 2000)
    over = False

    async def write() -> None:
        nonlocal over
        for number in range(60):
            await replace_and_remove(gateway, b"%d" % (number % 10) * 2000)
        over = True

    async def read() -> int:
        reads = 0
        while not over:
            answer = await gateway.ask("GET", "/d/k.txt")
            assert (answer.status, len(answer.body), len(set(answer.body))) == (200, 2000, 1)
            reads += 1
        return reads

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        readers = [group.create_task(read()) for _ in range(3)]
    assert all(reader.result() for reader in readers)
