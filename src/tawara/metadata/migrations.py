"""Versions of our own tables, as steps forwards and backwards; version 0 is a MogileFS that knows nothing of us.

The version stands in `server_settings.tawara_schema_version`. `migrate` is a change like any other
(`metadata.write(migrations.migrate, to=1)`); the database is opened with `open_metadata(url, any_version=True)` for it.
Where DDL commits by itself (MariaDB, MySQL) every statement can be repeated, so that a step that was cut off is done by
taking it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tawara.metadata.contract import Transaction
from tawara.model.errors import ConfigurationError, InUse

VERSION_FIELD = "tawara_schema_version"
_OWN = ("tawara_copy", "tawara_file")
_NAMES = ("tawara_note", "tawara_journal")
_OVERSIGHT = ("tawara_census", "tawara_deleted", "tawara_pace", "tawara_reason")
_ABSENCES = ("tawara_absent", "tawara_device")


@dataclass(frozen=True, slots=True)
class Step:
    """From version `to - 1` to `to`, and back."""

    to: int
    summary: str
    """What it does, for the operator."""
    forwards: Callable[[str], Sequence[str]]
    """The statements, for the dialect of that name."""
    backwards: Callable[[str], Sequence[str]]
    empty_before_backwards: Sequence[str] = ()
    """Tables whose rows nothing else could mean: going back is refused while there are any."""


def _makes(*tables: str) -> Callable[[str], list[str]]:
    def make(dialect: str) -> list[str]:
        from tawara.metadata import schema

        return schema.statements(dialect, only=tables)

    return make


def _drops(*tables: str) -> Callable[[str], list[str]]:
    return lambda dialect: [f"DROP TABLE IF EXISTS {table}" for table in tables]


_OURS_IN_THE_QUEUE = "DELETE FROM file_to_queue WHERE type > 2"
"""Errands of which MogileFS knows nothing, and which are begun anew by themselves."""

STEPS = (
    Step(
        1,
        "adds the tables tawara_file (time and media type of each file) and tawara_copy (copies under way)",
        _makes(*_OWN),
        _drops(*_OWN),
        empty_before_backwards=("tawara_copy",),
    ),
    Step(
        2,
        "adds tawara_census, tawara_deleted, tawara_pace and tawara_reason, from which status and explain answer",
        _makes(*_OVERSIGHT),
        _drops(*_OVERSIGHT),
    ),
    Step(
        3,
        "adds tawara_absent (devices that nobody sees) and tawara_device (the identity of each device)",
        _makes(*_ABSENCES),
        _drops(*_ABSENCES),
    ),
    Step(
        4,
        "adds the table tawara_scrub_log, of what the continuous scrub finds",
        _makes("tawara_scrub_log"),
        lambda dialect: [*_drops("tawara_scrub_log")(dialect), _OURS_IN_THE_QUEUE],
    ),
    Step(
        5,
        "adds tawara_note and tawara_journal, from which the devices get the names of what they hold",
        _makes(*_NAMES),
        _drops(*_NAMES),
    ),
    Step(
        6,
        "adds the table tawara_mtime, by which `tawara put` knows a file that it has stored already",
        _makes("tawara_mtime"),
        _drops("tawara_mtime"),
    ),
)


async def version(tx: Transaction) -> int:
    """The version of our tables in this database; 0 if it has none."""
    row = await tx.row("SELECT value FROM server_settings WHERE field = ?", VERSION_FIELD)
    return int(row[0]) if row and row[0] else 0


def route(now: int, to: int) -> list[tuple[Step, bool]]:
    """The steps between two versions, each with whether it is taken forwards. Raises ConfigurationError."""
    newest = STEPS[-1].to
    for each in (now, to):
        if not 0 <= each <= newest:
            raise ConfigurationError(f"There is no version {each} of Tawara's tables; this program knows 0 to {newest}")
    if to >= now:
        return [(step, True) for step in STEPS if now < step.to <= to]
    return [(step, False) for step in reversed(STEPS) if to < step.to <= now]


async def migrate(tx: Transaction, *, to: int) -> list[str]:
    """Bring our tables to version `to`; the statements that were executed.

    Raises ConfigurationError for a version that is not known, InUse when going back would lose what must not be lost.
    """
    done: list[str] = []
    for step, forwards in route(await version(tx), to):
        name = tx.dialect.name
        if not forwards:
            for statement in step.forwards(name):
                await tx.run(statement)  # where DDL commits by itself, one cut off before has dropped some of them
            for table in step.empty_before_backwards:
                if await tx.row(f"SELECT 1 FROM {table} LIMIT 1") is not None:
                    raise InUse(f"{table} has rows; let the workers finish what they have begun, then try again")
        for statement in step.forwards(name) if forwards else step.backwards(name):
            await tx.run(statement)
            done.append(" ".join(statement.split()))
        now = step.to if forwards else step.to - 1
        if now:
            await tx.run(tx.dialect.upsert("server_settings", ("field",), ("value",)), VERSION_FIELD, str(now))
        else:
            await tx.run("DELETE FROM server_settings WHERE field = ?", VERSION_FIELD)
    return done
