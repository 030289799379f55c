"""Migrates a database between versions of Tawara's own tables; version 0 is a MogileFS database without them.

The steps are the frozen texts in `history/`. The version is in `server_settings.tawara_schema_version`. `migrate` is a
change like any other (`metadata.write(migrations.migrate, to=1)`); the database must be opened with `open_metadata(url,
any_version=True)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from tawara.metadata import catalogue, schema_version
from tawara.metadata.contract import Transaction
from tawara.metadata.history import MigrationStep, steps
from tawara.model.errors import ConfigurationError, InUse

VERSION_FIELD = "tawara_schema_version"


async def version(tx: Transaction) -> int:
    """Return the version of Tawara's tables in this database; 0 if it has none."""
    row = await tx.row("SELECT value FROM server_settings WHERE field = ?", VERSION_FIELD)
    return int(row[0]) if row and row[0] else 0


def route(now: int, to: int) -> list[tuple[MigrationStep, bool]]:
    """Return the steps between two versions, each with whether it is taken forwards. Raises ConfigurationError."""
    newest = schema_version.TAWARA
    for each in (now, to):
        if not 0 <= each <= newest:
            raise ConfigurationError(f"There is no version {each} of Tawara's tables; this program knows 0 to {newest}")
    if to >= now:
        return [(step, True) for step in steps() if now < step.to <= to]
    return [(step, False) for step in reversed(steps()) if to < step.to <= now]


_COLUMN: Final = re.compile(r"ALTER TABLE (\w+) (ADD|DROP) COLUMN (\w+)\b.*", re.DOTALL)


async def _is_done(tx: Transaction, statement: str) -> bool:
    """Return whether a column that the statement adds or drops exists, or is gone, already.

    Not every engine has IF EXISTS for columns.
    """
    match = _COLUMN.fullmatch(statement)
    if match is None:
        return False
    return (f"{match[1]}.{match[3]}" in await catalogue.columns(tx)) == (match[2] == "ADD")


async def _execute(tx: Transaction, statements: Sequence[str]) -> list[str]:
    """Execute the statements that are not done already; return those executed."""
    done: list[str] = []
    for statement in statements:
        if not await _is_done(tx, statement):
            await tx.run(statement)
            done.append(" ".join(statement.split()))
    return done


async def migrate(tx: Transaction, *, to: int) -> list[str]:
    """Migrate Tawara's tables to version `to`; return the statements that were executed.

    Raises ConfigurationError for an unknown version, InUse if going back would lose data that must be kept.
    """
    done: list[str] = []
    for step, forwards in route(await version(tx), to):
        name = tx.dialect.name
        if not forwards:
            # Where DDL commits implicitly, an interrupted attempt may have undone a part.
            await _execute(tx, step.forwards(name))
            for table in step.empty_before_backwards:
                if await tx.row(f"SELECT 1 FROM {table} LIMIT 1") is not None:
                    raise InUse(f"{table} has rows; let the workers finish what they have begun, then try again")
        done += await _execute(tx, step.forwards(name) if forwards else step.backwards(name))
        now = step.to if forwards else step.to - 1
        if now:
            await tx.run(tx.dialect.upsert("server_settings", ("field",), ("value",)), VERSION_FIELD, str(now))
        else:
            await tx.run("DELETE FROM server_settings WHERE field = ?", VERSION_FIELD)
    return done
