"""A database that was restored to an earlier state: nothing is written until the journals are merged."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tawara.client import AsyncClient
from tawara.metadata import journals
from tawara.metadata.open import open_metadata
from tawara.model.errors import StaleDatabase, UnknownKey
from tests.acceptance.daemons import DOMAIN, SeparateDaemons, separate_daemons
from tests.contract.servers import PASSWORD, PostgresServer

T = TypeVar("T")
COMMAND = "tawara rebuild --merge"
ON_THE_DATABASE = ("gateway", "workers", "tracker")


@pytest.fixture
def servers() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A PostgreSQL and its asynchronous standby."""
    primary = PostgresServer()
    try:
        primary.create("store")
        standby = primary.standby()
        try:
            yield primary, standby
        finally:
            standby.remove()
    finally:
        primary.remove()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def use(store: SeparateDaemons, database: str) -> None:
    """Let daemons that are started from now on use this database."""
    file = store.directory / "tawara.toml"
    file.write_text(file.read_text().replace(json.dumps(store.database), json.dumps(database)))
    store.database = database


def start(store: SeparateDaemons) -> None:
    for name in reversed(ON_THE_DATABASE):
        store.daemons[name].start()


def stop(store: SeparateDaemons) -> None:
    for name in ON_THE_DATABASE:
        store.daemons[name].stop()


def wait_for_names(store: SeparateDaemons) -> None:
    """Wait until the journals have everything that the database has."""

    async def written() -> bool:
        metadata = await open_metadata(store.database)
        try:
            due = await metadata.read(journals.read_due)
            return not due.noted and all(each.position is None for each in due.journals.values())
        finally:
            await metadata.close()

    until(lambda: asyncio.run(written()))


async def with_client(store: SeparateDaemons, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    async with AsyncClient(store.tracker) as client:
        return await work(client)


def do(store: SeparateDaemons, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Call the store's tracker as a client."""
    return asyncio.run(with_client(store, work))


async def put(client: AsyncClient, *keys: str) -> int:
    """Store files under these keys. Returns the fid of the last."""
    fid = 0
    for key in keys:
        fid = (await client.put(DOMAIN, key, content_of(key))).fid
    return fid


def content_of(key: str) -> bytes:
    return f"content of {key}".encode()


async def get(client: AsyncClient, *keys: str) -> list[bytes | None]:
    """The contents of these keys; None for keys that do not exist."""
    found: list[bytes | None] = []
    for key in keys:
        try:
            found.append(await client.get(DOMAIN, key))
        except UnknownKey:
            found.append(None)
    return found


def on_disks(store: SeparateDaemons) -> dict[str, bytes]:
    """All files and journals on the devices."""
    found = (each for each in store.directory.glob("h*/dev*/**/*") if each.is_file())
    return {str(each): each.read_bytes() for each in found if each.suffix == ".fid" or "names" in each.parts}


def before(store: SeparateDaemons) -> None:
    """Create the earlier state."""
    do(store, lambda client: put(client, "same", "kept", "old", "doomed"))
    wait_for_names(store)


LOST = ("lost0", "lost1", "lost2", "lost3", "last")


def after(store: SeparateDaemons) -> int:
    """Make the changes that will be lost. Returns the last fid."""

    async def change(client: AsyncClient) -> int:
        await client.put(DOMAIN, "kept", b"replaced")
        await client.delete(DOMAIN, "doomed")
        await client.rename(DOMAIN, "old", "renamed")
        return await put(client, *LOST)

    last = do(store, change)
    wait_for_names(store)
    return last


def is_stopped(store: SeparateDaemons) -> None:
    """Nothing is written, every daemon reports why and what to do, and files can be read."""
    assert store.ask(f"create_open domain={DOMAIN}&key=x".encode()).startswith(b"ERR stale_database ")
    done = store._call("put", "-", f"{DOMAIN}/x", input="x")
    assert done.returncode != 0
    assert COMMAND in done.stderr
    upload = urllib.request.Request(f"http://{store.gateway}/{DOMAIN}/x", b"x", method="PUT")
    upload.add_header("Authorization", "Bearer a key for the tests only")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(upload, timeout=20)
    assert refused.value.code == 503
    refused.value.close()
    assert COMMAND in store.run("status", ends_with=(1,))
    assert not store.succeeds("fsck", "start")
    assert COMMAND in store.run("fsck", "status", ends_with=(1,))
    assert do(store, lambda client: get(client, "same")) == [b"content of same"]
    until(lambda: "database_stale" in store.daemons["workers"].log.read_text())


def is_whole(store: SeparateDaemons, last: int) -> None:
    """Every lost file exists again, and the store accepts writes."""

    async def store_more(client: AsyncClient) -> int:
        while True:  # the tracker looks every few seconds whether it may write
            try:
                return await put(client, "new")
            except StaleDatabase:
                await asyncio.sleep(0.2)

    assert do(store, store_more) > last + 1_000_000
    assert do(store, lambda client: get(client, *LOST, "new")) == [content_of(key) for key in (*LOST, "new")]
    there = [b"content of old", b"replaced", None, None]
    assert do(store, lambda client: get(client, "renamed", "kept", "old", "doomed")) == there
    store.run("fsck", "start", "--wait")
    until(lambda: store.succeeds("status"))


@pytest.mark.timeout(240)
def test_an_old_copy_of_the_database_is_put_back(tmp_path: Path) -> None:
    """SQLite: nothing on a disk changes until the lost files are merged from the journals; then all exist."""
    database = tmp_path / "db" / "tawara.db"
    database.parent.mkdir()
    with separate_daemons(tmp_path, f"sqlite://{database}", processes=1) as store:
        store.start()
        before(store)
        stop(store)
        with copied(database.parent) as old:
            start(store)
            last = after(store)
            stop(store)
            disks = on_disks(store)
            shutil.rmtree(database.parent)
            old.rename(database.parent)
        start(store)
        is_stopped(store)
        store.run("rebuild", store.database, "--merge", "--dry-run")
        assert on_disks(store) == disks
        store.run("rebuild", store.database, "--merge")
        is_whole(store, last)


@contextmanager
def copied(directory: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(directory, directory.with_name(f"{directory.name} copied")))


@pytest.mark.timeout(240)
def test_two_databases_of_one_store(tmp_path: Path) -> None:
    """Of two copies of a database the newer one is used, and a tracker on the other refuses to write."""
    database, other = tmp_path / "tawara.db", tmp_path / "other.db"
    with separate_daemons(tmp_path, f"sqlite://{database}", processes=1) as store:
        store.start()
        do(store, lambda client: put(client, "kept"))
        wait_for_names(store)
        stop(store)
        with sqlite3.connect(database) as source, sqlite3.connect(other) as target:
            source.backup(target)
        source.close()
        target.close()
        start(store)
        do(store, lambda client: put(client, "later"))
        wait_for_names(store)
        disks = on_disks(store)
        tracker = store.add_tracker()
        tracker.arguments.append(f"--set=store.database=sqlite://{other}")
        tracker.start()
        first, store.tracker = store.tracker, store.second_tracker
        for number in range(3):
            assert store.ask(f"create_open domain={DOMAIN}&key={number}".encode()).startswith(b"ERR stale_database ")
        assert COMMAND in store.run("status", ends_with=(1,))
        store.tracker = first
        assert on_disks(store) == disks
        do(store, lambda client: put(client, "last"))
        assert do(store, lambda client: get(client, "last")) == [content_of("last")]
        until(lambda: store.succeeds("status"))


@pytest.mark.timeout(300)
def test_a_standby_that_lags(
    tmp_path: Path, servers: tuple[PostgresServer, PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL: an asynchronous standby is promoted, its store stops, and has every file after a merge. When the old
    primary returns, it is not used for writing."""
    primary, standby = servers
    monkeypatch.setenv("TAWARA_DB_PASSWORD", PASSWORD)
    with separate_daemons(tmp_path, primary.url("store"), processes=1) as store:
        store.start()
        before(store)
        standby.catch_up_with(primary)
        standby.stop()
        last = after(store)
        primary.kill()
        for name in ON_THE_DATABASE:
            store.daemons[name].end()
        disks = on_disks(store)
        standby.start()
        standby.promote()
        use(store, standby.url("store"))
        start(store)
        is_stopped(store)
        assert on_disks(store) == disks
        store.run("rebuild", store.database, "--merge")
        is_whole(store, last)
        wait_for_names(store)
        primary.start()
        tracker = store.add_tracker()
        tracker.arguments.append(f"--set=store.database={primary.url('store')}")
        tracker.start()
        store.tracker = store.second_tracker
        assert store.ask(f"create_open domain={DOMAIN}&key=x".encode()).startswith(b"ERR stale_database ")
