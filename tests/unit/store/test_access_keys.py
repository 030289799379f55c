"""Looking up access keys: how long a row is used, what an unknown id costs, and what cannot be opened."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tawara.metadata import access_keys as rows
from tawara.metadata.contract import Metadata
from tawara.model.access.creation import new_key
from tawara.model.access.keys import AccessKey
from tawara.model.errors import SecretUnreadable
from tawara.store import access_keys, key_file
from tawara.store.access_keys import FRESH, AccessKeys
from tawara.store.key_file import KeyFile
from tawara.wire import installation_key
from tawara.wire.installation_key import NONCE, seal

ID, OTHER = "TW" + "A" * 18, "TW" + "B" * 18


class Rows:
    """A database with one table, that counts reads."""

    def __init__(self) -> None:
        self.keys: dict[str, AccessKey] = {}
        self.reads, self.time = 0, 5000.0
        self.used: list[tuple[str, int]] = []
        self.clock = SimpleNamespace(now=self._now, guess=lambda: self.time)

    async def _now(self) -> float:
        return self.time

    async def read(self, query: Any, *args: Any) -> Any:
        self.reads += 1
        return self.keys.get(args[0]) if query is rows.find else list(self.keys.values())

    async def write(self, query: Any, *args: Any) -> None:
        assert query is rows.record_use
        self.used.append((args[0], args[1]))


class Process:
    """A server process, and the clock of its machine."""

    def __init__(self, path: Path) -> None:
        self.rows, self.file, self.steady = Rows(), KeyFile(path), 50.0
        self.access_keys = AccessKeys(cast(Metadata, self.rows), self.file, steady=lambda: self.steady)

    def add(self, key_id: str = ID, secret: str = "the secret", **options: Any) -> None:
        sealed = seal(self.file.load()[0], secret, owner=key_id, nonce=secrets.token_bytes(NONCE))
        self.rows.keys[key_id] = new_key("app", key_id=key_id, account_id="a", sealed=sealed, now=5000, **options)

    def change(self, **fields: Any) -> None:
        self.rows.keys[ID] = replace(self.rows.keys[ID], **fields)

    def wait(self, seconds: float) -> None:
        self.steady += seconds
        self.rows.time += seconds


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    key_file.write(tmp_path / "keys.key", [key_file.new_key()])
    made = Process(tmp_path / "keys.key")
    yield made
    await made.access_keys.close()


async def test_a_row_is_used_for_less_than_a_second(process: Process) -> None:
    """Requests within the time cost one read; a revocation is seen by the first request after it."""
    process.add()
    for _ in range(3):
        assert await process.access_keys.secret(ID) == "the secret"
    assert process.rows.reads == 1
    process.change(revoked_at=5000)
    assert process.access_keys.cached(ID) is not None
    process.wait(FRESH)
    assert FRESH < 1
    assert process.access_keys.cached(ID) is None
    assert await process.access_keys.secret(ID) is None
    assert process.rows.reads == 2


async def test_a_key_expires_on_time(process: Process) -> None:
    """A key that expires within that time is used until then only."""
    process.add(expires="10")
    process.wait(9.9)
    assert await process.access_keys.secret(ID) == "the secret"
    process.wait(0.1)
    assert await process.access_keys.secret(ID) is None


async def test_an_unknown_id_costs_the_same(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown, a revoked and a valid id cost one read and one decryption each, and are cached alike."""
    opened = 0

    def count(*args: Any, **options: Any) -> str:
        nonlocal opened
        opened += 1
        return installation_key.open_sealed(*args, **options)

    monkeypatch.setattr(access_keys, "open_sealed", count)
    process.add()
    process.add(OTHER)
    process.rows.keys[OTHER] = replace(process.rows.keys[OTHER], revoked_at=1)
    for number, key_id in enumerate((ID, OTHER, "TW" + "C" * 18), 1):
        for _ in range(2):
            found = await process.access_keys.look_up(key_id)
            assert len(found.secret) >= 10
        assert (process.rows.reads, opened) == (number, number)
    assert (await process.access_keys.look_up(OTHER)).key is None


async def test_a_malformed_id_is_not_looked_up(process: Process) -> None:
    """An id of another form is unknown without a read, and is not cached."""
    for text in ("", "x" * 10_000, ID.lower(), "'; DROP TABLE"):
        assert (await process.access_keys.look_up(text)).key is None
        assert process.access_keys.cached(text) is None
    assert process.rows.reads == 0


async def test_the_cache_is_bounded(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of unknown ids does not fill the memory."""
    monkeypatch.setattr(access_keys, "_CACHED", 3)
    ids = [f"TW{letter * 18}" for letter in "ABCDEFGH"]
    for each in ids:
        await process.access_keys.look_up(each)
    assert [each for each in ids if process.access_keys.cached(each)] == ids[-3:]


async def test_another_key_file(process: Process) -> None:
    """A secret that this process cannot open is an error of the server, until it gets the right file."""
    process.add()
    right = process.file.path.read_bytes()
    key_file.write(process.file.path, [key_file.new_key()])
    process.file.load()
    with pytest.raises(SecretUnreadable):
        await process.access_keys.look_up(ID)
    process.file.path.write_bytes(right)
    process.file.load()
    assert await process.access_keys.secret(ID) == "the secret"


async def test_without_a_key_file(tmp_path: Path) -> None:
    """A process without key file knows no keys, and says so only for those that exist."""
    process = Process(tmp_path / "none.key")
    assert await process.access_keys.secret(OTHER) is None
    await process.access_keys.check()
    key_file.write(process.file.path, [key_file.new_key()])
    process.add()
    process.file.path.unlink()
    fresh = AccessKeys(cast(Metadata, process.rows), KeyFile(process.file.path))
    await fresh.check()
    with pytest.raises(SecretUnreadable):
        await fresh.look_up(ID)


async def test_the_day_of_use_is_recorded_once(process: Process) -> None:
    """Any number of requests of a day cost one write."""
    import asyncio

    process.add()
    for _ in range(2):
        for _ in range(3):
            found = await process.access_keys.look_up(ID)
            assert found.key is not None
            process.access_keys.record_use(found.key)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        process.wait(86_400)
    assert process.rows.used == [(ID, 0), (ID, 1)]
