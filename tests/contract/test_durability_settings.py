"""The settings on which a commit's durability depends are in force on every engine."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from tawara.metadata.contract import Transaction
from tawara.metadata.open import open_metadata
from tests.contract.servers import Server
from tests.mogilefsd import databases

SETTINGS: dict[str, dict[str, object]] = {
    "sqlite": {"PRAGMA synchronous": 2, "PRAGMA journal_mode": "wal"},
    "postgresql": {"SHOW synchronous_commit": "on"},
    "mysql": {"SELECT @@innodb_flush_log_at_trx_commit": 1},
}
"""By engine: what the connection that commits must answer. 2 is SQLite's FULL."""


async def _ask(tx: Transaction, statement: str) -> object:
    row = await tx.row(statement)
    assert row is not None
    return row[0]


async def test_commits_are_made_with_durable_settings(
    blank_url: str, engine: str, servers: Callable[[str], Server]
) -> None:
    """The connection that commits has the durable settings, also if the database's default is different."""
    if engine == "postgresql":
        database = databases.database_of(blank_url)
        servers(engine).execute(database, [f"ALTER DATABASE {database} SET synchronous_commit = off"])
    metadata = await open_metadata(blank_url)
    try:
        for statement, value in SETTINGS[engine].items():
            assert await metadata.write(_ask, statement) == value
    finally:
        await metadata.close()


async def test_a_mysql_server_that_does_not_flush_at_commit_is_reported(
    blank_url: str, engine: str, servers: Callable[[str], Server]
) -> None:
    """MySQL's setting is global: a value that loses commits is logged when the database is opened."""
    if engine != "mysql":
        return
    database = databases.database_of(blank_url)
    servers(engine).execute(database, ["SET GLOBAL innodb_flush_log_at_trx_commit = 2"])
    try:
        with structlog.testing.capture_logs() as logs:
            await (await open_metadata(blank_url)).close()
    finally:
        servers(engine).execute(database, ["SET GLOBAL innodb_flush_log_at_trx_commit = 1"])
    reported = [(each["setting"], each["value"]) for each in logs if each["event"] == "database_not_durable"]
    assert reported == [("innodb_flush_log_at_trx_commit", 2)]
