"""Storage nodes of other programs carry a complete store with its journals: nginx, and the server of mogstored."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tawara.client import AsyncClient
from tests.acceptance.daemons import DOMAIN
from tests.acceptance.foreign_nodes import Foreign, ForeignDaemons, Nginx, Perlbal

SIZES = (0, 1, 1000, 70_000, 3_000_000)
CLASSES = ("default", "md5")


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds; may block."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.3)


class StoreFixture:
    """The store, and its expected content."""

    def __init__(self, store: ForeignDaemons) -> None:
        self.store = store
        self.stored: dict[str, bytes] = {}

    async def fill(self, client: AsyncClient) -> None:
        """Store files through tracker and gateway, then replace, rename, delete and change the class of some."""
        rng = random.Random(1)
        for number in range(30):
            body = rng.randbytes(SIZES[number % len(SIZES)])
            await client.put(DOMAIN, f"key {number}", body, storage_class=CLASSES[number % 2])
            self.stored[f"key {number}"] = body
        for number in range(3):
            await asyncio.to_thread(self.put_by_http, f"http/{number}", rng.randbytes(SIZES[-1 - number]))
        for number in range(5):
            await client.delete(DOMAIN, f"key {number}")
            del self.stored[f"key {number}"]
            await client.rename(DOMAIN, f"key {number + 5}", f"renamed/{number}")
            self.stored[f"renamed/{number}"] = self.stored.pop(f"key {number + 5}")
            self.stored[f"key {number + 10}"] = body = rng.randbytes(500)
            await client.put(DOMAIN, f"key {number + 10}", body)
            await client.set_class(DOMAIN, f"key {number + 15}", "md5")
            await client.copy(DOMAIN, f"key {number + 15}", DOMAIN, f"copied/{number}")
            self.stored[f"copied/{number}"] = self.stored[f"key {number + 15}"]

    def put_by_http(self, key: str, body: bytes) -> None:
        upload = urllib.request.Request(f"http://{self.store.gateway}/{DOMAIN}/{key}", body, method="PUT")
        upload.add_header("Authorization", "Bearer a key for the tests only")
        assert urllib.request.urlopen(upload, timeout=20).status in (200, 201, 204)
        self.stored[key] = body

    def listed(self) -> list[dict[str, Any]]:
        """Every file according to the store."""
        text = self.store.run("ls", "-l", DOMAIN, "--json")
        return [json.loads(line) for line in text.splitlines()]

    def settled(self) -> bool:
        """Whether every file has two copies on the disks, and no other file exists."""
        files = self.listed()
        there = sorted(int(path.stem) for path in self.store.directory.glob("h*/dev*/0/**/*.fid"))
        return there == sorted([each["fid"] for each in files] * 2) and all(each["copies"] == 2 for each in files)

    def written(self) -> bool:
        """Whether the journals on the devices are complete."""
        return self.store.succeeds("drill", "--look", f"--config={self.store.directory}/tawara.toml")

    async def compare(self, client: AsyncClient) -> None:
        """Compare every byte with what was stored, through both interfaces."""
        assert {each["key"]: each["size"] for each in self.listed()} == {
            key: len(body) for key, body in self.stored.items()
        }
        for key, body in self.stored.items():
            assert await client.get(DOMAIN, key) == body, key
            url = f"http://{self.store.gateway}/{DOMAIN}/{key.replace(' ', '%20')}"
            answer = await asyncio.to_thread(urllib.request.urlopen, url, None, 20)
            assert await asyncio.to_thread(answer.read) == body, key

    def copies(self, fid: object) -> list[Path]:
        return list(self.store.directory.glob(f"h*/dev*/0/000/000/{fid:010}.fid"))

    def whole(self, fid: object, body: bytes) -> bool:
        """Whether two correct copies exist."""
        found = [hashlib.md5(path.read_bytes()).digest() for path in self.copies(fid)]
        return found == [hashlib.md5(body).digest()] * 2


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [Nginx, Perlbal])
async def test_a_store_without_our_storage_nodes(tmp_path: Path, kind: type[Foreign]) -> None:
    """Files are stored, copied, read, replaced, checked, repaired and moved; then the database is lost and rebuilt."""
    store = ForeignDaemons(tmp_path, f"sqlite://{tmp_path}/tawara.db", kind)
    store_fixture = StoreFixture(store)
    try:
        await asyncio.to_thread(store.start)
        store.run("class", "add", DOMAIN, "md5", "--copies=2", "--hash=MD5")
        async with AsyncClient(store.tracker) as client:
            await store_fixture.fill(client)
            await store_fixture.compare(client)
            await until(store_fixture.settled)
            await care(store_fixture)
            await drain(store_fixture)
            await until(store_fixture.settled)
            await store_fixture.compare(client)
            before = store_fixture.listed()
            await until(store_fixture.written)
            for name in ("tracker", "workers", "gateway"):
                store.daemons[name].end()
            for path in tmp_path.glob("tawara.db*"):
                path.unlink()
            report = json.loads(store.run("rebuild", store.database, f"http://{store.node(1)}/dev1", "--json"))
            assert report["files"] == len(before)
            assert report["not_listed"] == ["dev1", "dev2", "dev3", "dev4"]
            for name in ("tracker", "workers", "gateway"):
                await asyncio.to_thread(store.daemons[name].start)
            assert store_fixture.listed() == before
            await store_fixture.compare(client)
            store.run("fsck", "start", "--wait", "--every-byte")
            assert store_fixture.settled()
    finally:
        for daemon in store.daemons.values():
            daemon.end()


async def care(store_fixture: StoreFixture) -> None:
    """A check finds a missing copy and a truncated one; the scrub finds a corrupt one."""
    store = store_fixture.store
    files = {str(each["key"]): each["fid"] for each in store_fixture.listed()}
    gone, cut, rotten = "key 22", "key 23", "key 17"
    store_fixture.copies(files[gone])[0].unlink()
    store_fixture.copies(files[cut])[1].write_bytes(b"short")
    store.run("fsck", "start", "--wait")
    for key in (gone, cut):
        await until(lambda key=key: store_fixture.whole(files[key], store_fixture.stored[key]))  # type: ignore[misc] # bound at once
    store_fixture.copies(files[rotten])[0].write_bytes(b"r" * len(store_fixture.stored[rotten]))
    store.run("settings", "set", "tawara_scrub_period", "20s")
    store.daemons["workers"].stop()  # they look at it once a minute
    await asyncio.to_thread(store.daemons["workers"].start)
    await until(lambda: store_fixture.whole(files[rotten], store_fixture.stored[rotten]))
    store.run("settings", "remove", "tawara_scrub_period")


async def drain(store_fixture: StoreFixture) -> None:
    """A device is drained, and its journal is updated."""
    await asyncio.to_thread(store_fixture.store.run, "device", "drain", "dev3", "--wait")
    assert not list(store_fixture.store.directory.glob("h2/dev3/0/**/*.fid"))
