"""Checks whether a server's database is suitable for this program, and creates the tables in an empty one.

Any number of daemons may do so at the same time, also on different servers of one cluster, where locks do not exclude
the others: every statement keeps what exists already, and nothing is ever dropped. An interrupted daemon leaves the
setting `tawara_founding`; the next one continues.
"""

from __future__ import annotations

from tawara.metadata import catalogue, schema_version
from tawara.metadata.server import Link
from tawara.model.errors import ConfigurationError

_CREATING = "tawara_founding"
"""Setting that exists while the tables are being created, if that takes more than one transaction."""


async def ensure(link: Link, *, any_version: bool) -> None:
    """Check the schema of a database, and create it in an empty one. Safe to repeat after any failure.

    Raises ConfigurationError if the database is unsuitable, and TransactionConflict.
    """
    tables = await catalogue.tables(link)
    settings: dict[str, str] = {}
    if "server_settings" in tables:
        settings = dict(await link.rows("SELECT field, value FROM server_settings"))
    elif "file" in tables:
        raise ConfigurationError(
            "The database has a table `file` and no `server_settings`: it belongs to something else",
            hint="Make an empty database for Tawara.",
        )
    if not settings or _CREATING in settings:
        if any_version:
            raise ConfigurationError("The database has no tables of MogileFS or Tawara", hint="Is it the right one?")
        if not settings and "file" in tables and await link.row("SELECT 1 FROM file LIMIT 1") is not None:
            raise ConfigurationError(
                "The database has files, and no schema version in its table server_settings",
                hint="Restore that table from a backup; nothing was changed.",
            )
        _refuse_other_version(settings.get(_CREATING))
        await _create_tables(link)
        settings = dict(await link.rows("SELECT field, value FROM server_settings"))
    version = settings.get("schema_version")
    if version != "17":
        raise ConfigurationError(
            f"The database has schema version {version or 'unknown'}; this tracker needs 17",
            hint="A MogileFS of before 2.73 brings it up to 17: mogdbsetup.",
        )
    if not any_version:
        check_own_version(settings.get("tawara_schema_version"))


def check_own_version(version: str | None) -> None:
    """Raise ConfigurationError if Tawara's tables are not of this program's version."""
    if version is None:
        raise ConfigurationError(
            "The database is one of MogileFS, and has none of the tables that Tawara adds",
            hint="`tawara adopt` says what it would add, and adds it on --yes.",
        )
    check_not_newer(version)
    needed = schema_version.TAWARA
    if int(version) < needed:
        raise ConfigurationError(
            f"The database has version {version} of Tawara's tables; this program needs {needed}",
            hint="Stop all daemons of the store, and run `tawara upgrade`; it says what it changes with --dry-run.",
        )


def check_not_newer(version: str) -> None:
    """Raise ConfigurationError if a newer Tawara has changed the database."""
    known = schema_version.TAWARA
    if not version.isdecimal() or int(version) > known:
        raise ConfigurationError(
            f"The database has version {version} of Tawara's tables, and this program knows them up to {known}",
            hint="A newer Tawara uses it. Install that version here, too.",
        )


def _refuse_other_version(begun: str | None) -> None:
    """Raise ConfigurationError if another version of Tawara has begun to create the tables, which may differ."""
    if begun not in (None, str(schema_version.TAWARA)):
        raise ConfigurationError(
            "Another version of Tawara was cut off while it made the tables of this database",
            hint="Start that version once more, or, as nothing is stored yet, drop and create the database.",
        )


async def _create_tables(link: Link) -> None:
    from tawara.metadata import schema

    name = link.dialect.name
    insert = link.dialect.insert_or_ignore("server_settings", ("field", "value"))
    await link.run(schema.statements(name, only=("server_settings",))[0])
    await link.run(insert, _CREATING, str(schema_version.TAWARA))
    for statement in schema.statements(name):
        await link.run(statement)
    await link.run_many(
        insert,
        [
            ("schema_version", str(schema_version.MOGILEFS)),
            ("tawara_schema_version", str(schema_version.TAWARA)),
            ("case_sensitive_list_keys", "1"),
        ],
    )
    await link.run("DELETE FROM server_settings WHERE field = ?", _CREATING)
