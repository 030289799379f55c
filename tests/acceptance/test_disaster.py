"""The whole store is killed under load and its database is lost: it is rebuilt from the storage nodes alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tawara.client import AsyncClient
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import Exit, TawaraError, UnknownKey
from tests.acceptance.daemons import DOMAIN, SeparateDaemons, separate_daemons
from tests.contract.servers import Server

WRITTEN = 10.0
"""Seconds after which a change is in the journals (docs/recovery.md)."""
LOAD = 25.0
CLIENTS = 4
WANTED = 5
"""Minimum numbers of keys that certainly exist, and certainly do not."""
NODES = ("node1", "node2")
OTHERS = ("tracker", "workers", "gateway")


@dataclass
class Change:
    """The state that a client requested for a key: these bytes, or none."""

    content: bytes | None
    acknowledged: float | None = None


@dataclass
class Histories:
    """The changes of each key; each key belongs to one client."""

    of: defaultdict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))

    async def live(self, name: int, store: SeparateDaemons, ended: asyncio.Event) -> None:
        """Put, replace, rename and delete until the store stops answering."""
        rng, mine = random.Random(name), 0
        async with AsyncClient(store.tracker, connect_timeout=1, reply_timeout=5, stall_timeout=5) as client:
            while not ended.is_set():
                mine += rng.random() < 0.4
                key = f"{name}/{rng.randrange(mine + 1)}"
                with suppress(TawaraError):
                    await self.do_something(client, key, f"{key}/{rng.randrange(10**9)}", rng)
                await asyncio.sleep(0.03)

    async def do_something(self, client: AsyncClient, key: str, new_key: str, rng: random.Random) -> None:
        """Make one change, recorded before and after."""
        what, there = rng.random(), self.of[key][-1:]
        if there and there[0].acknowledged is None:
            return  # its current and its later state are unknown
        content = there[0].content if there else None
        if content is None or what < 0.5:
            change = self._begin(key, rng.randbytes(rng.choice((20, 1000, 100_000))))
            await client.put(DOMAIN, key, change.content or b"", storage_class=rng.choice(("default", "md5")))
            self._end(change)
        elif what < 0.75:
            change = self._begin(key, None)
            await client.delete(DOMAIN, key)
            self._end(change)
        else:
            changes = self._begin(key, None), self._begin(new_key, content)
            await client.rename(DOMAIN, key, new_key)
            self._end(*changes)

    def _begin(self, key: str, content: bytes | None) -> Change:
        self.of[key].append(Change(content))
        return self.of[key][-1]

    def _end(self, *changes: Change) -> None:
        for change in changes:
            change.acknowledged = time.monotonic()

    def allowed(self, key: str, lost: float) -> tuple[set[bytes | None], bool]:
        """The possible states of a key after a loss of the database at this time, and whether the state is certain: it
        was acknowledged long enough before, and neither changed nor about to be changed after that."""
        changes = [Change(None, 0.0), *self.of[key]]
        last = max(
            place
            for place, each in enumerate(changes)
            if each.acknowledged is not None and each.acknowledged < lost - WRITTEN
        )
        certain = last == len(changes) - 1
        return {each.content for each in changes[last:]} | (set() if certain else {None}), certain

    def certain(self, lost: float) -> tuple[list[str], list[str]]:
        """The keys that certainly exist, and those that certainly do not."""
        there: list[str] = []
        not_there: list[str] = []
        for key in self.of:
            allowed, sure = self.allowed(key, lost)
            if sure:
                (not_there if allowed == {None} else there).append(key)
        return there, not_there


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_all_is_killed_and_the_database_is_lost(
    tmp_path: Path, engine: str, database_servers: Callable[[str], Server]
) -> None:
    """Files acknowledged 10 s before exist, byte for byte; files deleted or renamed by then stay so."""
    url = f"sqlite://{tmp_path}/tawara.db" if engine == "sqlite" else database_servers(engine).create("disaster")
    try:
        with separate_daemons(tmp_path, url) as store:
            await asyncio.to_thread(store.start)
            store.run("class", "add", DOMAIN, "md5", "--copies=2", "--hash=MD5")
            histories, lost = await load_and_kill(store)
            if engine == "sqlite":
                for path in tmp_path.glob("tawara.db*"):
                    path.unlink()
            else:
                database_servers(engine).drop("disaster")
                database_servers(engine).create("disaster")
            for name in NODES:
                await asyncio.to_thread(store.daemons[name].start)
            rebuilt = store.run(
                "rebuild", url, f"http://{store.node(2)}/dev4", "--json", ends_with=(Exit.OK, Exit.FAILURE)
            )
            report = json.loads(rebuilt)
            assert not {name: report[name] for name in ("damaged", "silent", "incomplete", "made_up") if report[name]}
            for name in OTHERS:
                await asyncio.to_thread(store.daemons[name].start)
            await compare(store, histories, lost)
            store.run("fsck", "start", "--wait", "--every-byte")
            await compare(store, histories, lost)
    finally:
        if engine != "sqlite":
            database_servers(engine).drop("disaster")


async def load_and_kill(store: SeparateDaemons) -> tuple[Histories, float]:
    """Load the store and kill all of it. Returns the changes and the time."""
    histories, ended = Histories(), asyncio.Event()
    clients = [asyncio.create_task(histories.live(name, store, ended)) for name in range(CLIENTS)]
    await asyncio.sleep(LOAD)
    async with asyncio.timeout(LOAD * 3):  # a busy machine needs longer for as much
        while min(map(len, histories.certain(lost := time.monotonic()))) < WANTED:
            await asyncio.sleep(0.5)
    for name in (*OTHERS, *NODES):
        await asyncio.to_thread(store.daemons[name].end)
    ended.set()
    await asyncio.gather(*clients)
    return histories, lost


async def read(client: AsyncClient, key: str) -> bytes | None:
    """The content of a key, with its checksum in the class that has one; None if the key does not exist."""
    try:
        async with client.open(DOMAIN, key, verify=True) as reading:
            content = b"".join([chunk async for chunk in reading])
    except UnknownKey:
        return None
    if reading.info.storage_class == "md5":
        assert reading.info.checksum == Checksum(HashType.MD5, hashlib.md5(content).digest())
    return content


async def compare(store: SeparateDaemons, histories: Histories, lost: float) -> None:
    """Every key has a possible state, and no other keys exist."""
    async with AsyncClient(store.tracker) as client:
        for key in list(histories.of):
            found = await read(client, key)
            assert found in histories.allowed(key, lost)[0], (key, histories.of[key], lost, found and found[:20])
        assert {key async for key in client.list_keys(DOMAIN)} <= histories.of.keys()
