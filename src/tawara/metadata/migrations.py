"""Takes a database from one version of our own tables to another; version 0 is a MogileFS that knows nothing of us.

The steps are the frozen texts in `history/`. The version is in `server_settings.tawara_schema_version`. `migrate` is a
change like any other (`metadata.write(migrations.migrate, to=1)`); the database is opened with
`open_metadata(url, any_version=True)` for it.
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
    """The version of our tables in this database; 0 if it has none."""
    row = await tx.row("SELECT value FROM server_settings WHERE field = ?", VERSION_FIELD)
    return int(row[0]) if row and row[0] else 0


def route(now: int, to: int) -> list[tuple[MigrationStep, bool]]:
    """The steps between two versions, each with whether it is taken forwards. Raises ConfigurationError."""
    newest = schema_version.TAWARA
    for each in (now, to):
        if not 0 <= each <= newest:
            raise ConfigurationError(f"There is no version {each} of Tawara's tables; this program knows 0 to {newest}")
    if to >= now:
        return [(step, True) for step in steps() if now < step.to <= to]
    return [(step, False) for step in reversed(steps()) if to < step.to <= now]


_COLUMN: Final = re.compile(r"ALTER TABLE (\w+) (ADD|DROP) COLUMN (\w+)\b.*", re.DOTALL)


async def _is_done(tx: Transaction, statement: str) -> bool:
    """Whether a column that the statement adds or drops is there, or gone, already: not every engine can be told so."""
    match = _COLUMN.fullmatch(statement)
    if match is None:
        return False
    return (f"{match[1]}.{match[3]}" in await catalogue.columns(tx)) == (match[2] == "ADD")


async def _execute(tx: Transaction, statements: Sequence[str]) -> list[str]:
    """Execute the statements that are not done already; those that were executed."""
    done: list[str] = []
    for statement in statements:
        if not await _is_done(tx, statement):
            await tx.run(statement)
            done.append(" ".join(statement.split()))
    return done


async def migrate(tx: Transaction, *, to: int) -> list[str]:
    """Bring our tables to version `to`; the statements that were executed.

    Raises ConfigurationError for a version that is not known, InUse when going back would lose what must not be lost.
    """
    done: list[str] = []
    for step, forwards in route(await version(tx), to):
        name = tx.dialect.name
        if not forwards:
            await _execute(tx, step.forwards(name))  # where DDL commits by itself, one cut off before has undone some
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
