"""Backup and restore, from each engine into another: the same rows, only changes are written, damage is refused."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tawara.cli.backup import backup, restore
from tawara.cli.database import Database
from tawara.cli.drill import drill
from tawara.metadata import cluster, files, queues
from tawara.metadata.backup import MARGIN
from tawara.metadata.open import open_metadata
from tawara.model.errors import ChecksumMismatch, ConfigurationError, InUse, NoneMatch, UsageError
from tawara.model.files import NewFile
from tests.acceptance.recovery_fixture import all_rows, store
from tests.contract.servers import Server


async def said(capsys: pytest.CaptureFixture[str], command: Callable[..., int], *arguments: Any, **options: Any) -> Any:
    """The JSON output of a command."""
    capsys.readouterr()
    await asyncio.to_thread(command, *arguments, json=True, **options)
    return json.loads(capsys.readouterr().out)


def database(engine: str, name: str, directory: Path, servers: Callable[[str], Server], stack: ExitStack) -> str:
    """The URL of an empty database."""
    if engine == "sqlite":
        return f"sqlite://{directory}/{name}.db"
    name = f"{name}_{os.getpid()}"
    stack.callback(servers(engine).drop, name)
    return servers(engine).create(name)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("engine", "into"), [("sqlite", "postgresql"), ("postgresql", "mysql"), ("mysql", "sqlite")])
async def test_backup_and_restore(
    engine: str,
    into: str,
    tmp_path: Path,
    database_servers: Callable[[str], Server],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every row is restored, from any of the backups; a second backup writes little; fids continue far beyond."""
    vault = tmp_path / "vault"
    with ExitStack() as stack:
        one, two = (
            database(each, name, tmp_path, database_servers, stack) for each, name in ((engine, "out"), (into, "back"))
        )
        async with store(one, tmp_path) as store_:
            await asyncio.gather(*(store_.hand(iter(range(first, 150, 3))) for first in range(1, 4)))
            first = await said(capsys, backup, vault, database=Database(url=one))
            before = await store_.live()
            assert first["rows"]["file"] == len(before["file"])
            again = await said(capsys, backup, vault, database=Database(url=one))
            assert again["written"] < first["written"] / 2  # the devices' usage is new all the time
            await store_.hand(iter(range(200, 260)))
            await said(capsys, backup, vault, database=Database(url=one), keep=2)
            live, waiting = await store_.live(), await store_.metadata.read(queues.next_replication)
        with pytest.raises(NoneMatch):
            await asyncio.to_thread(restore, vault, two, number=1)
        assert (await said(capsys, restore, vault, two, dry_run=True))["number"] == 3
        await said(capsys, restore, vault, two)
        fresh = await open_metadata(two)
        try:
            assert await fresh.read(all_rows) == live
            assert await fresh.read(queues.next_replication) == waiting
            fid = await fresh.write(files.open_upload, dmid=1, key=b"next", classid=0, devids=(1,), now=1)
            assert fid > max(row[0] for row in live["file"]) + MARGIN
        finally:
            await fresh.close()
        with pytest.raises(InUse):
            await asyncio.to_thread(restore, vault, two)
        other = database("sqlite", "older", tmp_path, database_servers, stack)
        await said(capsys, restore, vault, other, number=2)
        older = await open_metadata(other)
        try:
            assert await older.read(all_rows) == before
        finally:
            await older.close()


async def test_damage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged chunk or list is detected before anything is restored."""
    vault, url, new = tmp_path / "vault", f"sqlite://{tmp_path}/one.db", f"sqlite://{tmp_path}/new.db"
    async with store(url, tmp_path) as store_:
        await store_.hand(iter(range(1, 30)))
        await said(capsys, backup, vault, database=Database(url=url))
    chunk = max(vault.glob("chunks/*/*.gz"), key=lambda path: path.stat().st_size)
    good = chunk.read_bytes()
    for bad in (good[:-1], good[:30] + b"x" + good[31:], b""):
        chunk.write_bytes(bad)
        with pytest.raises(ChecksumMismatch):
            await asyncio.to_thread(restore, vault, new)
    chunk.unlink()
    with pytest.raises(ChecksumMismatch):
        await asyncio.to_thread(restore, vault, new)
    chunk.write_bytes(good)
    await asyncio.to_thread(restore, vault, new)
    (listing,) = vault.glob("backup-*.json")
    listing.write_bytes(listing.read_bytes().replace(b'"number":1', b'"number":7'))
    with pytest.raises(ChecksumMismatch):
        await asyncio.to_thread(restore, vault, f"sqlite://{tmp_path}/other.db")


async def filled(url: str, count: int) -> None:
    """Create a database with so many files at `url`."""
    metadata = await open_metadata(url)
    try:
        dmid = await metadata.write(cluster.create_domain, "d")
        for number in range(count):
            key = b"%d" % number
            fid = await metadata.write(files.open_upload, dmid=dmid, key=key, classid=0, devids=(1,), now=1)
            await metadata.write(
                files.close_upload, NewFile(fid=fid, dmid=dmid, key=key, classid=0, length=1, devids=(1,)), now=1
            )
    finally:
        await metadata.close()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
async def test_a_missing_database(
    engine: str,
    tmp_path: Path,
    database_servers: Callable[[str], Server],
) -> None:
    """Backup and drill of a database that does not exist, or is empty, fail; they create neither tables nor a
    backup."""
    with ExitStack() as stack:
        url = database(engine, "none", tmp_path, database_servers, stack)
        for _ in range(2):  # the first has made nothing that the second takes
            with pytest.raises(ConfigurationError):
                await asyncio.to_thread(backup, tmp_path / "vault", database=Database(url=url))
            with pytest.raises(ConfigurationError):
                await asyncio.to_thread(drill, database=Database(url=url))
        assert not (tmp_path / "vault").exists()
        assert not list(tmp_path.glob("*.db"))


async def test_a_backup_with_far_fewer_files_needs_confirmation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup with less than half of the previous files needs --yes, and even then the last one with files is kept."""
    vault, full, empty = tmp_path / "vault", f"sqlite:{tmp_path}/full.db", f"sqlite:{tmp_path}/empty.db"
    await filled(full, 5)
    await filled(empty, 0)
    await said(capsys, backup, vault, database=Database(url=full), keep=1)
    before = sorted(vault.rglob("*"))
    with pytest.raises(UsageError, match="has 0 files, and backup 1 had 5"):
        await asyncio.to_thread(backup, vault, database=Database(url=empty), keep=1)
    assert sorted(vault.rglob("*.*")) == [path for path in before if path.suffix]
    for number in (2, 3):
        report = await said(capsys, backup, vault, database=Database(url=empty), keep=1, yes=True)
        assert (report["number"], report["removed"]) == (number, [2] if number == 3 else [])
    await said(capsys, restore, vault, f"sqlite:{tmp_path}/back.db", number=1)
    await said(capsys, backup, vault, database=Database(url=full), keep=1)
    assert [path.name for path in vault.glob("backup-*")] == ["backup-000004.json"]


async def test_a_drill_without_files_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A drill that compared no file does not report success; without a device it fails."""
    await filled(f"sqlite:{tmp_path}/no_devices.db", 3)
    code = await asyncio.to_thread(drill, database=Database(url=f"sqlite:{tmp_path}/no_devices.db"))
    assert (code, capsys.readouterr().out) == (1, "0 files on 0 devices: nothing was compared.\n")
