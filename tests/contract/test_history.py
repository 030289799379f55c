"""All ways to the newest schema version give the same tables, as described by the engines themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tawara.cli.database import Database
from tawara.cli.upgrade import upgrade
from tawara.metadata import cluster, history, migrations, schema_version
from tawara.metadata.contract import Row, Transaction
from tawara.metadata.history import MigrationStep
from tawara.metadata.open import open_metadata
from tawara.model.errors import ConfigurationError, Exit
from tests.contract.empty_database import empty_database
from tests.contract.servers import Server
from tests.mogilefsd import databases

_DESCRIPTIONS = {
    "sqlite": (
        "SELECT m.name, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk, m.sql LIKE '%AUTOINCREMENT%'"
        " FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name LIKE 'tawara%'",
        "SELECT i.tbl_name, i.name, l.seqno, l.name FROM sqlite_master i, pragma_index_info(i.name) l"
        " WHERE i.type = 'index' AND i.tbl_name LIKE 'tawara%'",
    ),
    "postgresql": (
        "SELECT table_name::text, column_name::text, data_type::text, character_maximum_length::int,"
        " is_nullable::text, column_default::text FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name LIKE 'tawara%'",
        "SELECT tablename::text, indexname::text, indexdef FROM pg_indexes"
        " WHERE schemaname = current_schema() AND tablename LIKE 'tawara%'",
    ),
    "mysql": (
        "SELECT table_name, column_name, column_type, is_nullable, CAST(column_default AS CHAR), extra,"
        " character_set_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name LIKE 'tawara%'",
        "SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() AND table_name LIKE 'tawara%'",
        "SELECT table_name, engine, table_collation FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name LIKE 'tawara%'",
    ),
}


async def describe(tx: Transaction) -> list[Row]:
    """Columns, defaults and indexes of Tawara's tables."""
    rows: list[Row] = []
    for sql in _DESCRIPTIONS[tx.dialect.name]:
        rows += sorted(await tx.rows(sql), key=repr)
    return rows


async def description_of(url: str) -> list[Row]:
    metadata = await open_metadata(url, any_version=True)
    try:
        return await metadata.read(describe)
    finally:
        await metadata.close()


async def bring(url: str, *versions: int) -> None:
    metadata = await open_metadata(url, any_version=True)
    try:
        for version in versions:
            await metadata.write(migrations.migrate, to=version)
    finally:
        await metadata.close()


async def test_creating_equals_migrating(
    blank_url: str, engine: str, servers: Callable[[str], Server], tmp_path: Path
) -> None:
    """Created, migrated from MogileFS, and migrated from every earlier version: the tables are the same."""
    newest = schema_version.TAWARA
    await (await open_metadata(blank_url)).close()
    created = await description_of(blank_url)
    assert len({row[0] for row in created}) > 10
    with empty_database(engine, tmp_path, servers, "mogilefs") as old:
        databases.make(engine, old, None if engine == "sqlite" else servers(engine), [])
        assert await description_of(old) == []
        await bring(old, newest)
        assert await description_of(old) == created
    for version in range(newest):
        await bring(blank_url, version, newest)
        assert await description_of(blank_url) == created, version


async def test_a_column_can_be_added(blank_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that adds a column to an older table is taken once, from any version, and again after it was
    interrupted."""
    newest = schema_version.TAWARA + 1
    column = "ALTER TABLE tawara_file ADD COLUMN colour VARCHAR(8) DEFAULT 'red'"
    sections = {f"forwards: {each}": (column,) for each in _DESCRIPTIONS}
    step = MigrationStep(
        newest, "adds a column", sections | {"backwards": ("ALTER TABLE tawara_file DROP COLUMN colour",)}
    )
    steps = (*history.steps(), step)
    await (await open_metadata(blank_url)).close()
    monkeypatch.setattr(migrations, "steps", lambda: steps)
    monkeypatch.setattr(schema_version, "TAWARA", newest)
    for _ in range(2):
        await bring(blank_url, newest)
        assert "colour" in {row[1] for row in await description_of(blank_url)}
        metadata = await open_metadata(blank_url)
        # As where the server died between the statement and the version.
        await metadata.write(cluster.set_setting, migrations.VERSION_FIELD, str(newest - 1))
        await metadata.close()
        await bring(blank_url, newest, newest - 1)
        assert "colour" not in {row[1] for row in await description_of(blank_url)}
        await bring(blank_url, 0)


async def test_an_older_and_a_newer_database(blank_url: str) -> None:
    """A daemon on either refuses it with what to do, and changes nothing."""
    metadata = await open_metadata(blank_url)
    for version, hint in ((schema_version.TAWARA - 1, "tawara upgrade"), (schema_version.TAWARA + 1, "newer Tawara")):
        await metadata.write(cluster.set_setting, migrations.VERSION_FIELD, str(version))
        with pytest.raises(ConfigurationError, match=f"version {version}") as caught:
            await open_metadata(blank_url)
        assert hint in (caught.value.hint or "")
        assert await metadata.read(migrations.version) == version
    await metadata.close()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tawara upgrade` prints what it would do, does it, and has nothing to do afterwards; it refuses a newer
    database."""
    path = tmp_path / "tawara.db"
    database = Database(url=f"sqlite://{path}")
    with pytest.raises(ConfigurationError, match="no database"):
        upgrade(database=database)
    import asyncio

    async def make() -> None:
        await (await open_metadata(database.url)).close()
        await bring(database.url, 3)

    def version() -> int:
        with sqlite3.connect(path) as connection:
            sql = "SELECT value FROM server_settings WHERE field = 'tawara_schema_version'"
            found = int(connection.execute(sql).fetchone()[0])
        connection.close()
        return found

    asyncio.run(make())
    assert upgrade(dry_run=True, database=database) == Exit.OK
    assert "tawara_scrub_log" in capsys.readouterr().out
    assert version() == 3
    assert upgrade(database=database) == Exit.OK
    assert version() == schema_version.TAWARA
    assert upgrade(database=database) == Exit.OK
    assert "up to date" in capsys.readouterr().out
    connection = sqlite3.connect(path)
    connection.execute("UPDATE server_settings SET value = '999' WHERE field = 'tawara_schema_version'")
    connection.commit()
    connection.close()
    with pytest.raises(ConfigurationError, match="version 999"):
        upgrade(database=database)
